"""Where the tokens of a prior look: the weights of its attention, drawn over the image."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vqgan.evaluation.figure import BLUE, ORANGE, RED, enlarged, figure
from vqgan.images import Pixels, with_channels
from vqgan.prior import Prior, sequence_places, to_tokens, token_positions
from vqgan.prior.local import TiledReading
from vqgan.prior.transformer import Attention, Span
from vqgan.synthesizer import Synthesizer
from vqgan.types import Condition, ConditionTokens, Indices, Tokens

LAYERS = 4
"""Most layers of which maps are drawn."""


class Weights(NamedTuple):
    """How much tokens look at the entries that a prior reads.

    Attributes:
        weights: They add up to 1.
        reading: How a prior of local span reads its entries, which are those of its tiles; else None: they are the
            tokens of the condition and the image.
    """

    weights: Float[Tensor, "layers b heads asked entries"]
    reading: TiledReading | None


class Looks(NamedTuple):
    """The share of each cell in the attention of tokens, in the mean over heads; the rest goes to what has no cell.

    Attributes:
        image: On the tokens of the image.
        condition: On those of conditions that have one for each cell.
    """

    image: Float[Tensor, "layers b asked h w"]
    condition: Float[Tensor, "layers b asked h w"]


@torch.enable_grad()
def attention_weights(
    prior: Prior,
    tokens: Tokens,
    condition_tokens: ConditionTokens,
    grid: tuple[int, int],
    asked: Sequence[int],
) -> Weights:
    """The weights of attention in the entries from which a prior predicts tokens, layer by layer.

    What a head gathers is the sum of the values times their weights, so each weight is its derivative by the value.
    That is taken in the prior's own pass: masks, positions and tiles are those that it has.

    Args:
        prior: In evaluation mode.
        tokens: Of images, in the prior's order.
        condition_tokens: What steers them.
        grid: Rows and columns.
        asked: The numbers of the tokens that are predicted.
    """
    values, gathered, spans = list[Tensor](), list[Tensor](), list[Span]()

    def keep(_: Any, __: Any, output: Tensor) -> Tensor:
        values.append(output.detach().requires_grad_())
        return values[-1]

    def gather(_: Any, given: tuple[Tensor]) -> Tensor:
        gathered.append(given[0])
        return given[0].detach()

    with ExitStack() as hooks:
        for block in prior.transformer.blocks:
            layer = block.attention
            assert isinstance(layer, Attention), "blocks have it"
            hooks.enter_context(layer.register_forward_pre_hook(lambda _, given: spans.append(given[1])))
            hooks.enter_context(layer.value.register_forward_hook(keep))
            hooks.enter_context(layer.output.register_forward_pre_hook(gather))
        prior(tokens, condition_tokens, grid)
    cache = spans[0].groups[0].cache
    reading = cache if isinstance(cache, TiledReading) else None
    sizes, found = (len(tokens), -1, prior.config.num_heads, prior.config.head_width), []
    for value, mixed in zip(values, gathered, strict=True):
        first = mixed.view(sizes)[..., 0]  # all channels of a head have the same weights
        before = first.shape[1] - tokens.shape[1]  # the last layer leaves out what predicts no token
        rows = [before + each if reading is None else int(reading.targets[each]) for each in asked]
        slopes = [torch.autograd.grad(first[:, row].sum(), value, retain_graph=True)[0] for row in rows]
        found.append(torch.stack([slope.view(sizes)[..., 0].mT for slope in slopes], dim=2))
    return Weights(torch.stack(found), reading)


@torch.no_grad()
def looks_of(
    model: Synthesizer,
    indices: Indices,
    condition: Condition | None,
    cells: Sequence[tuple[int, int]],
    *,
    memory: int,
) -> Looks:
    """Where the tokens of some cells look, all the tokens before them being given.

    Args:
        model: Its prior must see the whole grid.
        indices: Of images.
        condition: What steers them.
        cells: Rows and columns.
        memory: For the condition, as in :meth:`~vqgan.synthesizer.Synthesizer.log_probability`.
    """
    grid, order, count = (indices.shape[1], indices.shape[2]), model.config.token_order, len(indices)
    prior, given = model.steered(condition, count, grid, memory)
    places = token_positions(order, grid).tolist()
    asked = [places.index(row * grid[1] + column) for row, column in cells]
    weights, reading = attention_weights(prior, to_tokens(indices, order), given, grid, asked)
    if reading is None:
        where, steering = sequence_places(order, grid, model.conditioner.lengths), given.shape[1]
    else:
        where, steering = torch.stack([reading.rows.flatten(), reading.columns.flatten()], dim=1), 0
    mean = weights.float().mean(dim=2)
    found = [
        _on_cells(mean[..., part], where[part].to(mean.device), grid)
        for part in (slice(steering, None), slice(steering))
    ]
    return Looks(*found)


def _on_cells(
    weights: Float[Tensor, "layers b asked some"], where: Int[Tensor, "some 2"], grid: tuple[int, int]
) -> Float[Tensor, "layers b asked h w"]:
    """The sum of the weights on each cell; places outside the grid are left out."""
    is_inside = (where >= 0).all(dim=1)
    cells = where[is_inside] @ where.new_tensor([grid[1], 1])
    sums = weights.new_zeros(*weights.shape[:3], grid[0] * grid[1])
    return sums.index_add_(3, cells, weights[..., is_inside]).unflatten(3, grid)


def attention_figure(
    pictures: Sequence[Pixels], looks: Looks, cells: Sequence[tuple[int, int]]
) -> UInt8[np.ndarray, "R C 3"]:
    """A row for each picture and cell: the picture with the cell framed, then what some layers look at there.

    The tokens of the image are orange, those of a condition's cells blue, the brighter the larger their share; in
    brackets stands the share of what has no cell.
    """
    depth, cells_down = len(looks.image), looks.image.shape[3]
    layers = np.unique(np.linspace(0, depth - 1, min(LAYERS, depth)).astype(int))
    rows = []
    for number, picture in enumerate(pictures):
        large = enlarged(with_channels(picture, 3))
        for place, (row, column) in enumerate(cells):
            shades = {f"token ({row + 1}, {column + 1})": large}
            for layer in layers:
                maps = [each[layer, number, place].cpu().numpy() for each in looks]
                elsewhere = max(0.0, 1 - sum(float(each.sum()) for each in maps))
                shades[f"layer {layer + 1} ({elsewhere:.0%})"] = _shaded(large, *maps)
            side = large.shape[0] // cells_down
            rows.append({label: _framed(each, row, column, side) for label, each in shades.items()})
    return figure(rows)


def _shaded(picture: Pixels, image: Float[np.ndarray, "h w"], condition: Float[np.ndarray, "h w"]) -> Pixels:
    """The picture in dark grey, coloured where attention is."""
    grey, side = picture.mean(axis=2, keepdims=True) * 0.4, picture.shape[0] // image.shape[0]
    most = max(image.max(), condition.max(), 1e-9)
    parts = [(each / most).repeat(side, 0).repeat(side, 1)[..., None] for each in (image, condition)]
    colours = sum(share * np.array(colour) for share, colour in zip(parts, (ORANGE, BLUE), strict=True))
    return np.clip(grey * (1 - np.maximum(*parts)) + colours, 0, 255).astype(np.uint8)


def _framed(picture: Pixels, row: int, column: int, side: int) -> Pixels:
    """With a frame around the cell of so many pixels, inside of it."""
    framed, width = picture.copy(), 2 if side > 8 else 1
    cell = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
    framed[cell] = RED
    inner = tuple(slice(each.start + width, each.stop - width) for each in cell)
    framed[inner] = picture[inner]
    return framed
