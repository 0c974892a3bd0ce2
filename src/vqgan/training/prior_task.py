"""Training of the second stage: the prior learns the token grids of a frozen tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqgan.checkpoints.run_folder import Stage
from vqgan.conditioning import Conditioner
from vqgan.config import Bounds, Config, Probability, Weight
from vqgan.data.loader import CORRUPTION, DROPOUT, draws
from vqgan.errors import require
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.alignment import Alignment
from vqgan.training.engine import Engine, put
from vqgan.training.optimizers import OptimizerConfig, TrainingState
from vqgan.training.sharding import shard
from vqgan.training.task import LoopConfig
from vqgan.types import (
    Batch,
    Condition,
    ConditionTokens,
    Images,
    Indices,
    OnProgress,
    Tokens,
    lengths_on,
)

_ANNEALED = 0.75
"""Share of a run after which annealed noise is gone."""


class PriorTaskConfig(Config, frozen=True):
    """How a prior is trained.

    Attributes:
        optimizer: AdamW; only the weights of linear layers decay.
        token_keep_probability: Share of the input tokens that are kept; the others are replaced by random codes.
            The targets never change.
        token_noise: ``"fixed"``: each token is kept with ``token_keep_probability``. ``"annealed"`` (He et al. 2025,
            reAR): of each sample another share is replaced, drawn between 0 and a bound that falls from 1 at the first
            step to 0 after three quarters of the run; ``token_keep_probability`` has no part in it.
        alignment: Weight of the second loss of reAR, or 0: the first layer shall tell the vector of the code that it
            read, and one at three quarters of the depth that of the next. What reads them is not kept with the model.
        condition_dropout: Share of the samples that each part of the condition is hidden from, in half of the cases all
            parts together: null tokens, of which the vocabulary then has one more for each part, take its place. Such a
            prior also draws without a condition and, with ``guidance``, follows it more closely.
    """

    optimizer: OptimizerConfig
    token_keep_probability: Annotated[
        float, Bounds("more than 0 and at most 1", lambda value: 0 < value <= 1)
    ] = 1.0
    token_noise: Literal["fixed", "annealed"] = "fixed"
    alignment: Weight = 0.0
    condition_dropout: Probability = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.token_noise == "fixed" or self.token_keep_probability == 1,
            f"`token_keep_probability` is {self.token_keep_probability}, but annealed noise has no fixed share",
            hint="set `task.token_keep_probability=1`",
        )


class PriorTask:
    """One step, the held-out loss and the pictures of a prior's training.

    Args:
        synthesizer: Tokenizer (frozen), conditioner and the prior that is trained, on the engine's device.
        config: How it is trained.
        loop: Length of the run and decay of the averaged weights.
        engine: Device, precision, processes.
        seed: Of the run; token corruption draws from it and the sample's number.
    """

    stage: Stage = "prior"
    num_labels = 0

    def __init__(
        self,
        synthesizer: Synthesizer,
        config: PriorTaskConfig,
        *,
        loop: LoopConfig,
        engine: Engine,
        seed: int,
    ) -> None:
        synthesizer.requires_grad_(False).eval()
        self.synthesizer = synthesizer
        self.prior = synthesizer.prior.requires_grad_(True).train()
        if loop.shard and engine.world > 1:
            synthesizer.prior = shard(self.prior, engine.device)
        self.image_channels = synthesizer.tokenizer.image_channels
        rows, columns = synthesizer.config.window
        self.size = rows * (factor := synthesizer.tokenizer.downsample_factor), columns * factor
        self.config = config
        self.loop = loop
        self.engine = engine
        self.seed = seed
        modules: dict[str, nn.Module] = {"prior": self.prior}
        self.alignment: Alignment | None = None
        if config.alignment:
            codes = synthesizer.tokenizer.quantizer.codebook_dim
            self.alignment = Alignment(self.prior.config, codes).to(engine.device)
            modules["alignment"] = self.alignment
        self.state = TrainingState(
            modules, config.optimizer, engine, ema_decay=loop.ema_decay, exported=synthesizer
        )

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One AdamW step; returns the loss in nats per token, the gradient norm and the learning rate.

        With ``alignment`` that of the tokens is ``likelihood_loss``, and ``loss`` the weighted sum.
        """
        losses = (self._losses(batch, step) for batch in batches)
        return self.state.descend(losses, len(batches), step, self.loop.steps)

    def _losses(self, batch: Batch, step: int | None = None, *, is_hidden: bool = False) -> dict[str, Tensor]:
        """Those of a batch; of one in a training step, corrupted and without some conditions."""
        with torch.no_grad():
            indices = encoded(self.synthesizer.tokenizer, batch, self.size)
            grid = (indices.shape[1], indices.shape[2])
            tokens = to_tokens(indices, self.synthesizer.config.token_order)
            conditioner, count = self.synthesizer.conditioner, len(tokens)
            asked, null = (
                None if is_hidden else condition_of(self.synthesizer.conditioner, batch, self.size),
                conditioner.null_tokens(count, grid),
            )
            condition = null if is_hidden else conditioner.tokens(asked, count, grid)
            condition = put(condition, tokens.device)
            given = conditioner.vectors(asked)
        read, between = tokens, None
        if step is not None:
            read = self._corrupted(tokens, batch.sample, step)
            condition = self._hidden(condition, grid, batch.sample)
            between = None if self.alignment is None else self.alignment.new_layers()
        with self.engine.autocast():
            prior = (self.synthesizer.prior if step is None else self.prior).with_vectors(given)
            scores = prior.log_probability(tokens, condition, grid, read=read, between=between)
            if between is None or self.alignment is None:
                return {"loss": -scores.mean()}
            vectors = self.synthesizer.tokenizer.quantizer.codebook_vectors()
            aligned = self.alignment(between, F.embedding(tokens, vectors), grid)
        total = self.config.alignment * aligned - scores.mean()
        return {"loss": total, "likelihood_loss": -scores.mean(), "alignment_loss": aligned}

    def _corrupted(self, tokens: Tokens, sample: Tensor, step: int) -> Tokens:
        """Replaces a random share of the tokens by random codes; each sample draws from (seed, its number)."""
        keep, is_annealed = self.config.token_keep_probability, self.config.token_noise == "annealed"
        most = max(0.0, 1 - step / (_ANNEALED * self.loop.steps)) if is_annealed else 1 - keep
        if most == 0:
            return tokens
        codes = self.synthesizer.tokenizer.codebook_size
        rows = []
        for number in sample.tolist():
            draw = draws(self.seed, number, CORRUPTION)
            keep = 1 - most * draw.random() if is_annealed else keep
            replaced = draw.random(tokens.shape[1]) >= keep
            rows.append(np.where(replaced, draw.integers(0, codes, tokens.shape[1]), -1))
        random = put(torch.from_numpy(np.stack(rows)), tokens.device)
        return torch.where(random >= 0, random, tokens)

    def _hidden(self, condition: ConditionTokens, grid: tuple[int, int], sample: Tensor) -> ConditionTokens:
        """Puts null tokens in the place of a random share of conditions; each sample draws as the corruption does."""
        share, conditioner = self.config.condition_dropout, self.synthesizer.conditioner
        if share == 0:
            return condition
        lengths = lengths_on(conditioner.lengths, grid)
        rows = [draws(self.seed, number, DROPOUT).random(1 + len(lengths)) for number in sample.tolist()]
        shares = np.stack(rows)
        # All parts in half of the cases, else each by itself: so often that each is hidden from the share.
        is_hidden = (shares[:, :1] < share / 2) | (shares[:, 1:] < share / (2 - share))
        hidden = torch.from_numpy(is_hidden).repeat_interleave(torch.tensor(lengths), dim=1)
        null = conditioner.null_tokens(len(condition), grid)
        return torch.where(put(hidden, condition.device), put(null, condition.device), condition)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """The held-out loss in nats per token, without corruption, with the averaged weights.

        Where the prior has null tokens also that without any condition: the difference is what the condition tells.
        """
        names = ["loss", "unconditional_loss"] if self.synthesizer.config.has_null_tokens else ["loss"]
        totals, count = dict.fromkeys(names, 0.0), 0
        with self.state.averaged():
            for batch in batches:
                coded = replace(batch, indices=encoded(self.synthesizer.tokenizer, batch, self.size))
                for name in names:
                    loss = self._losses(coded, is_hidden=name != "loss")["loss"]
                    totals[name] += float(loss) * len(batch.images)
                count += len(batch.images)
        return {name: total / count for name, total in totals.items()} if count else {}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Free samples, a greedy one, and images completed from their upper half; always the same seeds."""
        if batch.indices is None:
            images = without_context(batch.images, batch, self.size)
        else:
            images = self.synthesizer.tokenizer.decode(batch.indices).clamp(-1, 1)
        count, _, height, width = images.shape
        condition = condition_of(self.synthesizer.conditioner, batch, self.size)
        with self.state.averaged(), self.engine.autocast():
            rows, columns = self.synthesizer.tokenizer.grid_size((height, width))
            known = torch.zeros(count, rows, columns, dtype=torch.bool, device=images.device)
            known[:, : rows // 2] = True
            size = (height, width)
            sampled = self.synthesizer.sample(count, size, condition, on_progress=on_progress)
            greedy = self.synthesizer.sample(
                1, size, _first(condition), temperature=0.0, on_progress=on_progress
            )
            completed = self.synthesizer.complete(images, known, condition, on_progress=on_progress)
        return {"samples": sampled, "greedy": greedy, "completed": torch.cat([images, completed])}


def encoded(tokenizer: Tokenizer, batch: Batch, size: tuple[int, int]) -> Indices:
    """The codes of samples of this size, if not known, in the precision of the weights: bf16 changes a few."""
    if batch.indices is not None:
        return batch.indices
    # Not `encode`: its look at the values would make a GPU wait, and the loader's values are right.
    return without_context(tokenizer.quantizer.encode(tokenizer.latents(batch.images)), batch, size)


def condition_of(conditioner: Conditioner, batch: Batch, size: tuple[int, int]) -> Condition | None:
    """What of the batch's conditions a conditioner reads, or else what the images themselves give."""
    found: dict[str, Any] = {}
    for part in conditioner.parts:
        if part.name in batch.condition:
            found[part.name] = batch.condition[part.name]
        else:
            given = part.from_images(batch.images)
            found |= {name: without_context(value, batch, size) for name, value in given.items()}
    return found or None


def without_context(maps: Tensor, batch: Batch, size: tuple[int, int]) -> Tensor:
    """The samples' part of the batch's images or codes; ``size`` is that of samples in pixels."""
    if batch.corner is None:
        return maps
    side = batch.images.shape[-1] // maps.shape[-1]
    rows, columns = (each // side for each in size)
    corners = (batch.corner // side).tolist()
    parts = zip(maps, corners, strict=True)
    return torch.stack([each[..., y : y + rows, x : x + columns] for each, (y, x) in parts])


def _first(condition: Condition | None) -> Condition | None:
    return {name: values[:1] for name, values in condition.items()} if condition else None
