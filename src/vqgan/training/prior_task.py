"""Training of the second stage: the prior learns the token grids of a frozen tokenizer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder, Stage
from vqgan.config import Bounds, Config, Probability
from vqgan.prior import to_tokens
from vqgan.synthesizer import Synthesizer
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig, TrainingState
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

_CORRUPTION, _DROPOUT = 2, 4
"""Set these draws apart from each other and from those of the data, which have the same keys."""


class PriorTaskConfig(Config, frozen=True):
    """How a prior is trained.

    Attributes:
        optimizer: AdamW; only the weights of linear layers decay.
        token_keep_probability: Share of the input tokens that are kept; the others are replaced by random codes.
            The targets never change.
        condition_dropout: Share of the samples that each part of the condition is hidden from, in half of the cases all
            parts together: null tokens, of which the vocabulary then has one more for each part, take its place. Such a
            prior also draws without a condition and, with ``guidance``, follows it more closely.
    """

    optimizer: OptimizerConfig
    token_keep_probability: Annotated[
        float, Bounds("more than 0 and at most 1", lambda value: 0 < value <= 1)
    ] = 1.0
    condition_dropout: Probability = 0.0


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
        self.image_channels = synthesizer.tokenizer.image_channels
        self.config = config
        self.loop = loop
        self.engine = engine
        self.seed = seed
        self.state = TrainingState({"prior": self.prior}, config.optimizer, engine, ema_decay=loop.ema_decay)

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One AdamW step; returns the loss in nats per token, the gradient norm and the learning rate."""
        losses = ({"loss": self._loss(batch, is_training=True)} for batch in batches)
        return self.state.descend(losses, len(batches), step, self.loop.steps)

    def _loss(self, batch: Batch, *, is_training: bool, is_hidden: bool = False) -> Tensor:
        with torch.no_grad():
            indices = self._encoded(batch) if batch.indices is None else batch.indices
            grid = (indices.shape[1], indices.shape[2])
            tokens = to_tokens(indices, self.synthesizer.config.token_order)
            conditioner, count = self.synthesizer.conditioner, len(tokens)
            if is_hidden:
                condition = conditioner.null_tokens(count, grid)
            else:
                condition = conditioner.tokens(self._condition(batch), count, grid)
        read = tokens
        if is_training:
            read, condition = (
                self._corrupted(tokens, batch.sample),
                self._hidden(condition, grid, batch.sample),
            )
        with self.engine.autocast():
            return -self.prior.log_probability(tokens, condition.to(tokens.device), grid, read=read).mean()

    def _encoded(self, batch: Batch) -> Indices:
        """The samples' codes, in the precision of the weights, as when the model is used: bf16 changes a few."""
        tokenizer = self.synthesizer.tokenizer
        # Not `encode`: its look at the values would make a GPU wait, and the loader's values are right.
        return self._without_context(tokenizer.quantizer.encode(tokenizer.latents(batch.images)), batch)

    def _without_context(self, maps: Tensor, batch: Batch) -> Tensor:
        """The samples' part of the batch's images or codes."""
        if batch.corner is None:
            return maps
        tokenizer, side = self.synthesizer.tokenizer, batch.images.shape[-1] // maps.shape[-1]
        rows, columns = (
            tokenizer.downsample_factor * each // side for each in self.synthesizer.config.window
        )
        corners = (batch.corner // side).tolist()
        parts = zip(maps, corners, strict=True)
        return torch.stack([each[..., y : y + rows, x : x + columns] for each, (y, x) in parts])

    def _condition(self, batch: Batch) -> Condition | None:
        """What of the batch's conditions this conditioner reads, or else what the images themselves give."""
        found: dict[str, Any] = {}
        for part in self.synthesizer.conditioner.parts:
            if part.name in batch.condition:
                found[part.name] = batch.condition[part.name]
            else:
                given = part.from_images(batch.images)
                found |= {name: self._without_context(value, batch) for name, value in given.items()}
        return found or None

    def _corrupted(self, tokens: Tokens, sample: Tensor) -> Tokens:
        """Replaces a random share of the tokens by random codes; each sample draws from (seed, its number)."""
        keep = self.config.token_keep_probability
        if keep >= 1:
            return tokens
        codes = self.synthesizer.tokenizer.codebook_size
        rows = []
        for number in sample.tolist():
            draw = self._draws(number, _CORRUPTION)
            replaced = draw.random(tokens.shape[1]) >= keep
            rows.append(np.where(replaced, draw.integers(0, codes, tokens.shape[1]), -1))
        random = torch.from_numpy(np.stack(rows)).to(tokens.device)
        return torch.where(random >= 0, random, tokens)

    def _hidden(self, condition: ConditionTokens, grid: tuple[int, int], sample: Tensor) -> ConditionTokens:
        """Puts null tokens in the place of a random share of conditions; each sample draws as the corruption does."""
        share, conditioner = self.config.condition_dropout, self.synthesizer.conditioner
        if share == 0:
            return condition
        lengths = lengths_on(conditioner.lengths, grid)
        draws = np.stack([self._draws(each, _DROPOUT).random(1 + len(lengths)) for each in sample.tolist()])
        # All parts in half of the cases, else each by itself: so often that each is hidden from the share.
        is_hidden = (draws[:, :1] < share / 2) | (draws[:, 1:] < share / (2 - share))
        hidden = torch.from_numpy(is_hidden).repeat_interleave(torch.tensor(lengths), dim=1)
        null = conditioner.null_tokens(len(condition), grid).to(condition.device)
        return torch.where(hidden.to(condition.device), null, condition)

    def _draws(self, sample: int, purpose: int) -> np.random.Generator:
        key = np.array([self.seed, sample], dtype=np.uint64)
        counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """The held-out loss in nats per token, without corruption, with the averaged weights.

        Where the prior has null tokens also that without any condition: the difference is what the condition tells.
        """
        names = ["loss", "unconditional_loss"] if self.synthesizer.config.has_null_tokens else ["loss"]
        totals, count = dict.fromkeys(names, 0.0), 0
        with self.state.averaged():
            for batch in batches:
                coded = batch if batch.indices is not None else replace(batch, indices=self._encoded(batch))
                for name in names:
                    loss = self._loss(coded, is_training=False, is_hidden=name != "loss")
                    totals[name] += float(loss) * len(batch.images)
                count += len(batch.images)
        return {name: total / count for name, total in totals.items()} if count else {}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Free samples, a greedy one, and images completed from their upper half; always the same seeds."""
        images = self._without_context(batch.images, batch)
        count, _, height, width = images.shape
        condition = self._condition(batch)
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

    def export(self, folder: RunFolder, step: int) -> None:
        """Writes the whole synthesizer to ``prior.safetensors``, with the averaged weights if there are any."""
        self.state.export(self.synthesizer, folder.weights("prior"), step, prefix="prior.")


def _first(condition: Condition | None) -> Condition | None:
    return {name: values[:1] for name, values in condition.items()} if condition else None
