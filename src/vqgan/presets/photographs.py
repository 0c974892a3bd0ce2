"""Runs for one's own photographs: a small one, and the paper's."""

from vqgan.checkpoints import zoo
from vqgan.conditioning import UnconditionalConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.tokenizer.encoder import AutoencoderConfig
from vqgan.tokenizer.quantizers import VectorQuantizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorShape, PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, PerceptualConfig, TokenizerTaskConfig

LAPTOP = DataConfig(image_size=(128, 128), resize=(128, 256), flip=True)
"""Crops that hold between a quarter and all of a square picture."""


def laptop_tokenizer() -> TokenizerRun:
    """128x128 pixels to 16x16 tokens of 1024 codes, in minutes on two cores."""
    return TokenizerRun(
        tokenizer=TokenizerConfig(
            autoencoder=AutoencoderConfig(
                image_channels=3,
                base_channels=64,
                channel_multipliers=(1, 1),
                num_residual_blocks=1,
                latent_channels=64,
                resolution=128,
                attention_resolutions=(),
                patch_size=4,
            ),
            quantizer=VectorQuantizerConfig(codebook_size=1024, codebook_dim=16, normalize=True),
        ),
        task=TokenizerTaskConfig(
            optimizer=OptimizerConfig(
                learning_rate=2e-3, betas=(0.8, 0.9), warmup_steps=50, decay="cosine", clip_norm=1.0
            ),
            pixels="l1+l2",
            hard_share=0.05,
            discriminator=DiscriminatorConfig(
                start=1350, discriminator_start=1300, base_channels=16, num_layers=2, weight=0.1
            ),
            reseed_after=50,
        ),
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
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                betas=(0.9, 0.95),
                weight_decay=0.01,
                warmup_steps=50,
                decay="cosine",
                clip_norm=1.0,
            ),
            token_keep_probability=0.9,
        ),
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
            optimizer=OptimizerConfig(
                learning_rate=4e-4, betas=(0.9, 0.99), warmup_steps=500, decay="cosine", clip_norm=1.0
            ),
            pixels="l1+l2",
            discriminator=DiscriminatorConfig(start=10_000, discriminator_start=9_000, weight=0.2),
            reseed_after=100,
        ),
        data=DataConfig(image_size=(128, 128), flip=True, workers=2),
        training=LoopConfig(
            steps=30_000, batch_size=16, ema_decay=0.999, evaluate_every=1000, save_every=1000
        ),
    )


def small_prior() -> PriorRun:
    """16x16 tokens, 12 layers of width 512."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=12, width=512, num_heads=8, dropout=0.1),
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(
                learning_rate=3e-4,
                betas=(0.9, 0.95),
                weight_decay=0.01,
                warmup_steps=500,
                decay="cosine",
                clip_norm=1.0,
            ),
            token_keep_probability=0.9,
        ),
        data=DataConfig(image_size=(128, 128), flip=True, workers=2),
        training=LoopConfig(
            steps=30_000, batch_size=32, ema_decay=0.999, evaluate_every=1000, save_every=1000
        ),
    )


def f16_tokenizer() -> TokenizerRun:
    """The paper's first stage: 256x256 pixels to 16x16 tokens of 1024 codes (Esser et al. 2021, appendix A)."""
    return TokenizerRun(
        tokenizer=zoo.f16_tokenizer(1024, loss_convention="paper"),
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
    sizes = zoo.MEDIUM
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=sizes.depth, width=sizes.width, num_heads=sizes.num_heads),
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
        task=PriorTaskConfig(
            optimizer=OptimizerConfig(
                learning_rate=2e-4,
                betas=(0.9, 0.95),
                weight_decay=0.01,
                warmup_steps=1000,
                decay="cosine",
                clip_norm=1.0,
            ),
            token_keep_probability=0.9,
        ),
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
