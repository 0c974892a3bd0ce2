"""Encoding and decoding within a budget of memory: whole where that fits, else in bands of rows."""

from collections.abc import Iterator

import torch
from jaxtyping import Integer
from torch import Tensor

from vqgan.tokenizer.memory import decoding, encoding
from vqgan.tokenizer.streaming import Stream, plan_bands
from vqgan.tokenizer.tokenizer import Tokenizer
from vqgan.types import Images, Indices, OnProgress, check_grids, check_indices, check_values


@torch.no_grad()
def encode_within(
    tokenizer: Tokenizer, images: Images, memory: int, on_progress: OnProgress | None = None
) -> Indices:
    """The images as grids of codebook indices, within a budget of memory.

    What fits passes whole, with the result of ``tokenizer.encode``: all images, else fewer at a time. An image that
    does not fit streams, with the same result but for rounding. By itself or in a batch, it passes in the same way.

    Args:
        tokenizer: In evaluation mode; its weights decide about precision and device.
        images: As :meth:`Tokenizer.encode` takes them.
        memory: Bytes beside the weights, the images included; an estimate is kept to it (:class:`Passage`).
        on_progress: Where images stream, told after each band of rows how much is done.

    Raises:
        ConfigError: If ``memory`` is too little even so, and as :meth:`Tokenizer.encode`.
        OutputError: If the maps that memory does not hold find no room in the folder for temporary files.
    """
    tokenizer.check(images)
    check_values(images)
    size = (images.shape[2], images.shape[3])
    passage = encoding(tokenizer, size, count=len(images), element=images.element_size())
    if batch_size := passage.batch_size(memory):
        parts = [tokenizer.encode(part) for part in images.split(batch_size)]
    else:
        stream = Stream(tokenizer, passage, doing="encoding", memory=memory, on_progress=on_progress)
        parts = [tokenizer.quantizer.encode(stream.encode(image)) for image in images.split(1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def decode_within(
    tokenizer: Tokenizer,
    indices: Integer[Tensor, "b h w"],
    memory: int,
    on_progress: OnProgress | None = None,
) -> Images:
    """The images of grids of codebook indices, not clamped; arguments and errors as in :func:`encode_within`."""
    check_grids(indices)
    passage = decoding(tokenizer, (indices.shape[1], indices.shape[2]), count=len(indices))
    batch_size = passage.batch_size(memory)
    if batch_size == len(indices):
        return tokenizer.decode(indices)
    check_indices(indices.to(torch.int64), tokenizer.codebook_size)
    images = tokenizer.weight.new_empty(len(indices), tokenizer.image_channels, *passage.size)
    if batch_size:
        for image, grids in zip(images.split(batch_size), indices.split(batch_size), strict=True):
            image.copy_(tokenizer.decode(grids))
    else:
        stream = Stream(tokenizer, passage, doing="decoding", memory=memory, on_progress=on_progress)
        for image, grids in zip(images.split(1), indices.split(1), strict=True):
            top = 0
            for band in stream.decode(grids):
                image[:, :, top : (top := top + band.shape[2])] = band
    return images


def decode_rows(
    tokenizer: Tokenizer,
    indices: Integer[Tensor, "1 h w"],
    memory: int,
    on_progress: OnProgress | None = None,
) -> Iterator[Images]:
    """The image of one grid as bands of rows, from top to bottom: it need not fit in memory.

    Arguments and errors as in :func:`encode_within`; the pixels are those of :func:`decode_within`.
    """
    check_grids(indices)
    check_indices(indices.to(torch.int64), tokenizer.codebook_size)
    grid = (indices.shape[1], indices.shape[2])
    if decoding(tokenizer, grid, count=1).batch_size(memory):
        bands: Iterator[Images] = (tokenizer.decode(part) for part in (indices,))
    else:
        passage = decoding(tokenizer, grid, count=1, is_held=False)
        stream = Stream(tokenizer, passage, doing="decoding", memory=memory, on_progress=on_progress)
        bands = stream.decode(indices)
    while True:
        with torch.no_grad():  # not around a `yield`: that would reach the caller's code
            band = next(bands, None)
        if band is None:
            return
        yield band


def check_decoding(tokenizer: Tokenizer, grid: tuple[int, int], memory: int, *, is_held: bool = True) -> None:
    """Raises ConfigError if images of this token grid, however many, cannot be decoded within ``memory`` bytes.

    Args:
        tokenizer: The tokenizer.
        grid: Rows and columns.
        memory: Bytes.
        is_held: Whether the images must be in memory, as for :func:`decode_within`.
    """
    passage = decoding(tokenizer, grid, count=1, is_held=is_held)
    if not passage.batch_size(memory):
        plan_bands(passage, memory)
