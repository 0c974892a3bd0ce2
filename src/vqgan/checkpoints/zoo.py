"""The architectures of the published models, as functions that return our configurations.

Any of them can be built, and its key list checked, without its weights. Sizes are those of the published
configurations (see :mod:`vqgan.checkpoints.zoo_entries` for where they lie) and of Esser et al. 2021, table 8.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from vqgan.checkpoints.zoo_entries import find_entry
from vqgan.conditioning import (
    ClassLabelConfig,
    ConditionerConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig, VectorQuantizerConfig


class PriorSizes(NamedTuple):
    """What distinguishes the priors: transformer blocks, their width, their heads, dropout."""

    depth: int
    width: int
    num_heads: int
    dropout: float = 0.0


MEDIUM = PriorSizes(24, 1024, 16)
"""The paper's default: GPT2-medium."""

_WIDE = PriorSizes(24, 1664, 16)
_COCO = PriorSizes(32, 1280, 16)
_ADE20K = PriorSizes(28, 1024, 16, dropout=0.1)
_IMAGENET = PriorSizes(48, 1536, 24)
_COCO_SCENE = PriorSizes(40, 1408, 16, dropout=0.1)
_OPEN_IMAGES_SCENE = PriorSizes(36, 1536, 16, dropout=0.1)

_SIDE = 16
"""Of the window of every published prior, in tokens."""


def autoencoder(
    multipliers: tuple[int, ...], *, attention: tuple[int, ...], latent_channels: int = 256, channels: int = 3
) -> AutoencoderConfig:
    """Encoder and decoder for 256x256 pixels, 128 channels at full size and two residual blocks at each level."""
    return AutoencoderConfig(
        image_channels=channels,
        base_channels=128,
        channel_multipliers=multipliers,
        num_residual_blocks=2,
        latent_channels=latent_channels,
        resolution=256,
        attention_resolutions=attention,
    )


def f16_tokenizer(
    codes: int, *, channels: int = 3, loss_convention: Literal["paper", "original"] = "original"
) -> TokenizerConfig:
    """The paper's first stage: 256x256 pixels to 16x16 tokens (Esser et al. 2021, appendix A).

    Args:
        codes: Size of the codebook.
        channels: Of its images; label maps have one for each label, depth has one.
        loss_convention: On which side of the codebook's loss the weight stands; the published models' is the
            original's, and nothing but training depends on it.
    """
    return TokenizerConfig(
        autoencoder=autoencoder((1, 1, 2, 2, 4), attention=(16,), channels=channels),
        quantizer=VectorQuantizerConfig(
            codebook_size=codes, codebook_dim=256, loss_convention=loss_convention
        ),
    )


def gumbel_tokenizer() -> TokenizerConfig:
    """Factor 8 with Gumbel codes."""
    return TokenizerConfig(
        autoencoder=autoencoder((1, 1, 2, 4), attention=(32,)),
        quantizer=GumbelQuantizerConfig(codebook_size=8192, codebook_dim=256),
    )


def narrow_tokenizer(
    multipliers: tuple[int, ...], codes: int, codebook_dim: int, *, attention: tuple[int, ...]
) -> TokenizerConfig:
    """A first stage of latent diffusion (Rombach et al. 2022): codes of few dimensions."""
    return TokenizerConfig(
        autoencoder=autoencoder(multipliers, attention=attention, latent_channels=codebook_dim),
        quantizer=VectorQuantizerConfig(
            codebook_size=codes, codebook_dim=codebook_dim, loss_convention="original"
        ),
    )


def llamagen_tokenizer(multipliers: tuple[int, ...]) -> TokenizerConfig:
    """A tokenizer of LlamaGen (Sun et al. 2024): 16384 codes of 8 dimensions, compared at length 1."""
    return TokenizerConfig(
        autoencoder=autoencoder(multipliers, attention=(256 >> (len(multipliers) - 1),)),
        quantizer=VectorQuantizerConfig(codebook_size=16384, codebook_dim=8, normalize=True),
    )


