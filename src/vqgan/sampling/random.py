"""Noise that depends only on what it is for, never on when, where or in which batch it is drawn.

The noise of a token is a hash of (seed, purpose, row, column, code), through a key of 64 bits for each cell. All bits
come from integers: they are the same on every device, in any batch and in any order.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.errors import ConfigError
from vqgan.types import is_whole

NOISE_BYTES = 2**23
"""Noise is made for several cells at once, as many as take this much memory: fewer operators for each token."""

_BYTES_A_NUMBER = 24
"""Three integers of 8 bytes exist while one number of noise is made."""

SAMPLING, REFINING = 0, 1
"""The purposes of noise: it chooses tokens, and those that are drawn again; sweep ``i`` takes ``REFINING + i``, the
continuation ``i`` of a beam ``SAMPLING - i``: the first draws what is drawn without a beam."""

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9
_FIRST = 0x21F0AAAD
_SECOND = 0xD35A2D97 - 2**32  # the same modulo 2^32, but no product of it with 32 bits leaves int64
_STARTS = (0, 0x85EBCA6B)  # of the two words of a key
_LARGEST_U = 1 - 2**-24  # the largest float32 below 1


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Hashes numbers of 32 bits (in int64) to numbers of 32 bits, one to one.

    Example:
        >>> [hex(value) for value in mix(torch.tensor([0, 1, 2**32 - 1])).tolist()]
        ['0x0', '0x6d3fa73', '0xd9b56683']
    """
    x = x ^ (x >> 16)
    x = x.mul_(_FIRST).bitwise_and_(_MASK)
    x ^= x >> 15
    x = x.mul_(_SECOND).bitwise_and_(_MASK)
    return x.bitwise_xor_(x >> 15)


def check_seed(seed: int, count: int) -> None:
    """Raises ConfigError if the seeds of ``count`` images, from ``seed`` on, leave ``0 <= seed < 2**63``."""
    if not (is_whole(seed) and 0 <= seed <= 2**63 - count):
        raise ConfigError(
            f"`seed` is {seed!r}, expected 0 <= seed < 2**63 for each of {count} images",
            hint="image i takes the seed `seed + i`",
        )


class GridNoise:
    """Gumbel noise for every cell of a token grid and every code.

    Image ``i`` takes the seed ``seed + i``: it is the same image as the first one of a call with that seed.

    Args:
        seed: Seed of the first image; all seeds lie in ``0 <= seed < 2**63``.
        count: Number of images.
        grid: Rows and columns of the *final* grid.
        codebook_size: Number of codes.
        device: Where the noise is needed.
        purpose: What the noise is for; of several, all images come once for each.

    Raises:
        ConfigError: If a seed lies outside its range.
    """

    def __init__(
        self,
        *,
        seed: int,
        count: int,
        grid: tuple[int, int],
        codebook_size: int,
        device: torch.device,
        purpose: int | Sequence[int] = SAMPLING,
    ) -> None:
        check_seed(seed, count)
        (rows, columns), purposes = grid, torch.tensor(purpose, device=device).view(-1, 1, 1, 1)
        self._at_once = max(1, NOISE_BYTES // (_BYTES_A_NUMBER * len(purposes) * count * codebook_size))
        seeds = torch.tensor([seed + image for image in range(count)], device=device).view(count, 1, 1)
        words = (
            seeds & _MASK,
            seeds >> 32,
            purposes,
            torch.arange(rows, device=device).view(1, rows, 1),
            torch.arange(columns, device=device).view(1, 1, columns),
        )
        keys = [torch.full((1, 1, 1), start, dtype=torch.int64, device=device) for start in _STARTS]
        for word in words:
            keys = [mix((key + word + _GOLDEN) & _MASK) for key in keys]
        self._keys = [key.flatten(0, 1) for key in keys]
        self._codes = mix((torch.arange(codebook_size, device=device) + _GOLDEN) & _MASK)

    def bits(self, row: int, column: int) -> Int[Tensor, "b K"]:
        """32 random bits for each image and code at one cell."""
        return self._hashed(*(key[:, row, column, None] for key in self._keys))

    def at(self, row: int, column: int) -> Float[Tensor, "b K"]:
        """Standard Gumbel noise in float32 for each image and code at one cell."""
        return _gumbel(self.bits(row, column))

    def at_cells(self, cells: Int[Tensor, " k"]) -> Float[Tensor, "k b K"]:
        """As :meth:`at`, for several cells at once, each given as ``row * columns + column``."""
        return _gumbel(self._hashed(*(key.flatten(1)[:, cells].t()[:, :, None] for key in self._keys)))

    def along(self, cells: Int[Tensor, " k"]) -> Iterator[Float[Tensor, "b K"]]:
        """As :meth:`at_cells`, cell after cell; made for several ahead of need."""
        for block in cells.split(self._at_once):
            yield from self.at_cells(block)

    def _hashed(
        self, first: Int[Tensor, "*cells 1"], second: Int[Tensor, "*cells 1"]
    ) -> Int[Tensor, "*cells K"]:
        return mix((first ^ self._codes).add_(second).bitwise_and_(_MASK))


def _gumbel(bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The logarithm of an exponential variable, taken so that the large values have the finer steps.

    The large ones decide the arg-max.
    """
    u = bits.to(torch.float32).add_(0.5).div_(2**32).clamp_(max=_LARGEST_U)
    return u.neg_().log1p_().neg_().log_().neg_()
