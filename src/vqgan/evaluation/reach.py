"""How far the layers of a tokenizer reach: which pixels move a latent, and which pixels a code moves."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vqgan.evaluation.figure import BLUE, ORANGE, enlarged, figure
from vqgan.evaluation.numbers import PerPicture
from vqgan.types import Images, Indices, Latents

Effects = Float[Tensor, "b H W"]
"""How much a pixel and a cell have to do with each other, in each image."""

SHARES = 0.5, 0.9, 1.0
"""Of the effect, for which the side of the square that has it is told."""

_LEAST = 1e-30
"""An effect that is less is none."""


@torch.enable_grad()
def pixels_that_move(encode: Callable[[Images], Latents], images: Images, cell: tuple[int, int]) -> Effects:
    """The squared derivatives of a cell's latent by each pixel.

    Independent noise on all pixels moves the latent: this is each pixel's part in its variance, but for a factor. What
    is derived is a sum of the latent's values with random signs, always the same, of each image its own: in the mean
    over images its square is that of all values.

    Args:
        encode: Gives latents, with gradients.
        images: One passes at a time.
        cell: Row and column of the latent.
    """
    draws, found = torch.Generator().manual_seed(0), []
    for image in images.split(1):
        pixels = image.detach().clone().requires_grad_()
        latent = encode(pixels)[0, :, cell[0], cell[1]]
        signs = torch.randint(2, latent.shape, generator=draws).to(latent) * 2 - 1
        (slope,) = torch.autograd.grad((latent * signs).sum(), pixels)
        found.append(slope.double().square().sum(dim=1))
    return torch.cat(found)


@torch.no_grad()
def pixels_that_are_moved(
    decode: Callable[[Indices], Images], indices: Indices, cell: tuple[int, int], others: Int[Tensor, " b"]
) -> Effects:
    """The squared differences of pixels when the code of a cell becomes another one.

    Args:
        decode: Gives images.
        indices: The codes of images; one passes at a time.
        cell: Row and column.
        others: The code that each gets there.
    """
    found = []
    for grid, other in zip(indices.split(1), others, strict=True):
        changed = grid.clone()
        changed[0, cell[0], cell[1]] = other
        before, after = (decode(each).double() for each in (grid, changed))
        found.append((after - before).square().sum(dim=1))
    return torch.cat(found)


def sides_with(
    effects: Effects, cell: tuple[int, int], factor: int, shares: Sequence[float] = SHARES
) -> list[PerPicture]:
    """For each share the side in pixels of the square around the cell that has so much of each image's effect.

    The least one that does, with the cell in its middle; it may reach beyond the image.

    Args:
        effects: Of one cell, somewhere above 0.
        cell: Its row and column.
        factor: Pixels per cell, along each side.
        shares: At most 1, which means all pixels with any effect.

    Example:
        >>> effects = torch.tensor([[[0.0, 1, 0], [1, 6, 1], [0, 1, 0]]])
        >>> [side.tolist() for side in sides_with(effects, (1, 1), 1)]
        [[1.0], [3.0], [3.0]]
    """
    total, size = effects.shape[1:].numel(), effects.shape[1:]
    sides = _sides(cell, factor, (size[0], size[1])).flatten()
    sums = torch.zeros(len(effects), int(sides.max()) + 1, dtype=torch.float64)
    sums.index_add_(1, sides, effects.cpu().double().view(-1, total))
    inside, numbers = sums.cumsum(dim=1), torch.arange(sums.shape[1])
    last = torch.where(sums > 0, numbers, 0).amax(dim=1)
    return [
        (last if share == 1 else (inside < share * inside[:, -1:]).sum(dim=1)).double().numpy()
        for share in shares
    ]


def _sides(cell: tuple[int, int], factor: int, size: tuple[int, int]) -> Int[Tensor, "H W"]:
    """The side of the square around a cell on whose border each pixel lies."""
    (row, column), (height, width) = cell, size
    down, across = (
        (2 * torch.arange(length) - (2 * place + 1) * factor + 1).abs() + 1
        for place, length in ((row, height), (column, width))
    )
    return torch.maximum(down[:, None], across)


def reach_figure(
    found: Mapping[str, Effects], cell: tuple[int, int], factor: int
) -> UInt8[np.ndarray, "R C 3"]:
    """The root of each mean effect as brightness, with the squares that have half (orange) and nine tenths (blue).

    Args:
        found: Effects by label.
        cell: Whose they are.
        factor: Pixels per cell.
    """
    drawn = {}
    for label, effects in found.items():
        mean = (effects / effects.sum(dim=(1, 2), keepdim=True).clamp(min=_LEAST)).mean(dim=0).cpu()
        shades = (255 * (mean / mean.max().clamp(min=_LEAST)).sqrt()).round().to(torch.uint8).numpy()
        drawn[label] = enlarged(shades[..., None].repeat(3, axis=2))
        height, width = drawn[label].shape[:2]
        scale = height // mean.shape[0]
        borders = _sides(cell, factor * scale, (height, width)).numpy()
        for share, colour in zip((0.9, 0.5), (BLUE, ORANGE), strict=True):
            side = scale * int(sides_with(mean[None], cell, factor, [share])[0][0])
            drawn[label][(borders > side - 4) & (borders <= side)] = colour
    return figure([drawn])
