"""A discriminator that judges overlapping patches of an image."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vqgan.nn.batch_norm import BatchNorm
from vqgan.types import Images

DiscriminatorNorm = Literal["batch", "spectral", "none"]


class PatchDiscriminator(nn.Module):
    """A stack of 4x4 convolutions whose every output judges one patch (Isola et al. 2017, "PatchGAN").

    Its batch statistics are taken over one call, in all processes that train together: give it real and generated
    images in separate calls.

    Args:
        image_channels: Channels of the images.
        base_channels: Width after the first convolution; it doubles with each halving, up to eightfold.
        num_layers: Halvings of the resolution; a patch is 70 pixels wide with 3.
        norm: ``"spectral"`` divides each convolution by an estimate of its largest singular value (Miyato et al. 2018),
            which :meth:`refresh` improves; it has no batch statistics, as ``"none"`` has none.

    Attributes:
        min_side: The fewest pixels a side that leave one patch.
    """

    def __init__(
        self,
        *,
        image_channels: int = 3,
        base_channels: int = 64,
        num_layers: int = 3,
        norm: DiscriminatorNorm = "batch",
    ) -> None:
        super().__init__()
        self.min_side = 3 << num_layers
        widths = [base_channels * min(2**i, 8) for i in range(num_layers + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(image_channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for i in range(1, num_layers + 1):
            stride = 2 if i < num_layers else 1
            has_statistics = norm == "batch"
            layers.append(
                nn.Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=not has_statistics)
            )
            layers += [BatchNorm(widths[i])] if has_statistics else []
            layers.append(nn.LeakyReLU(0.2))
        layers.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        self._spectral = [spectral_norm(layer) for layer in convolutions] if norm == "spectral" else []
        self.train()

    def train(self, mode: bool = True) -> "PatchDiscriminator":
        """As for every module, but no forward pass moves the estimates of singular values: their number is chance."""
        super().train(mode)
        for layer in self._spectral:
            layer.eval()
        return self

    def refresh(self) -> None:
        """Improves the estimates of singular values by one step of the power method; for once a training step."""
        for layer in self._spectral:
            layer.train()
            _ = layer.weight
            layer.eval()

    def forward(self, images: Images) -> Float[Tensor, "b 1 i j"]:
        """One logit per patch: positive means "real"."""
        return self.layers(images)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
