"""A second stage for one small card: the published COCO prior with half its depth and less of its width."""

from vqgan.conditioning import UnconditionalConfig
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorShape, PriorTaskConfig
from vqgan.training.run import PriorRun
from vqgan.training.settings import DataConfig, LoopConfig


def half_prior() -> PriorRun:
    """256 tokens of 1024 codes, 12 layers of width 832, in micro-batches of 8; on the tokenizer of `f16-tokenizer`."""
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
