"""EfficientNet-Lite0 (Liu 2020, after Tan and Le 2019): a classifier of ImageNet's 1,000 classes, 4.7 M parameters."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.errors import require
from vqgan.nn.perceptual import unit_length
from vqgan.types import Images

STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Factor of the expansion, channels, blocks, stride of the first block, and kernel of each stage."""

SIDE, STEM, HEAD, CLASSES = 224, 32, 1280, 1000
"""Pixels of a side in training; channels of the first and the last convolution; classes."""

_COMPARED = 0, 2, 4, 10
"""Blocks whose output a distance compares: the last of the first, second, third and fifth stage, of 1/2 to 1/16 of the
sides."""

_EPSILON = 1e-3


class _Convolution(nn.Sequential):
    """A convolution and its norm. Borders are padded as TensorFlow does: an odd pixel more at the right and below."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=_EPSILON),
        )
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for side in (x.shape[3], x.shape[2]):
            whole = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            padding += [whole // 2, whole - whole // 2]
        convolution, norm = self
        normed: Tensor = norm(convolution(F.pad(x, padding)))
        return normed


class _Block(nn.Module):
    """An inverted residual: expanded, convolved channel by channel, projected; added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, factor: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * factor
        self.expand = _Convolution(inputs, wide) if factor > 1 else None
        self.depthwise = _Convolution(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = _Convolution(wide, outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return x + hidden if self.adds else hidden


class EfficientNetLite(nn.Module):
    """The network, always in evaluation mode and frozen; its weights come from a file.

    It sees images as it was trained: 224 pixels a side, values ``(v - 127) / 128`` of 0 to 255.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, STEM, kernel=3, stride=2)
        blocks, inputs = list[nn.Module](), STEM
        for factor, channels, count, stride, kernel in STAGES:
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(_Block(inputs, channels, factor=factor, kernel=kernel, stride=step))
                inputs = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(inputs, HEAD)
        self.classifier = nn.Linear(HEAD, CLASSES)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Stays in evaluation mode."""
        return super().train(False)

    def features(self, images: Images) -> Float[Tensor, "b f"]:
        """What the last layer sees of images with values in [-1, 1]: 1,280 numbers each.

        Grey images are shown in three equal channels.

        Raises:
            ConfigError: If images have neither one nor three channels.
        """
        channels = images.shape[1]
        require(channels in (1, 3), f"the images have {channels} channels, expected 1 or 3")
        images = images.to(self.classifier.weight).expand(-1, 3, -1, -1)
        if images.shape[2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True)
        return F.relu6(self.head(self._maps(images.clamp(-1, 1))[-1])).mean(dim=(2, 3))

    def distance(self, images: Images, others: Images) -> Float[Tensor, " b"]:
        """How different each pair looks, 0 to 4; differentiable with respect to both.

        The squared distance of features at unit length, in the mean over places and four depths. LPIPS (Zhang et al.
        2018) weighs channels by what people see; here all count alike.

        Args:
            images: Values in [-1, 1], 1 or 3 channels, compared at their own size.
            others: As ``images``, of the same shape.
        """
        total, count = images.new_zeros(len(images)), _COMPARED[-1] + 1
        pairs = zip(
            *(self._maps(each.expand(-1, 3, -1, -1), count) for each in (images, others)), strict=True
        )
        for number, (ours, theirs) in enumerate(pairs):
            if number in _COMPARED:
                apart = (unit_length(ours) - unit_length(theirs)).square().sum(dim=1)
                total = total + apart.mean(dim=(1, 2))
        return total / len(_COMPARED)

    def _maps(self, images: Images, count: int | None = None) -> list[Tensor]:
        """What each of the first blocks gives, by default of all."""
        hidden, maps = F.relu6(self.stem((images * 127.5 + 0.5) / 128)), list[Tensor]()
        for block in self.blocks[:count]:
            hidden = block(hidden)
            maps.append(hidden)
        return maps

    def forward(self, images: Images) -> Float[Tensor, "b classes"]:
        """The probabilities of ImageNet's classes, in their usual order."""
        return self.classifier(self.features(images)).softmax(dim=1)
