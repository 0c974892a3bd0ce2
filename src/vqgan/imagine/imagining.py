"""Pictures from words: what a text-image model sees in cut-outs of a picture decides how its latents change.

The method is VQGAN-CLIP (Crowson et al. 2022): decode, cut out, judge, follow the gradient, and again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn, optim

from vqgan.config import Config, Count, Positive, Probability, Weight
from vqgan.errors import require
from vqgan.imagine.cutouts import CutOutConfig, cut_outs
from vqgan.imagine.judge import TextImageJudge
from vqgan.imagine.motion import Motion
from vqgan.imagine.prior_judge import PriorJudge
from vqgan.imagine.prompts import Prompt, Story, chapter_of, parse_story
from vqgan.imagine.variables import LatentsConfig, PixelsConfig, Variables, VariablesConfig
from vqgan.sampling import check_seed
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer, memory_budget
from vqgan.types import Condition, Images, Indices, OnProgress, Progress

_OPTIMIZERS = ("Adam", "AdamW", "Adagrad", "Adamax", "NAdam", "RAdam", "RMSprop")
"""Of ``torch.optim``; configurations write them in small letters."""

_COPIES = 8
"""Of what is optimised: with its gradient, the optimizer's averages, the average that is shown, and the start."""


class ImagineConfig(Config, frozen=True):
    """How pictures are made from words; the defaults are those of the well-known command line (VQGAN-CLIP).

    Attributes:
        steps: All of them; each chapter of a story has an equal share.
        variables: What is optimised.
        cut_outs: How pictures are cut out for the judge.
        optimizer: One of PyTorch's, with its own settings.
        learning_rate: Of the optimizer.
        average: The pictures that are shown are made of a running average of what is optimised, which keeps this share
            in each step: smoother than the last step, which 0 shows.
        keep_start: Weight of half the mean squared distance from where latents, scores or pixels began.
        prior_weight: Weight of the mean negative logarithm of the codes' probability, in nats, under the prior.
        motion: How the picture moves.
    """

    steps: Count = 500
    variables: VariablesConfig = LatentsConfig()
    cut_outs: CutOutConfig = CutOutConfig()
    optimizer: Literal["adam", "adamw", "adagrad", "adamax", "nadam", "radam", "rmsprop"] = "adam"
    learning_rate: Positive = 0.1
    average: Probability = 0.0
    keep_start: Weight = 0.0
    prior_weight: Weight = 0.0
    motion: Motion = Motion()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.prior_weight == 0 or not isinstance(self.variables, PixelsConfig),
            "`prior_weight` is given, but pixels have no codes that a prior could judge",
            hint="omit it, or choose other `variables`",
        )


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        stories: Chapters of prompts: one story for all pictures, or one for each, as many chapters and prompts in all.
        start: The first pictures (b 3 H W) with values in [-1, 1], or their codes (b h w).
        seed: Of the first picture's cut-outs; picture ``i`` takes ``seed + i``.
        condition: What steers the prior where it judges.
    """

    stories: Sequence[Story]
    start: Images | Indices
    seed: int = 0
    condition: Condition | None = None


class Imagining:
    """Pictures that become what is asked for, step by step.

    Args:
        model: A tokenizer of RGB pictures, or a synthesizer, whose prior can judge too; in evaluation mode.
        judge: Says how well cut-outs fit the prompts; on the same device.
        request: What is asked for.
        config: How it is done.
        memory: Bytes beside the weights. They decide how many cut-outs are judged at once, which changes results by
            rounding only, and whether the decoder's layers are computed again. By default as ``memory_budget`` says.

    Attributes:
        done: Steps done.
        prompts: Those of the last step.
        similarity: Of each picture and each of these, the mean over cut-outs (b prompts).

    Raises:
        ConfigError: If the pictures do not fit the tokenizer, memory is too little, or there is no prior that can
            judge them.
    """

    def __init__(
        self,
        model: Tokenizer | Synthesizer,
        judge: TextImageJudge,
        *,
        request: Request,
        config: ImagineConfig,
        memory: int | None = None,
    ) -> None:
        tokenizer = model if isinstance(model, Tokenizer) else model.tokenizer
        check_seed(request.seed, len(request.start))
        require(
            tokenizer.image_channels == 3 and not tokenizer.config.label_names,
            f"the tokenizer is one of {tokenizer.image_channels} channels or labels, expected RGB pictures",
            hint="open the tokenizer of RGB pictures",
        )
        self.request, self.config, self._model, self._judge = request, config, model, judge
        self._memory = memory_budget(memory, tokenizer.weight.device)
        self._variables = Variables(config.variables, tokenizer, self._memory)
        shapes = {tuple(map(len, story)) for story in request.stories}
        require(
            len(shapes) == 1 and len(request.stories) in (1, len(request.start)),
            f"{len(request.stories)} stories of {sorted(shapes)} prompts a chapter are given for {len(request.start)} "
            "pictures, expected one, or one for each and all of as many",
            hint="draw pictures of other numbers of prompts by themselves",
        )
        self._targets = [
            torch.stack([torch.cat([_embedded(each, judge) for each in part]) for part in parts])
            for parts in zip(*request.stories, strict=True)
        ]
        self._begin(request.start)
        self._start = self._numbers.detach().clone()
        count, beside, self._prior = len(self._start), _COPIES * self._start.nbytes, None
        if config.prior_weight:
            shape = self._variables.indices(self._start).shape
            self._prior = PriorJudge(model, shape, condition=request.condition, memory=self._memory)
            beside += count * self._prior.bytes
        together = count * judge.bytes_per_image
        room = self._memory - beside - self._variables.least_memory(self._start, beside + together)
        self._chunk = max(1, min(judge.batch_size // count, min(self._memory // 4, room) // together))
        self._decoding = self._memory - beside - self._chunk * together
        self.done = 0
        self.prompts = request.stories[0][0]
        self.similarity = torch.zeros(count, len(self.prompts))

    def images(self) -> Images:
        """The pictures as they are now, values in [-1, 1]."""
        return self._variables.shown(self._average)

    def step(self) -> dict[str, float]:
        """One step of the optimizer; gives the loss and its parts, means over the pictures."""
        config, numbers = self.config, self._numbers
        with _frozen(self._model):
            numbers.grad, values = self.gradient()
        self._optimizer.step()
        self.done += 1
        with torch.no_grad():
            numbers.clamp_(*self._variables.bounds)
            self._average.lerp_(numbers, 1 - config.average)
            if config.motion.moves and self.done % config.motion.every == 0:
                self._begin(config.motion.moved(self.images()))
        return values

    def gradient(self) -> tuple[Tensor, dict[str, float]]:
        """The gradient of the loss, summed over the pictures, for what is optimised; and what :meth:`step` gives."""
        config, numbers = self.config, self._numbers
        progress = self.done / max(1, config.steps - 1)
        decoded = self._variables.decoded(numbers, progress, self._decoding)
        precise = torch.promote_types(decoded.dtype, torch.float32)
        pixels = decoded.detach().clamp(-1, 1).to(precise).requires_grad_()
        values = {"prompts": self._judged(pixels)}
        gradient = pixels.grad
        assert gradient is not None
        # What lies beyond black or white may come back, but is not driven further.
        gradient = gradient.where(gradient * (decoded.detach() - pixels.detach()) >= 0, 0)
        others = {}
        if config.keep_start:
            kept = (numbers - self._start).square().flatten(1).mean(dim=1) / 2
            others["keep_start"] = config.keep_start * kept.sum()
        if self._prior is not None:
            shares, indices = self._variables.shares(numbers, progress), self._variables.indices(numbers)
            others["prior"] = config.prior_weight * self._prior(shares, indices).sum()
        # The gradient of one pixel of many would be 0 in half precision; powers of 2 change nothing else.
        scale = 2.0 ** (decoded[0, 0].numel().bit_length() // 2)
        heads = [decoded, *(scale * each for each in others.values())]
        (found,) = torch.autograd.grad(
            heads, [numbers], [(scale * gradient).to(decoded.dtype), *[None] * len(others)]
        )
        values |= {name: float(each.detach()) / len(numbers) for name, each in others.items()}
        return found / scale, {"loss": sum(values.values()), **values}

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, beside :attr:`done`."""
        known = self._optimizer.state.get(self._numbers, {})
        own = {"numbers": self._numbers.detach(), "average": self._average, "start": self._start}
        return {**own, **{f"optimizer.{name}": value for name, value in known.items()}}

    def load(self, tensors: dict[str, Tensor], done: int) -> None:
        """Goes on from what :meth:`tensors` gave after ``done`` steps."""
        self.done, known, own = done, self._optimizer.state[self._numbers], self.tensors()
        for name, value in tensors.items():
            if name in own:
                own[name].copy_(value)
            else:
                like = self._numbers if value.shape == self._numbers.shape else value
                known[name.removeprefix("optimizer.")] = value.to(like, copy=True)

    def _begin(self, start: Images | Indices) -> None:
        """Makes the numbers that stand for pictures or codes, and an optimizer that knows nothing yet."""
        weight = self._variables.tokenizer.weight
        with torch.no_grad():
            numbers = self._variables.begin(start.to(weight.device))
            self._numbers = numbers.to(
                torch.promote_types(weight.dtype, torch.float32), copy=True
            ).requires_grad_()
            self._average = self._numbers.detach().clone()
        kind = getattr(optim, next(each for each in _OPTIMIZERS if each.lower() == self.config.optimizer))
        self._optimizer: optim.Optimizer = kind([self._numbers], lr=self.config.learning_rate)

    def _judged(self, pixels: Images) -> float:
        """Adds the gradient of the prompts' loss to that of the pixels; gives its mean over the pictures.

        Each cut-out is as far from a prompt as half the squared angle between them says.
        """
        config, request = self.config, self.request
        chapter = chapter_of(request.stories[0], self.done, config.steps)
        prompts, targets = [story[chapter] for story in request.stories], self._targets[chapter]
        self.prompts = prompts[0]
        weights, stop = (
            pixels.new_tensor([[getattr(each, name) for each in part] for part in prompts])[:, None]
            for name in ("weight", "stop")
        )
        count, similarity, total = config.cut_outs.count, 0.0, 0.0
        for first in range(0, count, self._chunk):
            part = {"step": self.done, "first": first, "count": min(self._chunk, count - first)}
            cuts = cut_outs(pixels, config.cut_outs, size=self._judge.side, seed=request.seed, **part)
            seen = self._judge.embed_images(cuts.flatten(0, 1)).unflatten(0, cuts.shape[:2])
            chords = (seen[:, :, None] - targets[:, None]).square().sum(dim=-1)
            angles = 2 * (chords.clamp(min=1e-12).sqrt() / 2).clamp(max=1).arcsin().square()
            loss = (weights.abs() * torch.maximum(weights.sign() * angles, stop)).sum() / count
            loss.backward()
            total += float(loss.detach())
            similarity = similarity + (1 - chords.detach() / 2).sum(dim=1) / count
        self.similarity = torch.as_tensor(similarity)
        return total / len(pixels)


