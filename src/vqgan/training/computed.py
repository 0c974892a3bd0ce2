"""Conditions that are computed from the images: what of them only tokenizer and training images tell."""

import logging
from contextlib import closing
from itertools import islice

import msgspec
import torch

from vqgan.conditioning import (
    ConditionerConfig,
    LowResolutionConfig,
    PaletteConfig,
    SingleConfig,
    Text,
    TextConfig,
    TokenizedImageConfig,
    build_conditioner,
    joined,
    parts_of,
)
from vqgan.conditioning.encoded_text import open_text_encoder
from vqgan.conditioning.palette import find_colours, mean_colours
from vqgan.conditioning.text import find_merges
from vqgan.data.loader import training_batches
from vqgan.data.source import Source
from vqgan.errors import require
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers.vector import MAX_SPREAD
from vqgan.training.run import DataConfig, PriorRun

logger = logging.getLogger(__name__)

MAX_TOKENS = 64
"""Of a caption, unless `conditioner.max_tokens` says more."""

MAX_SAMPLES = 256
"""Training samples in which colours are looked for."""


def completed(run: PriorRun, tokenizer: Tokenizer, images: Source | None, seed: int) -> ConditionerConfig:
    """The run's condition with the size of the tokenizer, or with what it lacks of ``images``: colours, words.

    Raises:
        ConfigError: If its colours have other channels than the tokenizer's images.
        DataError: If too many images cannot be read.
    """
    return joined([_completed(each, run.data, tokenizer, images, seed) for each in parts_of(run.conditioner)])


def _completed(
    config: SingleConfig, data: DataConfig, tokenizer: Tokenizer, images: Source | None, seed: int
) -> SingleConfig:
    channels = tokenizer.image_channels
    if isinstance(config, LowResolutionConfig) or (
        isinstance(config, TokenizedImageConfig) and not config.codebook_size
    ):
        return msgspec.structs.replace(config, codebook_size=tokenizer.codebook_size)
    if isinstance(config, TextConfig) and images is not None:
        return _with_words(config, images)
    if not isinstance(config, PaletteConfig):
        return config
    if not config.colours and images is not None:
        colours = _colours(images, data, tokenizer, config.num_colours, seed)
        config = msgspec.structs.replace(config, colours=colours)
    require(
        not config.colours or len(config.colours[0]) == channels,
        f"`conditioner.colours` are {config.colours}, expected {channels} channels, as the tokenizer's images have",
        hint="omit them, so that they are found in the images",
    )
    return config


def _colours(
    images: Source, data: DataConfig, tokenizer: Tokenizer, count: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """The colours of the cells of the first training samples: of all cells until there are enough for k-means."""
    rows, columns = tokenizer.grid_size(data.image_size)
    samples = min(MAX_SAMPLES, -(-MAX_SPREAD // (rows * columns)))
    transform = msgspec.structs.replace(data, context=0).transform(tokenizer.image_channels)
    with closing(training_batches(images, transform, batch_size=min(samples, 32), seed=seed)) as batches:
        cells = [mean_colours(batch.images, (rows, columns)) for batch in islice(batches, -(-samples // 32))]
    found = find_colours(torch.cat(cells).flatten(0, 1), count, torch.Generator().manual_seed(seed))
    logger.info("the palette's colours are %s", ", ".join(map(str, found)))
    return found


def _with_words(config: TextConfig, images: Source) -> TextConfig:
    """A text's condition with vocabulary or encoder, and the length of training captions; logs how many are longer."""
    texts, most = [text for each in images.captions for text in each], config.max_tokens or MAX_TOKENS
    if config.encoder:
        found = open_text_encoder(config)[-1]
    else:
        merges = config.merges or find_merges(texts, config.num_merges)
        found = msgspec.structs.replace(config, merges=merges)
    reader = build_conditioner(msgspec.structs.replace(found, max_tokens=most))
    assert isinstance(reader, Text)
    lengths = [len(reader.read(text)) for text in texts]
    most = config.max_tokens or min(max(lengths, default=1), most)
    longer = sum(length > most for length in lengths)
    logger.info("%d captions of at most %d tokens; %d are longer and will be cut", len(texts), most, longer)
    return msgspec.structs.replace(found, max_tokens=most)


def refuse_cached(synthesizer: Synthesizer, data: DataConfig) -> None:
    """Raises ConfigError if the condition is computed from each sample's image, but samples are cached codes."""
    blank = torch.zeros(1, synthesizer.tokenizer.image_channels, *data.image_size)
    names = list(synthesizer.conditioner.from_images(blank)) if data.cached_codes else []
    require(
        not names,
        f"`data.cached_codes` is {data.cached_codes}, but `{''.join(names[:1])}` is computed from each sample's image, "
        "and samples of cached codes have none",
        hint="set `data.cached_codes=0`",
    )
