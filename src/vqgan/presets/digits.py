"""Handwritten digits: small enough for a few minutes on a CPU."""

from vqgan.conditioning import ClassLabelConfig
from vqgan.data import DigitsConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.tokenizer.encoder import AutoencoderConfig
from vqgan.tokenizer.quantizers import VectorQuantizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorShape, PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import TokenizerTaskConfig


def digits_tokenizer() -> TokenizerRun:
    """scikit-learn's digits: 8x8 grey pixels to 4x4 tokens of 64 codes."""
    return TokenizerRun(
        tokenizer=_tokenizer(resolution=8, codebook_size=64),
        task=_task(warmup_steps=20),
        data=DataConfig(source=DigitsConfig(), image_size=(8, 8), crop="center"),
        training=LoopConfig(steps=1000, batch_size=64, ema_decay=0.99, evaluate_every=250, save_every=250),
    )


def digits_prior() -> PriorRun:
    """The ten classes of scikit-learn's digits."""
    return PriorRun(
        conditioner=ClassLabelConfig(num_classes=10),
        prior=PriorShape(depth=3, width=96, num_heads=4, dropout=0.1),
        task=_prior_task(warmup_steps=50),
        data=DataConfig(source=DigitsConfig(), image_size=(8, 8), crop="center"),
        training=LoopConfig(steps=1500, batch_size=64, ema_decay=0.99, evaluate_every=250, save_every=500),
    )


def mnist_tokenizer() -> TokenizerRun:
    """Digits of 28x28 grey pixels (IDX files given by ``--data``) to 7x7 tokens of 128 codes."""
    return TokenizerRun(
        tokenizer=_tokenizer(resolution=28, codebook_size=128, patch_size=2),
        task=_task(warmup_steps=50),
        data=DataConfig(image_size=(28, 28), crop="center"),
        training=LoopConfig(steps=3000, batch_size=64, ema_decay=0.995),
    )


def mnist_prior() -> PriorRun:
    """The ten classes of 28x28 digits, 49 tokens each."""
    return PriorRun(
        conditioner=ClassLabelConfig(num_classes=10),
        prior=PriorShape(depth=4, width=128, num_heads=4, dropout=0.1),
        task=_prior_task(warmup_steps=100),
        data=DataConfig(image_size=(28, 28), crop="center"),
        training=LoopConfig(steps=5000, batch_size=64, ema_decay=0.995),
    )


def _tokenizer(*, resolution: int, codebook_size: int, patch_size: int = 1) -> TokenizerConfig:
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=1,
            base_channels=32,
            channel_multipliers=(1, 2),
            num_residual_blocks=1,
            latent_channels=64,
            resolution=resolution,
            attention_resolutions=(),
            patch_size=patch_size,
        ),
        quantizer=VectorQuantizerConfig(codebook_size=codebook_size, codebook_dim=8, normalize=True),
    )


def _task(*, warmup_steps: int) -> TokenizerTaskConfig:
    return TokenizerTaskConfig(
        optimizer=OptimizerConfig(
            learning_rate=1e-3, betas=(0.9, 0.99), warmup_steps=warmup_steps, decay="cosine", clip_norm=1.0
        ),
        pixels="l1+l2",
        reseed_after=50,
    )


def _prior_task(*, warmup_steps: int) -> PriorTaskConfig:
    return PriorTaskConfig(
        optimizer=OptimizerConfig(
            learning_rate=1e-3,
            betas=(0.9, 0.95),
            weight_decay=0.01,
            warmup_steps=warmup_steps,
            decay="cosine",
            clip_norm=1.0,
        ),
        token_keep_probability=0.9,
    )