@dataclass(frozen=True)
class ImagineProgress(Progress):
    """What :func:`imagine` reports after each step.

    Attributes:
        imagining: Has the pictures: ``progress.imagining.images()`` decodes them as they are now.
    """

    imagining: Imagining = field(kw_only=True)


def imagine(
    model: Tokenizer | Synthesizer,
    prompts: str | Sequence[str | Story],
    judge: TextImageJudge,
    *,
    size: tuple[int, int] | int = 256,
    count: int | None = None,
    start: Images | Indices | None = None,
    config: ImagineConfig = ImagineConfig(),  # noqa: B008 (it cannot change)
    condition: Condition | None = None,
    seed: int = 0,
    memory: int | None = None,
    on_progress: OnProgress | None = None,
) -> Images:
    """Pictures of what prompts say.

    Args:
        model: As of :class:`Imagining`.
        prompts: ``"an apple | oil painting:0.5"`` as :func:`~vqgan.imagine.parse_story` reads it; or a list of such
            texts or of stories, one for each picture.
        judge: What :func:`~vqgan.imagine.open_judge` opens.
        size: Height and width in pixels, or one number for a square, where there is no ``start``.
        count: How many, where there is no ``start``; all in one batch. By default one for each text.
        start: Pictures (b 3 H W) with values in [-1, 1], or codes (b h w); by default random codes.
        config: How it is done.
        condition: What steers the prior where it judges.
        seed: Picture ``i`` takes ``seed + i``.
        memory: As of :class:`Imagining`.
        on_progress: Called with :class:`ImagineProgress` after each step.

    Returns:
        The pictures (b 3 H W), values in [-1, 1].

    Raises:
        ConfigError: If an argument does not fit.
    """
    texts = [prompts] if isinstance(prompts, str) else prompts
    stories = [parse_story(each) if isinstance(each, str) else each for each in texts]
    if start is None:
        tokenizer = model if isinstance(model, Tokenizer) else model.tokenizer
        start = random_codes(tokenizer, tokenizer.grid_size(size), count=count or len(stories), seed=seed)
    request = Request(stories, start, seed, condition)
    imagining = Imagining(model, judge, request=request, config=config, memory=memory)
    while imagining.done < config.steps:
        values = imagining.step()
        if on_progress is not None:
            report = ImagineProgress("imagining", imagining.done, config.steps, values, imagining=imagining)
            on_progress(report)
    return imagining.images()


def random_codes(tokenizer: Tokenizer, grid: tuple[int, int], *, count: int, seed: int) -> Indices:
    """Codes drawn evenly; those of grid ``i`` depend on ``seed + i``."""
    check_seed(seed, count)
    generators = (torch.Generator().manual_seed(seed + number) for number in range(count))
    return torch.cat(
        [torch.randint(tokenizer.codebook_size, (1, *grid), generator=each) for each in generators]
    )


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Layers keep less for the backward pass where no weight wants a gradient."""
    learning = nn.ParameterList(each for each in model.parameters() if each.requires_grad)
    learning.requires_grad_(False)
    try:
        yield
    finally:
        learning.requires_grad_()


@torch.no_grad()
def _embedded(prompt: Prompt, judge: TextImageJudge) -> Float[Tensor, "1 d"]:
    if prompt.image is not None:
        return judge.embed_images(prompt.image[None])
    found = judge.embed_text([prompt.text])
    if prompt.noise is None:
        return found
    noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(prompt.noise))
    return nn.functional.normalize(noise, dim=-1).to(found)
