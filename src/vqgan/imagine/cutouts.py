"""Cut-outs of pictures as a judge sees them: many crops of random size, each changed a little, in one pass.

What moves, mirrors and tilts a cut-out is one 3x3 matrix, what changes its colours one 3x4 matrix.
"""

from itertools import product
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vqgan.config import Bounds, Config, Count, Probability, Share, Weight
from vqgan.errors import require
from vqgan.sampling import check_seed
from vqgan.types import Images, check_images, is_whole

Maps = Float[Tensor, "b cuts 3 3"]
"""From a view, corners (-1, -1) and (1, 1), to pixels of its image, x before y; (0, 0) is the image's corner."""

Shares = Annotated[tuple[float, float], Bounds("rising, 0 to below 1", lambda v: 0 <= v[0] <= v[1] < 1)]
Draws = Float[np.ndarray, "cuts _"]
Matrices = Float[np.ndarray, "cuts rows columns"]


class CutOutConfig(Config, frozen=True):
    """How cut-outs are made; the defaults are those of the well-known command line (VQGAN-CLIP).

    Attributes:
        count: Cut-outs of each image and step.
        power: Sides are ``u ** power`` of the way from the judge's size to the image's shorter side, with u uniform
            in [0, 1): above 1 most are small, at 0 all are as large as can be.
        share: How many cut-outs are moved, how many tilted, recoloured, and erased in part: each by itself.
        rotation: Largest angle in degrees.
        shear: Largest angle in degrees by which upright lines lean.
        shift: Largest shift along each axis, in sides of the cut-out.
        scale: 0.25 enlarges or shrinks by up to a quarter.
        flip: How many are mirrored.
        perspective: Each corner moves along each axis by up to this share of the way to the middle.
        brightness: Largest change of the factor that multiplies all values, counted from black.
        contrast: The same, counted from the grey between black and white.
        saturation: The same, counted from the grey of each pixel.
        hue: Largest turn of the hues; 1 is all the way round.
        erased: The least and the largest share of a cut-out's area that a black rectangle covers; (0, 0) for none.
        noise: Largest standard deviation of normal noise, where black to white is 1.
    """

    count: Count = 32
    power: Weight = 1.0
    share: Share = 0.7
    rotation: Weight = 15.0
    shear: Weight = 5.0
    shift: Weight = 0.1
    scale: Weight = 0.0
    flip: Share = 0.0
    perspective: Probability = 0.7
    brightness: Share = 0.1
    contrast: Share = 0.1
    saturation: Share = 0.1
    hue: Share = 0.1
    erased: Shares = (0.1, 0.4)
    noise: Weight = 0.1


def cut_outs(
    images: Images,
    config: CutOutConfig,
    *,
    size: int,
    seed: int,
    step: int,
    first: int = 0,
    count: int | None = None,
) -> Float[Tensor, "b cuts 3 side side"]:
    """Cut-outs ``first`` to ``first + count`` of RGB images; each is the same whichever others are made with it.

    Image ``i`` takes the seed ``seed + i``. Differentiable in the images. Values are not clamped to [-1, 1], which
    would stop gradients. CUDA adds gradients in no fixed order: there they repeat up to rounding.

    Args:
        images: Values in [-1, 1].
        config: How cut-outs are made.
        size: Side of the cut-outs in pixels.
        seed: Of the first image.
        step: Of the optimisation; each has its own cut-outs.
        first: Number of the first cut-out.
        count: How many; None for all of the configuration from ``first`` on.

    Raises:
        ConfigError: If an argument is outside its range or the images are not RGB.
    """
    check_images(images, 3)
    check_seed(seed, len(images))
    count = config.count - first if count is None else count
    for name, value, low in (("size", size, 1), ("step", step, 0), ("first", first, 0), ("count", count, 1)):
        require(is_whole(value) and value >= low, f"`{name}` is {value!r}, expected at least {low}")
    generators = [
        np.random.Generator(np.random.Philox(key=(int(step) << 64) + int(seed) + image, counter=cut << 128))
        for image, cut in product(range(len(images)), range(int(first), int(first) + count))
    ]
    draws = np.stack([each.random(30) for each in generators])
    crop, affine, tilt, colour, hole, loud = np.split(draws, [3, 10, 19, 24, 29], axis=1)
    maps = _crops(crop, config, images.shape[2:], size) @ _affine(affine, config) @ _tilts(tilt, config)
    precise = images.to(torch.promote_types(images.dtype, torch.float32))
    cuts = resample(precise, _like(maps, precise).unflatten(0, (-1, count)), size).flatten(0, 1)
    colours = _like(_colours(colour, config), cuts)
    cuts = torch.baddbmm(colours[..., 3:], colours[..., :3], cuts.flatten(2)).view(cuts.shape)
    cuts = cuts.masked_fill(torch.from_numpy(_erased(hole, config, size))[:, None].to(cuts.device), -1)
    if config.noise:
        normal = np.stack([each.standard_normal(cuts.shape[1:], np.float32) for each in generators])
        deviations = _like(2 * config.noise * loud, cuts)[..., None, None]
        cuts = torch.addcmul(cuts, _like(normal, cuts), deviations)
    return cuts.unflatten(0, (-1, count)).to(images.dtype)


