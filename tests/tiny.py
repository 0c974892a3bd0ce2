"""The smallest models, runs and images that still have every part; for tests that train."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from examples import write_idx
from vqgan.classifier import Classifier, ClassifierConfig
from vqgan.conditioning import ClassLabelConfig
from vqgan.data import IdxConfig
from vqgan.denoiser import Denoiser, DenoiserConfig
from vqgan.prior import PriorConfig, PriorShape
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.classifier_task import ClassifierTaskConfig
from vqgan.training.denoiser_task import DenoiserTaskConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.run import ClassifierRun, DataConfig, DenoiserRun, PriorRun, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import TokenizerTaskConfig
from vqgan.types import Batch

CODES, SIDE = 16, 8
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9))


def tokenizer_config(*, channels: int = 1, patch_size: int = 4, **quantizer: Any) -> TokenizerConfig:
    """8x8 pixels to 2x2 tokens of 16 codes."""
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=channels,
            base_channels=32,
            channel_multipliers=(1,),
            num_residual_blocks=1,
            latent_channels=8,
            resolution=SIDE,
            attention_resolutions=(),
            patch_size=patch_size,
        ),
        quantizer=VectorQuantizerConfig(codebook_size=CODES, codebook_dim=4, **quantizer),
    )


def tokenizer(seed: int = 0, **settings: Any) -> Tokenizer:
    """A tokenizer with random weights."""
    torch.manual_seed(seed)
    return Tokenizer(tokenizer_config(**settings))


def random_synthesizer(config: SynthesizerConfig) -> Synthesizer:
    """In float64, where a batch and single runs choose the same tokens; weights so large that all conditions differ."""
    torch.manual_seed(0)
    model = Synthesizer(config).double().eval()
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(model.tokenizer.quantizer.codebook.weight)
    return model


def synthesizer_config(*, dropout: float = 0.0, has_null: bool = False) -> SynthesizerConfig:
    """2x2 tokens of three classes."""
    return SynthesizerConfig(
        tokenizer=tokenizer_config(),
        conditioner=ClassLabelConfig(num_classes=3),
        prior=PriorConfig(
            codebook_size=CODES,
            condition_size=3 + has_null,
            context_length=4,
            depth=1,
            width=16,
            num_heads=2,
            dropout=dropout,
        ),
        window=(2, 2),
    )


def synthesizer(seed: int = 0, **settings: Any) -> Synthesizer:
    """A synthesizer with random weights."""
    torch.manual_seed(seed)
    return Synthesizer(synthesizer_config(**settings))


def classifier_config(**changes: Any) -> ClassifierConfig:
    """Three classes of 8x8 pixels."""
    settings = {
        "encoder": tokenizer_config().autoencoder,
        "image_size": (SIDE, SIDE),
        "class_names": ("0", "1", "2"),
    }
    return ClassifierConfig(**{**settings, **changes})


def classifier(seed: int = 0, **changes: Any) -> Classifier:
    """A classifier with random weights."""
    torch.manual_seed(seed)
    return Classifier(classifier_config(**changes))


def denoiser(seed: int = 0, **settings: Any) -> Denoiser:
    """A denoiser of 8x8 pixels with random weights."""
    torch.manual_seed(seed)
    return Denoiser(DenoiserConfig(encoder=tokenizer_config(**settings).autoencoder))


def images(count: int, *, channels: int = 1, side: int = SIDE, seed: int = 0) -> Tensor:
    """Noise in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, side, side, generator=generator) * 2 - 1


def batch(count: int, *, first: int = 0, **settings: Any) -> Batch:
    """Noise images of the classes 0, 1, 2, 0, ..., with sample numbers from ``first``."""
    numbers = torch.arange(first, first + count)
    return Batch(images(count, **settings), {"class": numbers % 3}, numbers)


def split(whole: Batch, parts: int) -> list[Batch]:
    """The batch in equal micro-batches."""
    pieces = zip(
        whole.images.chunk(parts),
        whole.condition["class"].chunk(parts),
        whole.sample.chunk(parts),
        strict=True,
    )
    return [Batch(pixels, {"class": label}, sample) for pixels, label, sample in pieces]


def data(folder: Path, *, count: int = 10, side: int = 10) -> IdxConfig:
    """Noise images of three classes on disk, a little larger than they are trained on: crops differ."""
    noise = np.random.Generator(np.random.Philox(0))
    for part, number in (("train", count), ("t10k", 4)):
        write_idx(
            folder / f"{part}-images-idx3-ubyte", noise.integers(0, 256, (number, side, side), np.uint8)
        )
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(number, dtype=np.uint8) % 3)
    return IdxConfig(path=str(folder))


def tokenizer_run(source: IdxConfig | None = None, **training: Any) -> TokenizerRun:
    """Four steps with a discriminator that joins after two, averaged weights, re-seeding and augmentation."""
    return TokenizerRun(
        tokenizer=tokenizer_config(),
        task=TokenizerTaskConfig(
            optimizer=OPTIMIZER,
            pixels="l1+l2",
            discriminator=DiscriminatorConfig(start=3, discriminator_start=2, base_channels=4, num_layers=1),
            reseed_after=2,
            reseed_until=1.0,
        ),
        data=DataConfig(source=source, image_size=(SIDE, SIDE), flip=True),
        training=loop(**training),
    )


def prior_run(source: IdxConfig | None = None, **training: Any) -> PriorRun:
    """Four steps with dropout, token corruption and averaged weights; classes come from the data."""
    return PriorRun(
        conditioner=ClassLabelConfig(),
        prior=PriorShape(depth=1, width=16, num_heads=2, dropout=0.2),
        task=PriorTaskConfig(optimizer=OPTIMIZER, token_keep_probability=0.7),
        data=DataConfig(source=source, image_size=(SIDE, SIDE), flip=True),
        training=loop(**training),
    )


def classifier_run(source: IdxConfig | None = None, **training: Any) -> ClassifierRun:
    """Four steps with averaged weights; classes come from the data."""
    return ClassifierRun(
        encoder=classifier_config().encoder,
        task=ClassifierTaskConfig(optimizer=OPTIMIZER),
        data=DataConfig(source=source, image_size=(SIDE, SIDE), flip=True),
        training=loop(**training),
    )


def denoiser_run(source: IdxConfig | None = None, **training: Any) -> DenoiserRun:
    """Four steps with averaged weights."""
    return DenoiserRun(
        encoder=tokenizer_config().autoencoder,
        task=DenoiserTaskConfig(optimizer=OPTIMIZER),
        data=DataConfig(source=source, image_size=(SIDE, SIDE), flip=True),
        training=loop(**training),
    )


def loop(**changes: Any) -> LoopConfig:
    """Four steps of four images; pictures, evaluation and checkpoints only at the end."""
    settings = {
        "steps": 4,
        "batch_size": 4,
        "ema_decay": 0.9,
        "log_every": 1,
        "evaluate_every": 100,
        "evaluate_images": 4,
        "save_every": 100,
        "pictures": 0,
    }
    return LoopConfig(**{**settings, **changes})
