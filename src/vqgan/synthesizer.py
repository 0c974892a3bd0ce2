"""The whole path from image to image: tokenizer, conditioner and prior."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.conditioning import ConditionerConfig, UnconditionalConfig, build_conditioner, parts_of
from vqgan.config import Config
from vqgan.errors import require
from vqgan.prior import Prior, PriorConfig, TokenOrder, check_token_order, sequence_places
from vqgan.sampling import (
    Beam,
    Guidance,
    SamplingSettings,
    check_grid,
    check_seed,
    fill_grids,
    refine_grids,
    score_grids,
    usable_window,
)
from vqgan.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    check_decoding,
    decode_rows,
    decode_within,
    encode_within,
    memory_budget,
)
from vqgan.types import (
    Condition,
    ConditionTokens,
    Images,
    Indices,
    Known,
    OnProgress,
    PerWindow,
    check_known,
    is_whole,
)


class SynthesizerConfig(Config, frozen=True):
    """What a synthesizer is: its three parts, and the grid on which the prior was trained.

    Attributes:
        tokenizer: The first stage.
        conditioner: What steers the prior.
        prior: The second stage; its sizes must agree with those of the other two.
        window: Rows and columns of the token grid that the prior sees at once.
        token_order: The order in which the prior reads the tokens of its window.
    """

    tokenizer: TokenizerConfig
    conditioner: ConditionerConfig
    prior: PriorConfig
    window: tuple[int, int]
    token_order: TokenOrder = "raster"

    def __post_init__(self) -> None:
        check_token_order(self.token_order)
        rows, columns = self.window
        require(rows >= 1 and columns >= 1, f"`window` is {rows} x {columns}, expected at least 1 x 1")
        codes = self.tokenizer.quantizer.num_codes
        require(
            self.prior.codebook_size == codes,
            f"`prior.codebook_size` is {self.prior.codebook_size}, expected the tokenizer's {codes}",
        )
        vocabulary, parts = self.conditioner.vocabulary_size, len(parts_of(self.conditioner))
        require(
            self.prior.condition_size == vocabulary or self.has_null_tokens,
            f"`prior.condition_size` is {self.prior.condition_size}, expected the conditioner's {vocabulary}, or "
            f"{vocabulary + parts} with null tokens",
        )
        fed = self.conditioner.num_tokens(self.window) + rows * columns - 1
        require(
            self.prior.span is None or self.token_order == "raster",
            f"`token_order` is `{self.token_order}`, but a prior of local `span` draws row after row",
            hint="use `raster`",
        )
        require(
            self.prior.context_length >= fed,
            f"`prior.context_length` is {self.prior.context_length}, "
            f"expected at least {fed} for the window {rows} x {columns} and its condition",
        )

    @property
    def has_null_tokens(self) -> bool:
        """Whether the prior has learned images without their condition, in whose place null tokens stand."""
        parts = len(parts_of(self.conditioner))
        return self.prior.condition_size == self.conditioner.vocabulary_size + parts


class Synthesizer(nn.Module):
    """Makes images: new ones, or the rest of given ones.

    Put it into evaluation mode first (``eval()``), for the tokenizer. Results lie on the model's device.
    Nothing here but ``log_probability`` keeps gradients.
    """

    def __init__(self, config: SynthesizerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.tokenizer)
        self.conditioner = build_conditioner(config.conditioner, self.tokenizer)
        lengths = self.conditioner.lengths
        require(
            config.prior.span is None or not any(isinstance(length, PerWindow) for length in lengths),
            "the condition is a layout, but a prior of local `span` has no window that it could tell of",
            hint="omit `prior.span`",
        )
        places = sequence_places(config.token_order, config.window, lengths)
        width = self.conditioner.vector_width
        self.prior = Prior(config.prior, places, lengths=lengths, vector_width=width)

    @torch.no_grad()
    def reconstruct(
        self, images: Images, *, memory: int | None = None, on_progress: OnProgress | None = None
    ) -> Images:
        """The images as the tokenizer's codes describe them.

        Args:
            images: Values in [-1, 1].
            memory: Bytes beside the weights; images that do not fit pass in bands of rows, with the same result but for
                rounding. By default 4 GiB, on CUDA half of the device's.
            on_progress: Where they do, called after each band.

        Raises:
            ConfigError: If the size is not divisible by the downsample factor, or ``memory`` is too little.
        """
        budget = self._budget(memory)
        indices = encode_within(self.tokenizer, images, budget, on_progress)
        return decode_within(self.tokenizer, indices, budget, on_progress)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        size: tuple[int, int] | int | None = None,
        condition: Condition | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        jacobi: int | None = None,
        window_stride: int = 1,
        guidance: Guidance = 0.0,
        beam: Beam | None = None,
        memory: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Images:
        """Makes new images.

        Args:
            count: Number of images.
            size: Height and width in pixels, or one number for a square, divisible by the tokenizer's downsample
                factor; by default the size the prior was trained on. On larger ones its window slides over the
                grid, unless its span is local.
            condition: What steers the prior, by the conditioner's name: one value for all images or one each.
            temperature: Boldness of the draws; 0 takes the most probable code every time.
            top_k: Draw from the ``top_k`` most probable codes only.
            top_p: Draw from the most probable codes that together have this probability.
            seed: Image ``i`` is the image of seed ``seed + i``.
            jacobi: Guess this many tokens ahead and read them in one pass: the same tokens in fewer passes, for images
                of the prior's own size. Pays where much of an image is easy to guess; None draws token by token.
            window_stride: On larger images, let blocks of this many rows and columns of tokens share a window, at most
                half of it: an approximation in fewer passes. 1 is exact: the window follows every token.
            guidance: Follow the condition more closely than learned: this many times what it changes in the logits is
                added to them, at twice the cost; a pair goes from the first scale at the first token to the second at
                the last. Needs a prior that was trained with ``task.condition_dropout``.
            beam: Go on with the best of several continuations while an image is drawn (:class:`vqgan.Beam`).
            memory: Bytes beside the weights and the prepared copy of the prior: they decide how many images are drawn
                in one batch, how much is kept of what a window has read, and whether images are decoded in bands of
                rows. By default as in :meth:`reconstruct`.
            on_progress: Called with :class:`~vqgan.types.DrawnTokens` after each step, and as in :meth:`reconstruct`.

        Raises:
            ConfigError: If a number is out of range, the size cannot be made or the condition does not fit.
        """
        settings = SamplingSettings(temperature, top_k, top_p, seed, jacobi, window_stride, guidance)
        is_count = is_whole(count) and count >= 1
        require(is_count, f"`count` is {count!r}, expected a whole number of at least 1")
        grid = self.config.window if size is None else self.tokenizer.grid_size(size)
        known = torch.zeros(int(count), *grid, dtype=torch.bool, device=self._device)
        chosen = beam if beam is not None and beam.width > 1 else None
        indices = self._draw(None, known, condition, settings, memory, on_progress, beam=chosen)
        return decode_within(self.tokenizer, indices, self._budget(memory), on_progress)

    def sample_rows(
        self,
        size: tuple[int, int] | int,
        condition: Condition | None = None,
        settings: SamplingSettings = SamplingSettings(),  # noqa: B008 (it cannot change)
        *,
        memory: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Images]:
        """Makes one new image that need not fit in memory.

        Its tokens are drawn first; the result decodes it from top to bottom, in bands of rows (1 c r W) whose pixels
        are those of :meth:`sample`. ``PngRows`` and ``TilePyramid`` of :mod:`vqgan.images` write them.

        Args:
            size: As in :meth:`sample`.
            condition: As in :meth:`sample`.
            settings: How tokens are drawn.
            memory: As in :meth:`sample`, without the image.
            on_progress: As in :meth:`sample`.

        Raises:
            ConfigError: As :meth:`sample`.
        """
        known = torch.zeros(1, *self.tokenizer.grid_size(size), dtype=torch.bool, device=self._device)
        indices = self._draw(None, known, condition, settings, memory, on_progress, is_held=False)
        return decode_rows(self.tokenizer, indices, self._budget(memory), on_progress)

    @torch.no_grad()
    def complete(
        self,
        images: Images,
        known: Known,
        condition: Condition | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        jacobi: int | None = None,
        window_stride: int = 1,
        guidance: Guidance = 0.0,
        refine: int = 0,
        memory: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Images:
        """Keeps the known tokens of images exactly and samples the others in the prior's order.

        The pixels near the border of what is kept may change: a token describes more than its own square. To keep
        pixels, with a mask on pixels, see :func:`~vqgan.inpainting.inpaint`.

        Args:
            images: Values in [-1, 1].
            known: On the token grid: True where the image's token is kept.
            condition: As in :meth:`sample`.
            temperature: As in :meth:`sample`.
            top_k: As in :meth:`sample`.
            top_p: As in :meth:`sample`.
            seed: Image ``i`` is completed with the noise of seed ``seed + i``.
            jacobi: As in :meth:`sample`.
            window_stride: As in :meth:`sample`.
            guidance: As in :meth:`sample`.
            refine: Draw the others so many times again, each given all tokens, also those behind it; 0 leaves them
                drawn from those before. For grids that the prior sees whole.
            memory: As in :meth:`sample`.
            on_progress: As in :meth:`sample`.

        Raises:
            ConfigError: If the images' size, the mask or the condition does not fit, or a number is out of
                range.
        """
        settings = SamplingSettings(temperature, top_k, top_p, seed, jacobi, window_stride, guidance, refine)
        self.tokenizer.check(images)
        grid = self.tokenizer.grid_size((images.shape[2], images.shape[3]))
        check_known(known, (len(images), *grid))
        indices = self._draw(images, known.to(self._device), condition, settings, memory, on_progress)
        return decode_within(self.tokenizer, indices, self._budget(memory), on_progress)

    @torch.no_grad()
    def _draw(
        self,
        images: Images | None,
        known: Known,
        condition: Condition | None,
        settings: SamplingSettings,
        memory: int | None,
        on_progress: OnProgress | None,
        *,
        is_held: bool = True,
        beam: Beam | None = None,
    ) -> Indices:
        """Everything is checked before anything is computed: large images take minutes to encode."""
        count, grid, order = len(known), (known.shape[1], known.shape[2]), self.config.token_order
        share = 1 if beam is None else 2  # its judge sees images while others are drawn
        budget = self._budget(memory) // share
        window = self.usable_window(grid)
        check_seed(settings.seed, count)
        check_grid(self.prior, settings, window, grid)
        check_decoding(self.tokenizer, grid, budget, is_held=is_held)
        if beam is not None:
            beam.check(self.prior, settings, order, is_seen=window == grid)
            beam = replace(beam, decode=partial(decode_within, self.tokenizer, memory=budget))
        null_tokens = self._null_tokens(count, grid) if settings.branches == 2 else None
        prior, condition_tokens = self.steered(condition, count, grid, budget)
        indices = known.long()  # nothing is known, or all is about to be encoded
        if images is not None:
            indices = encode_within(self.tokenizer, images, budget, on_progress)
        how: dict[str, Any] = {"settings": settings, "token_order": order, "memory": budget}
        how["on_progress"], seen = on_progress, {"window": window, "lengths": self.conditioner.lengths}
        more: dict[str, Any] = {**how, **seen, "null_tokens": null_tokens, "beam": beam}
        drawn = fill_grids(prior, condition_tokens, indices, known, **more)
        return refine_grids(prior, condition_tokens, drawn, known, **how)

    def __repr__(self) -> str:
        """One line; ``tree()`` has every layer."""
        rows, columns = self.config.window
        prior, millions = self.config.prior, sum(p.numel() for p in self.prior.parameters()) / 1e6
        return (
            f"Synthesizer(condition {self.conditioner.name}, window {rows}x{columns}, {prior.depth} layers of width "
            f"{prior.width}, {millions:.1f}M parameters, {self.tokenizer!r})"
        )

    def tree(self) -> str:
        """All layers, as PyTorch prints them."""
        return super().__repr__()

    def log_probability(
        self, images: Images, condition: Condition | None = None, *, memory: int | None = None
    ) -> Float[Tensor, "b n"]:
        """Natural logarithm of the probability of each of the images' tokens, row after row.

        On images larger than the window, each token is given what it would be given while it is drawn.

        Args:
            images: Values in [-1, 1].
            condition: As in :meth:`sample`.
            memory: Bytes beside the weights for encoding images and condition, as in :meth:`reconstruct`.

        Raises:
            ConfigError: If the images are too small for the window, or the condition does not fit.
        """
        budget = self._budget(memory)
        indices = encode_within(self.tokenizer, images, budget)
        grid = (indices.shape[1], indices.shape[2])
        prior, condition_tokens = self.steered(condition, indices.shape[0], grid, budget)
        scores = score_grids(
            prior,
            condition_tokens,
            indices,
            window=self.usable_window(grid),
            lengths=self.conditioner.lengths,
            token_order=self.config.token_order,
            memory=budget,
        )
        return scores.flatten(1)

    def usable_window(self, grid: tuple[int, int]) -> tuple[int, int]:
        """The window in which the prior can sample ``grid``; a prior of local span sees as little of every grid.

        Raises:
            ConfigError: As :func:`~vqgan.sampling.plan.usable_window`.
        """
        if self.config.prior.span is not None:
            return grid
        return usable_window(
            self.config.window,
            grid,
            order=self.config.token_order,
            is_spatial=None in self.conditioner.lengths,
            factor=self.tokenizer.downsample_factor,
        )

    def steered(
        self, condition: Condition | None, count: int, grid: tuple[int, int], memory: int
    ) -> tuple[Prior, ConditionTokens]:
        """The prior for this condition, and the tokens of it for ``count`` images of the token grid ``grid``."""
        asked = partial(self.conditioner.asked, memory=memory, has_null=self.config.has_null_tokens)
        tokens = asked(condition, count, grid, window=self.usable_window(grid)).to(self._device)
        return self.prior.with_vectors(self.conditioner.vectors(condition)), tokens

    def _null_tokens(self, count: int, grid: tuple[int, int]) -> ConditionTokens:
        is_steered = not isinstance(self.config.conditioner, UnconditionalConfig)
        require(
            self.config.has_null_tokens,
            "this prior cannot take `guidance`: it has "
            + ("not learned images without their condition" if is_steered else "no condition to follow"),
            hint="omit it" + ", or train a prior with `task.condition_dropout=0.1`" * is_steered,
        )
        return self.conditioner.null_tokens(count, grid, self.usable_window(grid)).to(self._device)

    def _budget(self, memory: int | None) -> int:
        return memory_budget(memory, self._device)

    @property
    def _device(self) -> torch.device:
        return self.prior.head.weight.device