def resample(images: Images, maps: Maps, size: int) -> Float[Tensor, "b cuts c side side"]:
    """Square views of the images, each pixel the mean of the area that it covers, in one ``grid_sample``.

    A pixel that covers up to 2x2 of the image's is the mean of four bilinear samples, as far apart as gives their tents
    together the area's variance: exact where it covers one or two along each axis. Larger ones sample a copy of the
    image that was halved until they do. Beyond the image its border is repeated. The maps get no gradient.
    """
    levels = [images]
    while max(levels[-1].shape[2:]) > 1:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    atlas = torch.cat([F.pad(level, (0, images.shape[3] - level.shape[3])) for level in levels], dim=2)
    points = _points(maps.detach(), [level.shape[2:] for level in levels], size).flatten(3, 4).flatten(1, 2)
    # The four samples of a pixel are a batch: the CPU draws the members of a batch in parallel, nothing else.
    four = atlas.expand(4, *atlas.shape).flatten(0, 1)
    views = F.grid_sample(four, points.movedim(0, -1), align_corners=False).unflatten(0, (4, -1)).mean(dim=0)
    return views.unflatten(2, (-1, size)).transpose(1, 2)


def _points(maps: Maps, sides: list[torch.Size], size: int) -> Float[Tensor, "2 4 b cuts side side"]:
    """Where the four samples of each pixel lie in levels of these sides below each other, from -1 to 1."""
    u = (2 * torch.arange(size, device=maps.device, dtype=maps.dtype) + 1) / size - 1
    view = torch.stack([u.expand(size, size), u[:, None].expand(size, size), u.new_ones(size, size)])
    point, depth = torch.einsum("bkij,jvu->ibkvu", maps, view).split([2, 1])
    point = point / depth.clamp_(min=1e-2)  # nothing lies beyond the horizon of a tilted picture
    # The point's derivatives by the pixel's number along each axis: the edges of the area that the pixel covers.
    columns = maps.permute(3, 2, 0, 1)[:2, ..., None, None]
    edges = [(column[:2] - point * column[2:]) * (2 / size / depth) for column in columns]
    lengths = [torch.hypot(*edge) for edge in edges]
    level = (torch.maximum(*lengths).log2().ceil() - 1).clamp(0, len(sides) - 1)
    scale, level = level.exp2(), level.long()
    spreads = [((1 - (scale / length) ** 2).clamp(min=0) / 12).sqrt() / scale for length in lengths]
    across, down = (edge * spread for edge, spread in zip(edges, spreads, strict=True))
    left, right = point / scale - across, point / scale + across
    samples = torch.stack([left - down, right - down, left + down, right + down], dim=1)
    sizes = maps.new_tensor(sides).T.flip(0)
    starts = torch.stack([0 * sizes[0], sizes[1].cumsum(0) - sizes[1]])
    whole = torch.stack([sizes[0, 0], sizes[1].sum()]).view(2, 1, 1, 1, 1, 1)
    samples = samples.clamp(sizes.new_tensor(0.5), (sizes - 0.5)[:, None, level]) + starts[:, None, level]
    return samples.mul_(2 / whole).sub_(1)


