"""Decoding with gradients within a budget of memory: layers are computed again in the backward pass."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vqgan.errors import require
from vqgan.nn.convolution import ResidualBlock, SpatialAttention, Upsample
from vqgan.tokenizer.autoencoder import Decoder
from vqgan.tokenizer.memory import RESERVE, decoding
from vqgan.tokenizer.tokenizer import Tokenizer
from vqgan.types import Images, Latents

_KEPT = {ResidualBlock: 4, SpatialAttention: 8, Upsample: 2}
"""Maps of its own size that a layer keeps for the backward pass; others keep one."""

_BACKWARD, _AGAIN = 6, 7
"""The largest maps that exist beside what is kept: in the backward pass, and where layers are computed again."""


def decode_with_gradient(tokenizer: Tokenizer, quantized: Latents, memory: int) -> Images:
    """The images of codebook vectors, not clamped, for a backward pass that keeps within a budget of memory.

    What goes into each convolution and norm is kept where that fits; norms and activations, which cost little time, are
    computed again in the backward pass. Else only what goes into each layer is kept, and the whole layer is computed
    again: the same gradient for about a third more time. The estimate is for weights that want no gradient.

    Args:
        tokenizer: In evaluation mode.
        quantized: Codebook vectors (b d h w), ``d = codebook_dim``.
        memory: Bytes beside the weights; at least what :func:`check_gradient` gives is taken.
    """
    decoder, (rows, columns) = tokenizer.decoder, quantized.shape[2:]
    whole, _ = gradient_memory(tokenizer, (rows, columns), count=len(quantized))
    if not isinstance(decoder, Decoder):
        return tokenizer.decode_latents(quantized)
    hidden = tokenizer.from_codebook(quantized.to(tokenizer.weight.dtype))
    for layer in (*(each.layer for each in decoding(tokenizer, (rows, columns), count=1).maps), decoder):
        hidden = _passed(layer, hidden) if whole <= memory else _again(_passed, layer, hidden)
    return F.pixel_shuffle(hidden, decoder.patch_size)


def check_gradient(tokenizer: Tokenizer, shape: Sequence[int], memory: int, beside: int = 0) -> int:
    """Bytes beside the weights that decoding codes (b h w) and the backward pass take at least.

    Raises:
        ConfigError: If, with others ``beside`` them, they are more than ``memory``; the hint names a size that fits.
    """
    count, rows, columns = shape
    _, least = gradient_memory(tokenizer, (rows, columns), count=count)
    side, share = tokenizer.downsample_factor, max(0, memory - beside - RESERVE) / (least - RESERVE)
    fitting = "x".join(str(max(1, int(each * share**0.5)) * side) for each in (rows, columns))
    require(
        least + beside <= memory,
        f"a step on {count} images of {rows * side}x{columns * side} takes {(least + beside) / 2**30:.2f} GB, "
        f"`memory` is {memory / 2**30:.2f} GB",
        hint=f"make images of {fitting} pixels, fewer at once, or give more memory",
    )
    return least


def gradient_memory(tokenizer: Tokenizer, grid: tuple[int, int], *, count: int) -> tuple[int, int]:
    """Bytes for decoding ``count`` images and the backward pass: with the maps of all layers kept, and at least."""
    passage = decoding(tokenizer, grid, count=count)
    sizes = [passage.map_bytes(each) for each in passage.maps]
    kept = [_KEPT.get(type(each.layer), 1) * size for each, size in zip(passage.maps, sizes, strict=True)]
    largest, fixed = max(sizes, default=0), 4 * passage.image_bytes
    fixed += passage.im2col * largest
    whole, least = sum(kept) + _BACKWARD * largest, sum(sizes) + _AGAIN * largest
    return count * (whole + fixed) + RESERVE, count * (least + fixed) + RESERVE


def _passed(layer: nn.Module, features: Latents) -> Float[Tensor, "b e i j"]:
    """What a layer makes of its input; the decoder itself stands for its last norm and convolution."""
    match layer:
        case ResidualBlock():
            hidden = layer.conv1(_again(_activated, layer.norm1, features))
            return layer.shortcut(features) + layer.conv2(_again(_activated, layer.norm2, hidden))
        case Decoder():
            return layer.output_conv(_again(_activated, layer.output_norm, features))
        case _:
            return layer(features)


def _activated(norm: nn.Module, features: Latents) -> Latents:
    return F.silu(norm(features))


def _again(function: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Keeps the inputs alone, and computes the function again in the backward pass."""
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
