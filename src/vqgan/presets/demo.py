"""The demo: several rooms of Montezuma's Revenge, both stages in minutes on two CPU cores."""

from vqgan.conditioning import UnconditionalConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.tokenizer.encoder import AutoencoderConfig
from vqgan.tokenizer.quantizers import VectorQuantizerConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorShape, PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, TokenizerRun
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import DiscriminatorConfig, TokenizerTaskConfig

IMAGE_SIZE = (96, 80)


def demo_tokenizer() -> TokenizerRun:
    """Frames of 96x80 pixels to 12x10 tokens of 1024 codes."""
    return TokenizerRun(
        tokenizer=TokenizerConfig(
            autoencoder=AutoencoderConfig(
                image_channels=3,
                base_channels=64,
                channel_multipliers=(1, 1),
                num_residual_blocks=1,
                latent_channels=64,
                resolution=96,
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
                start=2700, discriminator_start=2600, base_channels=16, num_layers=2, weight=0.1
            ),
            reseed_after=250,
        ),
        data=DataConfig(image_size=IMAGE_SIZE, crop="center"),
        training=LoopConfig(
            steps=2900, batch_size=4, ema_decay=0.998, log_every=25, save_every=1000, evaluate_every=1000
        ),
    )


def demo_prior() -> PriorRun:
    """A transformer over the 120 tokens of a frame."""
    return PriorRun(
        conditioner=UnconditionalConfig(),
        prior=PriorShape(depth=4, width=128, num_heads=4),
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
        data=DataConfig(image_size=IMAGE_SIZE, crop="center"),
        training=LoopConfig(
            steps=450, batch_size=16, ema_decay=0.99, pictures=4, save_every=300, evaluate_every=150
        ),
    )