def _like(values: np.ndarray, images: Tensor) -> Tensor:
    return torch.from_numpy(values).to(images.dtype).to(images.device)  # not all devices have float64


def _changes(u: Draws, config: CutOutConfig) -> Draws:
    """From -1 to 1 for the share of cuts that are changed, else 0; the first number decides."""
    return np.where(u[:, :1] < config.share, 2 * u[:, 1:] - 1, 0)


def _matrices(*entries: np.ndarray | int) -> Matrices:
    return np.stack(np.broadcast_arrays(*entries), axis=-1).reshape(-1, 3, 3)


def _crops(u: Draws, config: CutOutConfig, sides: tuple[int, ...], size: int) -> Matrices:
    (height, width), most, least = sides, min(sides), min(*sides, size)
    side = least + (most - least) * u[:, 0] ** config.power
    left, top = (width - side) * u[:, 1], (height - side) * u[:, 2]
    return _matrices(side / 2, 0, left + side / 2, 0, side / 2, top + side / 2, 0, 0, 1)


def _affine(u: Draws, config: CutOutConfig) -> Matrices:
    turn, lean, across, down, growth = _changes(u[:, :6], config).T
    angle, slant = np.radians(config.rotation * turn), np.tan(np.radians(config.shear * lean))
    cos, sin = (f(angle) / (1 + config.scale) ** growth for f in (np.cos, np.sin))
    mirror, x, y = np.where(u[:, 6] < config.flip, -1, 1), 2 * config.shift * across, 2 * config.shift * down
    return _matrices(mirror * cos, slant * cos - sin, x, mirror * sin, slant * sin + cos, y, 0, 0, 1)


def _tilts(u: Draws, config: CutOutConfig) -> Matrices:
    """The maps under which four points, each between a corner of a square and its middle, become its corners."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    moves = np.where(u[:, :1] < config.share, config.perspective * u[:, 1:], 0).reshape(-1, 4, 2)
    points = np.stack(np.broadcast_arrays(corners, corners * (1 - moves)))
    points = np.insert(points, 2, 1, axis=-1).swapaxes(-2, -1)
    # Of the square and of the four points: the map from the three unit vectors and their sum.
    square, inner = points[..., :3] * np.linalg.solve(points[..., :3], points[..., 3:]).swapaxes(-2, -1)
    maps = square @ np.linalg.inv(inner)
    return maps / maps[:, 2:, 2:]


def _colours(u: Draws, config: CutOutConfig) -> Matrices:
    """Brightness and contrast are factors, saturation mixes with the grey, hues turn about the greys: all linear."""
    brightness, contrast, saturation, hue = _changes(u, config).T[..., None, None]
    bright, contrasted = 1 + config.brightness * brightness, 1 + config.contrast * contrast
    vivid, angle = 1 + config.saturation * saturation, 2 * np.pi * config.hue * hue
    saturate = vivid * np.eye(3) + (1 - vivid) * np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    around = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    turn = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) / 3 + np.sin(angle) * around
    constant = (contrasted * (bright - 1)).repeat(3, axis=1)
    return np.concatenate([contrasted * bright * (turn @ saturate), constant], axis=2)


def _erased(u: Draws, config: CutOutConfig, size: int) -> Bool[np.ndarray, "cuts side side"]:
    """Which pixels a rectangle covers, all of which lies inside; its sides differ by a factor of up to 1 / 0.3."""
    area = np.where(u[:, 0] < config.share, np.interp(u[:, 1], [0, 1], config.erased), 0)
    ratio = np.minimum(1 / 0.3, 1 / np.maximum(area, 1e-9)) ** (2 * u[:, 2] - 1)
    half = np.sqrt(area[:, None] * np.stack([ratio, 1 / ratio], axis=1))
    middle = (2 * u[:, 3:] - 1) * (1 - half)
    pixels = (2 * np.arange(size) + 1) / size - 1
    across, down = (abs(pixels - middle[..., None]) < half[..., None]).swapaxes(0, 1)
    return down[:, :, None] & across[:, None, :]