def synthesizer(codes: int, conditioner: ConditionerConfig, sizes: PriorSizes) -> SynthesizerConfig:
    """A second stage on a factor-16 tokenizer; the codes and the condition share one table of vectors."""
    condition = conditioner.num_tokens((_SIDE, _SIDE))
    # Published contexts have room for all tokens, of which the last is never fed; a single one in front
    # takes its place.
    length = _SIDE**2 + (condition if condition > 1 else 0)
    return SynthesizerConfig(
        tokenizer=f16_tokenizer(codes),
        conditioner=conditioner,
        prior=PriorConfig(
            codebook_size=codes,
            condition_size=conditioner.vocabulary_size,
            context_length=length,
            depth=sizes.depth,
            width=sizes.width,
            num_heads=sizes.num_heads,
            dropout=sizes.dropout,
            vocabulary="shared",
        ),
        window=(_SIDE, _SIDE),
    )


def tokenized(image: str, channels: int) -> TokenizedImageConfig:
    """A depth or label map as the tokens of a tokenizer of its own."""
    return TokenizedImageConfig(
        image=image, tokenizer=f16_tokenizer(1024, channels=channels), codebook_size=1024
    )


def boxes(*, use_additional: bool) -> SceneLayoutConfig:
    """Up to 30 boxes; the configurations do not say how many classes there are, any code but the last may be one."""
    return SceneLayoutConfig(
        num_classes=8191,
        max_objects=30,
        vocabulary_size=8192,
        encode_crop=True,
        use_group=True,
        use_additional=use_additional,
    )


_coordinates = partial(CoordinatesConfig, num_values=1024, downsample_factor=_SIDE)

MODELS: dict[str, Callable[[], TokenizerConfig | SynthesizerConfig]] = {
    "vqgan_imagenet_f16_1024": lambda: f16_tokenizer(1024),
    "vqgan_imagenet_f16_16384": lambda: f16_tokenizer(16384),
    "vqgan_gumbel_f8": gumbel_tokenizer,
    "imagenet_vqgan": lambda: f16_tokenizer(1024),
    "imagenetdepth_vqgan": lambda: f16_tokenizer(1024, channels=1),
    "faceshq_vqgan": lambda: f16_tokenizer(1024),
    "coco_8k_vqgan": lambda: f16_tokenizer(8192),
    "coco_oi_8k_vqgan": lambda: f16_tokenizer(8192),
    "vq-f4": lambda: narrow_tokenizer((1, 2, 4), 8192, 3, attention=()),
    "vq-f8": lambda: narrow_tokenizer((1, 2, 2, 4), 16384, 4, attention=(32,)),
    "vq-f8-n256": lambda: narrow_tokenizer((1, 2, 2, 4), 256, 4, attention=(32,)),
    "vq-f16": lambda: narrow_tokenizer((1, 1, 2, 2, 4), 16384, 8, attention=(16,)),
    "vq_ds16_c2i": lambda: llamagen_tokenizer((1, 1, 2, 2, 4)),
    "vq_ds8_c2i": lambda: llamagen_tokenizer((1, 2, 2, 4)),
    "vq_ds16_t2i": lambda: llamagen_tokenizer((1, 1, 2, 2, 4)),
    "sflckr": lambda: synthesizer(1024, tokenized("segmentation", 182), MEDIUM),
    "faceshq_transformer": lambda: synthesizer(1024, _coordinates(), MEDIUM),
    "drin_transformer": lambda: synthesizer(1024, tokenized("depth", 1), MEDIUM),
    "coco_transformer": lambda: synthesizer(8192, tokenized("segmentation", 183), _COCO),
    "ade20k_transformer": lambda: synthesizer(4096, tokenized("segmentation", 151), _ADE20K),
    "ffhq_transformer": lambda: synthesizer(1024, UnconditionalConfig(), _WIDE),
    "celebahq_transformer": lambda: synthesizer(1024, UnconditionalConfig(), _WIDE),
    "cin_transformer": lambda: synthesizer(16384, ClassLabelConfig(num_classes=1000), _IMAGENET),
    "coco_scene_30": lambda: synthesizer(8192, boxes(use_additional=False), _COCO_SCENE),
    "coco_scene_60": lambda: synthesizer(8192, boxes(use_additional=False), _COCO_SCENE),
    "open_images_scene": lambda: synthesizer(8192, boxes(use_additional=True), _OPEN_IMAGES_SCENE),
}
"""The architectures by the names of :data:`vqgan.checkpoints.zoo_entries.ENTRIES`."""


def model_config(name: str) -> TokenizerConfig | SynthesizerConfig:
    """What a published model is.

    Raises:
        ConfigError: If no published model of that name is known.
    """
    return MODELS[find_entry(name).name]()
