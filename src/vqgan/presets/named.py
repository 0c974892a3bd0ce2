"""The named runs: what is trained, how, on which images, and for how long."""

from collections.abc import Callable

from vqgan.checkpoints.architectures import tokenizer_config
from vqgan.checkpoints.zoo import TokenizerSizes
from vqgan.conditioning import ClassLabelConfig, UnconditionalConfig
from vqgan.data.digits import DigitsConfig
from vqgan.prior import PriorShape
from vqgan.tokenizer import TokenizerConfig
from vqgan.tokenizer.encoder import AutoencoderConfig
from vqgan.tokenizer.quantizers import VectorQuantizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, Run, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, PerceptualConfig, TokenizerTaskConfig

DEMO = DataConfig(image_size=(96, 80), crop="center")
DIGITS = DataConfig(source=DigitsConfig(), image_size=(8, 8), crop="center")
MNIST = DataConfig(image_size=(28, 28), crop="center")
LAPTOP = DataConfig(image_size=(128, 128), resize=(128, 256), flip=True)
"""Crops that hold between a quarter and all of a square picture."""
SMALL = DataConfig(image_size=(128, 128), flip=True, workers=2)


def demo_tokenizer() -> TokenizerRun:
    """Frames of 96x80 pixels to 12x10 tokens of 1024 codes."""
    return TokenizerRun(
        tokenizer=_colour_tokenizer(resolution=96, patch_size=4),
        task=_light_task(start=2700, discriminator_start=2600, reseed_after=250),
        data=DEMO,
        training=LoopConfig(
            steps=2900, batch_size=4, ema_decay=0.998, log_every=25, save_every=1000, evaluate_every=1000
        ),
    )


def demo_prior() -> PriorRun:
    """A transformer over the 120 tokens of a frame."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=4, width=128, num_heads=4),
        task=_prior_task(2e-3, warmup_steps=50),
        data=DEMO,
        training=LoopConfig(
            steps=450, batch_size=16, ema_decay=0.99, pictures=4, save_every=300, evaluate_every=150
        ),
    )


def digits_tokenizer() -> TokenizerRun:
    """scikit-learn's digits: 8x8 grey pixels to 4x4 tokens of 64 codes."""
    return TokenizerRun(
        tokenizer=_grey_tokenizer(resolution=8, patch_size=1, codebook_size=64),
        task=_grey_task(warmup_steps=20),
        data=DIGITS,
        training=LoopConfig(steps=1000, batch_size=64, ema_decay=0.99, evaluate_every=250, save_every=250),
    )


def digits_prior() -> PriorRun:
    """The ten classes of scikit-learn's digits."""
    return PriorRun(
        conditioner=ClassLabelConfig(num_classes=10),
        prior=PriorShape(depth=3, width=96, num_heads=4, dropout=0.1),
        task=_prior_task(1e-3, warmup_steps=50),
        data=DIGITS,
        training=LoopConfig(steps=1500, batch_size=64, ema_decay=0.99, evaluate_every=250, save_every=500),
    )


def mnist_tokenizer() -> TokenizerRun:
    """Digits of 28x28 grey pixels (IDX files given by ``--data``) to 7x7 tokens of 128 codes."""
    return TokenizerRun(
        tokenizer=_grey_tokenizer(resolution=28, patch_size=2, codebook_size=128),
        task=_grey_task(warmup_steps=50),
        data=MNIST,
        training=LoopConfig(steps=3000, batch_size=64, ema_decay=0.995),
    )


def mnist_prior() -> PriorRun:
    """The ten classes of 28x28 digits, 49 tokens each."""
    return PriorRun(
        conditioner=ClassLabelConfig(num_classes=10),
        prior=PriorShape(depth=4, width=128, num_heads=4, dropout=0.1),
        task=_prior_task(1e-3, warmup_steps=100),
        data=MNIST,
        training=LoopConfig(steps=5000, batch_size=64, ema_decay=0.995),
    )


def laptop_tokenizer() -> TokenizerRun:
    """128x128 pixels to 16x16 tokens of 1024 codes, in minutes on two cores."""
    return TokenizerRun(
        tokenizer=_colour_tokenizer(resolution=128, patch_size=4),
        task=_light_task(start=1350, discriminator_start=1300, reseed_after=50),
        data=LAPTOP,
        training=LoopConfig(
            steps=1500, batch_size=8, ema_decay=0.998, log_every=25, save_every=250, evaluate_every=250
        ),
    )


def laptop_prior() -> PriorRun:
    """A transformer over the 256 tokens of laptop-tokenizer, in minutes on two cores."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=4, width=192, num_heads=6, dropout=0.1),
        task=_prior_task(2e-3, warmup_steps=50),
        data=LAPTOP,
        training=LoopConfig(
            steps=500, batch_size=12, ema_decay=0.99, pictures=4, save_every=200, evaluate_every=200
        ),
    )


def small_tokenizer() -> TokenizerRun:
    """128x128 pixels to 16x16 tokens of 1024 codes; needs no downloaded weights."""
    return TokenizerRun(
        tokenizer=TokenizerConfig(
            autoencoder=AutoencoderConfig(
                image_channels=3,
                base_channels=64,
                channel_multipliers=(1, 2, 2),
                num_residual_blocks=2,
                latent_channels=128,
                resolution=128,
                attention_resolutions=(16,),
                patch_size=2,
            ),
            quantizer=VectorQuantizerConfig(codebook_size=1024, codebook_dim=16, normalize=True),
        ),
        task=TokenizerTaskConfig(
            optimizer=_optimizer(4e-4, (0.9, 0.99), warmup_steps=500),
            pixels="l1+l2",
            discriminator=DiscriminatorConfig(start=10_000, discriminator_start=9_000, weight=0.2),
            reseed_after=100,
        ),
        data=SMALL,
        training=LoopConfig(
            steps=30_000, batch_size=16, ema_decay=0.999, evaluate_every=1000, save_every=1000
        ),
    )


def small_prior() -> PriorRun:
    """16x16 tokens, 12 layers of width 512."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=12, width=512, num_heads=8, dropout=0.1),
        task=_prior_task(3e-4, warmup_steps=500),
        data=SMALL,
        training=LoopConfig(
            steps=30_000, batch_size=32, ema_decay=0.999, evaluate_every=1000, save_every=1000
        ),
    )


