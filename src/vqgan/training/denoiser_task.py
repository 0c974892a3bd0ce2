"""Training of a denoiser: it takes noise of any level from images, and learns what they are made of."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.run_folder import Stage
from vqgan.config import Config, Positive
from vqgan.data.loader import NOISE, draws
from vqgan.denoiser import Denoiser
from vqgan.evaluation.psnr import PEAK, psnr
from vqgan.training.engine import Engine, put
from vqgan.training.optimizers import OptimizerConfig, TrainingState
from vqgan.training.task import LoopConfig
from vqgan.types import Batch, Images, OnProgress


class DenoiserTaskConfig(Config, frozen=True):
    """How a denoiser is trained: by the squared error of its pixels.

    Attributes:
        optimizer: AdamW; only the weights of convolutions decay.
        noise: The largest deviation of the noise; that of each image is drawn evenly between 0 and it.
    """

    optimizer: OptimizerConfig
    noise: Positive = 1.0


class DenoiserTask:
    """One step, the held-out PSNR and the pictures of a denoiser's training.

    Args:
        denoiser: The model, on the engine's device.
        config: How it is trained.
        loop: Length of the run and decay of the averaged weights.
        engine: Device, precision, processes.
        seed: Of the run; the noise is a function of it and the samples' numbers.
    """

    stage: Stage = "denoiser"
    num_labels = 0

    def __init__(
        self, denoiser: Denoiser, config: DenoiserTaskConfig, *, loop: LoopConfig, engine: Engine, seed: int
    ) -> None:
        self.denoiser = denoiser.train()
        self.image_channels = denoiser.image_channels
        self.config, self.loop, self.engine, self.seed = config, loop, engine, seed
        self.state = TrainingState({"denoiser": denoiser}, config.optimizer, engine, ema_decay=loop.ema_decay)

    def train_step(self, batches: Sequence[Batch], step: int) -> Mapping[str, Tensor]:
        """One AdamW step; returns the mean squared error, the gradient norm and the learning rate."""
        losses = ({"loss": self._errors(batch).mean()} for batch in batches)
        return self.state.descend(losses, len(batches), step, self.loop.steps)

    def _noisy(self, batch: Batch) -> Images:
        noise = []
        for number in batch.sample.tolist():
            draw = draws(self.seed, number, NOISE)
            level = self.config.noise * draw.random()
            noise.append(level * torch.from_numpy(draw.standard_normal(batch.images.shape[1:], np.float32)))
        return batch.images + put(torch.stack(noise).to(batch.images.dtype), batch.images.device)

    def _errors(self, batch: Batch) -> Float[Tensor, " b"]:
        """The mean squared error of each image."""
        with self.engine.autocast():
            clean = self.denoiser(self._noisy(batch)).float()
        return (clean - batch.images).square().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Mapping[str, float]:
        """PSNR (dB) of noisy held-out images once the noise is taken away, with the averaged weights."""
        with self.state.averaged():
            found = [self._errors(batch).cpu() for batch in batches]
        errors = torch.cat(found).double() * (PEAK / 2) ** 2 if found else torch.empty(0)
        return {"psnr": psnr(float(errors.sum()), len(errors))} if found else {}

    @torch.no_grad()
    def pictures(self, batch: Batch, on_progress: OnProgress) -> Mapping[str, Images]:
        """Held-out images with noise, then what the denoiser makes of them."""
        noisy = self._noisy(batch)
        with self.state.averaged(), self.engine.autocast():
            return {"denoised": torch.cat([noisy, self.denoiser(noisy).to(noisy.dtype)]).clamp(-1, 1)}
