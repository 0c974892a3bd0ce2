"""Poses in photographs: one network finds people, another the key points of each."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional as F

from vqgan.extraction.networks import Network, open_network
from vqgan.images import KEY_POINTS, Pose
from vqgan.pretrained import refusal
from vqgan.types import Images

LIKELY = 0.3
"""People and key points that are less likely are left out."""


def open_finder(name: str, detector: str, device: torch.device) -> Callable[[Images], Pose]:
    """What finds people in a picture (1 3 H W): a network of key points (Xu et al. 2022) after a detector of objects.

    Raises:
        ConfigError: If transformers is not installed.
        CheckpointError: If a network cannot be opened, or does not know COCO's key points, or ``person``.
    """
    network, finder = open_network(name, "pose", device), open_network(detector, "detector", device)
    points, [person] = _numbers(network, "pose", KEY_POINTS), _numbers(finder, "detector", ["person"])

    def find(image: Images) -> Pose:
        image, size = image.double().cpu(), (image.shape[2], image.shape[3])
        read = finder.processor.post_process_object_detection
        [found] = read(finder(image), threshold=LIKELY, target_sizes=[size])
        boxes = found["boxes"][found["labels"] == person].double().cpu()
        people = np.reshape([_person(network, points, image, box).numpy() for box in boxes], (-1, 17, 3))
        return Pose(people[people[:, :, 2].any(axis=1)], size)

    return find


def _numbers(network: Network, task: str, names: Sequence[str]) -> list[int]:
    """The numbers of labels in a network."""
    known = {_plain(label): number for number, label in network.model.config.id2label.items()}
    lost = [name for name in names if _plain(name) not in known]
    if lost:
        error, hint = ValueError(f"it has no label `{lost[0]}`"), "choose one that was trained on COCO"
        raise refusal(network.name, f"for `{task}`", error, hint)
    return [known[_plain(name)] for name in names]


def _plain(label: str) -> str:
    return label.casefold().replace("left_", "l_").replace("right_", "r_")


def _person(
    network: Network, points: list[int], image: Images, box: Float64[Tensor, "4"]
) -> Float64[Tensor, "17 3"]:
    """Key points in a box (left, top, right, bottom), as a :class:`Pose` has them; what lies outside is not seen.

    The network sees the box, a quarter around it, and what that lacks of the shape that it was trained on.
    """
    size, trained = torch.tensor([image.shape[3], image.shape[2]]), network.processor.size
    shape = torch.tensor([trained["width"], trained["height"]])
    extent = 1.25 * shape * ((box[2:] - box[:2]) / shape).max()
    corner = (box[:2] + box[2:] - extent) / 2
    sides = (corner[i] + extent[i] * torch.linspace(0, 1, int(shape[i]), dtype=torch.float64) for i in (0, 1))
    pixels = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)
    grid = ((2 * pixels + 1) / size - 1)[None]
    crop = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    inside = ((pixels >= 0) & (pixels <= size - 1)).all(dim=-1)
    maps = network(crop.where(inside, -1.0)).heatmaps[0, points].double().cpu()
    cells = torch.tensor([maps.shape[2], maps.shape[1]])
    places = corner + extent * _peaks(maps) / (cells - 1)
    seen = ((places >= -0.5) & (places <= size - 0.5)).all(dim=1) & (maps.amax(dim=(1, 2)) > LIKELY)
    return torch.cat([places.where(seen[:, None], 0.0) + 0.5, 2.0 * seen[:, None]], dim=1)


def _peaks(maps: Float64[Tensor, "17 h w"]) -> Float64[Tensor, "17 2"]:
    """Column and row of each map's peak, between cells: that of a Gaussian through those around (Zhang et al. 2020).

    Maps are smoothed first, mirrored at their borders.
    """
    taps = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 0.8**2))
    smooth = maps
    for _ in range(2):  # columns, then rows
        ends = smooth[..., :5].flip(-1), smooth[..., -5:].flip(-1)
        smooth = (torch.cat([ends[0], smooth, ends[1]], dim=-1).unfold(-1, 11, 1) @ (taps / taps.sum())).mT
    logs = F.pad(smooth.clamp(1e-3, 50).log(), (1, 1, 1, 1), mode="replicate")
    highest = maps.flatten(1).argmax(dim=1)
    row, column = highest // maps.shape[2], highest % maps.shape[2]
    around = logs.unfold(1, 3, 1).unfold(2, 3, 1)[torch.arange(len(maps)), row, column]
    (a, up, _), (left, top, right), (_, down, b) = around.permute(1, 2, 0)
    dx, dy = (right - left) / 2, (down - up) / 2
    flat = torch.finfo(torch.float32).eps  # a peak that is flat stays where it is
    dxx, dyy = right - 2 * top + left + flat, down - 2 * top + up + flat
    dxy = (a + b + 2 * top - left - right - up - down) / 2
    step = torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx]) / (dxx * dyy - dxy**2)
    return (torch.stack([column, row]) - step).T
