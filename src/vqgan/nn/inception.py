"""Inception-v3 as FID has it (Szegedy et al. 2016, Heusel et al. 2017): a classifier, 23.9 M parameters.

It is the network of TensorFlow's file of 2015, not a later one: means leave the padding out, and the last block takes
the maximum where the paper has a mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.errors import require
from vqgan.types import Images

SIDE, FEATURES, OUTPUTS = 299, 2048, 1008
"""Pixels of a side; what the last block gives; outputs, of which ImageNet's classes are a part."""


class Step(NamedTuple):
    """A convolution: channels, kernel, stride. Sides stay as they are unless the stride is 2."""

    channels: int
    rows: int = 1
    columns: int = 1
    stride: int = 1


class Fork(NamedTuple):
    """Two convolutions of the same input, whose outputs are put side by side."""

    one: Step
    other: Step


Branch = Sequence[Step | Fork | nn.Module]

MEAN, LARGEST, HALVED = (
    nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    nn.MaxPool2d(3, stride=1, padding=1),
    nn.MaxPool2d(3, stride=2),
)


def _at_35(pooled: int) -> Sequence[Branch]:
    fives, threes = [Step(48), Step(64, 5, 5)], [Step(64), Step(96, 3, 3), Step(96, 3, 3)]
    return [Step(64)], fives, threes, [MEAN, Step(pooled)]


def _at_17(narrow: int) -> Sequence[Branch]:
    row, column = Step(narrow, 1, 7), Step(narrow, 7, 1)
    short = [Step(narrow), row, Step(192, 7, 1)]
    return [Step(192)], short, [Step(narrow), column, row, column, Step(192, 1, 7)], [MEAN, Step(192)]


def _at_8(pool: nn.Module) -> Sequence[Branch]:
    fork = Fork(Step(384, 1, 3), Step(384, 3, 1))
    return [Step(320)], [Step(384), fork], [Step(448), Step(384, 3, 3), fork], [pool, Step(192)]


_TO_17 = [Step(384, 3, 3, 2)], [Step(64), Step(96, 3, 3), Step(96, 3, 3, 2)], [HALVED]
_TO_8 = (
    [Step(192), Step(320, 3, 3, 2)],
    [Step(192), Step(192, 1, 7), Step(192, 7, 1), Step(192, 3, 3, 2)],
    [HALVED],
)

BLOCKS = (
    *map(_at_35, (32, 64, 64)),
    _TO_17,
    *map(_at_17, (128, 160, 160, 192)),
    _TO_8,
    *map(_at_8, (MEAN, LARGEST)),
)
"""The branches of each block; the numbers say how many pixels a side it sees and gives."""


class Convolution(nn.Sequential):
    """A convolution, its norm and ReLU."""

    def __init__(self, inputs: int, step: Step, *, padded: bool = True) -> None:
        kernel = step.rows, step.columns
        padding = (step.rows // 2, step.columns // 2) if padded and step.stride == 1 else (0, 0)
        super().__init__(
            nn.Conv2d(inputs, step.channels, kernel, step.stride, padding, bias=False),
            nn.BatchNorm2d(step.channels, eps=1e-3),
            nn.ReLU(inplace=True),
        )


class _Branches(nn.ModuleList):
    """What sees the same input; the outputs are put side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


def _branch(inputs: int, steps: Branch) -> tuple[nn.Sequential, int]:
    """The layers of a branch, and the number of its channels."""
    layers = nn.Sequential()
    for step in steps:
        if isinstance(step, nn.Module):
            layers.append(step)
            continue
        parts = [Convolution(inputs, each) for each in (step if isinstance(step, Fork) else (step,))]
        layers.append(_Branches(parts) if isinstance(step, Fork) else parts[0])
        inputs = sum(each.channels for each in step) if isinstance(step, Fork) else step.channels
    return layers, inputs


class Inception(nn.Module):
    """The network, always in evaluation mode and frozen; its weights come from a file."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Convolution(3, Step(32, 3, 3, 2)),
            Convolution(32, Step(32, 3, 3), padded=False),
            Convolution(32, Step(64, 3, 3)),
            HALVED,
            Convolution(64, Step(80)),
            Convolution(80, Step(192, 3, 3), padded=False),
            HALVED,
        )
        self.blocks, channels = nn.Sequential(), 192
        for block in BLOCKS:
            branches = [_branch(channels, steps) for steps in block]
            self.blocks.append(_Branches(layers for layers, _ in branches))
            channels = sum(count for _, count in branches)
        self.output = nn.Linear(channels, OUTPUTS)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Inception":
        """Stays in evaluation mode."""
        return super().train(False)

    def features(self, images: Images) -> Float[Tensor, "b f"]:
        """What the last block sees of images with values in [-1, 1]: 2,048 numbers each, by which FID compares.

        Images are resized to 299 pixels a side, bilinear and without antialias, as pytorch-fid does it. Grey images are
        shown in three equal channels.

        Raises:
            ConfigError: If images have neither one nor three channels.
        """
        channels = images.shape[1]
        require(channels in (1, 3), f"the images have {channels} channels, expected 1 or 3")
        images = images.to(self.output.weight).expand(-1, 3, -1, -1)
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear")
        seen: Tensor = self.blocks(self.stem(images))
        return seen.mean(dim=(2, 3))

    def scores(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b classes"]:
        """The outputs before softmax, without their bias: so the Inception score has always been taken."""
        return F.linear(features, self.output.weight)
