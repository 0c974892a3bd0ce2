"""Named runs: model, task and settings as Python functions. To add one, write a function and a row here."""

from collections.abc import Callable
from dataclasses import dataclass

from vqgan.presets.demo import demo_prior, demo_tokenizer
from vqgan.presets.digits import digits_prior, digits_tokenizer, mnist_prior, mnist_tokenizer
from vqgan.presets.photographs import f16_prior, f16_tokenizer, half_prior, small_prior, small_tokenizer
from vqgan.training.run import Run


@dataclass(frozen=True)
class Preset:
    """A named run.

    Attributes:
        make: Builds it.
        summary: One line for ``vqgan presets``.
    """

    make: Callable[[], Run]
    summary: str


PRESETS: dict[str, Preset] = {
    "demo-tokenizer": Preset(
        demo_tokenizer, "Atari frames 96x80, factor 8: the demo's first stage, 6 minutes on 2 cores"
    ),
    "demo-prior": Preset(demo_prior, "the demo's second stage, 2 minutes on 2 cores"),
    "digits-tokenizer": Preset(digits_tokenizer, "grey 8x8 digits, factor 2: minutes on a CPU"),
    "digits-prior": Preset(digits_prior, "classes of 8x8 digits: minutes on a CPU"),
    "mnist-tokenizer": Preset(mnist_tokenizer, "grey 28x28 digits, factor 4, 49 tokens"),
    "mnist-prior": Preset(mnist_prior, "classes of 28x28 digits"),
    "small-tokenizer": Preset(
        small_tokenizer, "colour 128x128, factor 8, no perceptual loss: one small GPU, or a patient CPU"
    ),
    "small-prior": Preset(small_prior, "256 tokens without condition, on small-tokenizer"),
    "f16-tokenizer": Preset(
        f16_tokenizer, "colour 256x256, factor 16, 1024 codes, LPIPS and adversary: the paper's model"
    ),
    "f16-prior": Preset(
        f16_prior, "256 tokens without condition, 24 layers of width 1024: the paper's model"
    ),
    "half-prior": Preset(
        half_prior,
        "256 tokens of f16-tokenizer, 12 layers of width 832: the COCO prior halved, one small card",
    ),
}
