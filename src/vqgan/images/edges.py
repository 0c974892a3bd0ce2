"""Where brightness changes: Canny's detector on tensors."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vqgan.errors import require
from vqgan.types import Images, check_images

LUMA = (0.299, 0.587, 0.114)
"""Brightness of red, green and blue (ITU-R 601)."""

BAND_PIXELS = 1 << 20
"""Pixels that are looked at together, about 100 MB: large pictures pass in bands of rows, with the same result."""

ROUNDING = 1e-5
"""Gradients that differ by less than this share count as equal, so that no edge is drawn twice or not at all."""

Maps = Float[Tensor, "b H W"]


@torch.no_grad()
def canny(images: Images, low: float = 0.2, high: float = 0.4, sigma: float = 1.0) -> Bool[Tensor, "b H W"]:
    """Edges one pixel wide (Canny 1986): smoothing, gradient, thinning across the edge, two thresholds.

    Every step works on single values in a fixed order, symmetrically in both directions. So the result is the same on
    the CPU and on CUDA, and that of a mirrored picture is mirrored. Where two pixels across an edge are equally strong,
    the brighter one is taken. Beyond the border the picture goes on as it ends there.

    Args:
        images: Values in [-1, 1]; of three or four channels the brightness of the first three is taken, else the mean.
        low: Where an edge goes on. Thresholds are values of the Sobel filter on brightness in [0, 1], 8 times the
            slope per pixel: with ``sigma`` 1, a sharp step has about 3 times its height.
        high: Where an edge begins: a chain of touching pixels above ``low`` is one if one of them reaches ``high``.
        sigma: Of the Gaussian filter, in pixels; 0 does not smooth.

    Raises:
        ConfigError: If these are not images, or not ``0 < low <= high`` and ``sigma >= 0``.

    Example:
        >>> step = torch.tensor([[[[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]]]]).expand(1, 1, 3, 6)
        >>> canny(step)[0].int().tolist()
        [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0]]
    """
    check_images(images)
    require(0 < low <= high < math.inf, f"`low` is {low} and `high` is {high}, expected 0 < low <= high")
    require(0 <= sigma < math.inf, f"`sigma` is {sigma}, expected at least 0")
    b, c, height, width = images.shape
    weights = LUMA if c in (3, 4) else (1 / c,) * c
    kernel = _gaussian(sigma)
    halo, rows = len(kernel) + 1, max(1, BAND_PIXELS // (b * width))
    weak, edges = (torch.empty(b, height, width, dtype=torch.bool, device=images.device) for _ in range(2))
    for top in range(0, height, rows):
        begin = max(0, top - halo)
        band = images[:, :, begin : top + rows + halo].float()
        grey = sum((band[:, i] * weight for i, weight in enumerate(weights)), torch.zeros_like(band[:, 0]))
        ridges = _ridges(_smoothed((grey + 1) / 2, kernel))[:, top - begin :][:, :rows]
        weak[:, top : top + rows], edges[:, top : top + rows] = ridges >= low, ridges >= high
    return _grown(edges, weak)


def _gaussian(sigma: float) -> list[float]:
    """The weights of a pixel and of those at distance 1, 2, ..., up to 4 ``sigma``."""
    radius = int(4 * sigma + 0.5)
    values = [math.exp(-0.5 * (distance / sigma) ** 2) if distance else 1.0 for distance in range(radius + 1)]
    total = values[0] + 2 * sum(values[1:])
    return [value / total for value in values]


def _smoothed(maps: Maps, kernel: list[float]) -> Maps:
    """Filtered along both axes. Pixels at the same distance are added first: no direction comes before the other."""
    radius = len(kernel) - 1
    for axis in (1, 2):
        around = (0, 0, radius, radius) if axis == 1 else (radius, radius, 0, 0)
        padded, size = F.pad(maps, around, mode="replicate"), maps.shape[axis]
        maps = maps * kernel[0]
        for distance in range(1, radius + 1):
            before, after = (padded.narrow(axis, radius + step, size) for step in (-distance, distance))
            maps = maps + (before + after) * kernel[distance]
    return maps


def _ridges(maps: Maps) -> Maps:
    """The length of the gradient where it is the largest across the edge, else 0.

    The two places at which it must not be larger lie uphill and downhill, on the border of the 3 x 3 pixels around;
    their values are interpolated between two pixels.
    """
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    across, along = padded[:, :, 2:] - padded[:, :, :-2], padded[:, 2:] - padded[:, :-2]
    x = across[:, :-2] + across[:, 2:] + 2 * across[:, 1:-1]
    y = along[:, :, :-2] + along[:, :, 2:] + 2 * along[:, :, 1:-1]
    length = (x * x + y * y).sqrt()

    is_steep, stride = y.abs() > x.abs(), maps.shape[2] + 2
    slant = torch.minimum(x.abs(), y.abs()) / torch.maximum(x.abs(), y.abs()).clamp(min=1e-30)
    down, right = y.sign().long() * stride, x.sign().long()
    straight, diagonal = torch.where(is_steep, down, right), down + right
    values = F.pad(length, (1, 1, 1, 1)).flatten(1)
    here = torch.arange(values.shape[1], device=maps.device).view(-1, stride)[1:-1, 1:-1]

    def beside(sign: int) -> Maps:
        near, far = (
            values.gather(1, (here + sign * each).flatten(1)).view_as(maps) for each in (straight, diagonal)
        )
        return near * (1 - slant) + far * slant

    return length * ((length > beside(1) * (1 + ROUNDING)) & (length >= beside(-1) * (1 - ROUNDING)))


def _grown(edges: Bool[Tensor, "b H W"], within: Bool[Tensor, "b H W"]) -> Bool[Tensor, "b H W"]:
    """The edges, spread to touching pixels of ``within`` until nothing changes."""
    while True:
        before = edges
        for _ in range(8):  # so that a GPU is not asked after each step
            for axis in (1, 2):
                wide, rest = edges.clone(), edges.shape[axis] - 1
                wide.narrow(axis, 1, rest).logical_or_(edges.narrow(axis, 0, rest))
                wide.narrow(axis, 0, rest).logical_or_(edges.narrow(axis, 1, rest))
                edges = wide
            edges = edges & within
        if torch.equal(edges, before):
            return edges