def f16_tokenizer() -> TokenizerRun:
    """The paper's first stage: 256x256 pixels to 16x16 tokens of 1024 codes (Esser et al. 2021, appendix A)."""
    return TokenizerRun(
        tokenizer=tokenizer_config(
            TokenizerSizes(codes=1024, multipliers=(1, 1, 2, 2, 4)), loss_convention="paper"
        ),
        task=TokenizerTaskConfig(
            optimizer=OptimizerConfig(learning_rate=5.4e-5, betas=(0.5, 0.9)),
            perceptual=PerceptualConfig(),
            discriminator=DiscriminatorConfig(start=30_000),
        ),
        data=DataConfig(image_size=(256, 256), workers=4),
        training=LoopConfig(
            steps=250_000, batch_size=12, ema_decay=0.9999, evaluate_every=5000, save_every=2500
        ),
    )


def f16_prior() -> PriorRun:
    """The paper's default second stage, without condition."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=24, width=1024, num_heads=16),
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(
                learning_rate=1e-4, betas=(0.9, 0.95), weight_decay=0.01, warmup_steps=2000, clip_norm=1.0
            )
        ),
        data=DataConfig(image_size=(256, 256), workers=4),
        training=LoopConfig(
            steps=250_000, batch_size=16, ema_decay=0.9999, evaluate_every=5000, save_every=2500
        ),
    )


def half_prior() -> PriorRun:
    """A second stage for one small card: the published COCO prior with half its depth and less of its width.

    256 tokens of 1024 codes, in micro-batches of 8, on the tokenizer of `f16-tokenizer`.
    """
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=12, width=832, num_heads=16, dropout=0.1),
        task=_prior_task(2e-4, warmup_steps=1000),
        data=DataConfig(image_size=(256, 256), flip=True, workers=4),
        training=LoopConfig(
            steps=100_000,
            batch_size=32,
            accumulate=4,
            ema_decay=0.9999,
            evaluate_every=2500,
            save_every=2500,
        ),
    )


def _colour_tokenizer(*, resolution: int, patch_size: int) -> TokenizerConfig:
    """1024 codes; light enough for two cores."""
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=3,
            base_channels=64,
            channel_multipliers=(1, 1),
            num_residual_blocks=1,
            latent_channels=64,
            resolution=resolution,
            attention_resolutions=(),
            patch_size=patch_size,
        ),
        quantizer=VectorQuantizerConfig(codebook_size=1024, codebook_dim=16, normalize=True),
    )


def _grey_tokenizer(*, resolution: int, patch_size: int, codebook_size: int) -> TokenizerConfig:
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


def _light_task(*, start: int, discriminator_start: int, reseed_after: int) -> TokenizerTaskConfig:
    """A small discriminator that joins shortly before the end."""
    return TokenizerTaskConfig(
        optimizer=_optimizer(2e-3, (0.8, 0.9), warmup_steps=50),
        pixels="l1+l2",
        hard_share=0.05,
        discriminator=DiscriminatorConfig(
            start=start, discriminator_start=discriminator_start, base_channels=16, num_layers=2, weight=0.1
        ),
        reseed_after=reseed_after,
    )


def _grey_task(*, warmup_steps: int) -> TokenizerTaskConfig:
    return TokenizerTaskConfig(
        optimizer=_optimizer(1e-3, (0.9, 0.99), warmup_steps), pixels="l1+l2", reseed_after=50
    )


def _prior_task(learning_rate: float, *, warmup_steps: int) -> PriorTaskConfig:
    optimizer = _optimizer(learning_rate, (0.9, 0.95), warmup_steps, weight_decay=0.01)
    return PriorTaskConfig(optimizer=optimizer, token_keep_probability=0.9)


def _optimizer(
    learning_rate: float, betas: tuple[float, float], warmup_steps: int, *, weight_decay: float = 0.0
) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=learning_rate,
        betas=betas,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        decay="cosine",
        clip_norm=1.0,
    )


RUNS: dict[str, Callable[[], Run]] = {
    "demo-tokenizer": demo_tokenizer,
    "demo-prior": demo_prior,
    "digits-tokenizer": digits_tokenizer,
    "digits-prior": digits_prior,
    "mnist-tokenizer": mnist_tokenizer,
    "mnist-prior": mnist_prior,
    "laptop-tokenizer": laptop_tokenizer,
    "laptop-prior": laptop_prior,
    "small-tokenizer": small_tokenizer,
    "small-prior": small_prior,
    "f16-tokenizer": f16_tokenizer,
    "f16-prior": f16_prior,
    "half-prior": half_prior,
}
