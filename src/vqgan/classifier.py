"""A classifier of images: what a picture shows, as a probability of each class. It judges what a prior draws."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vqgan.config import Config
from vqgan.errors import require
from vqgan.tokenizer import AutoencoderConfig
from vqgan.tokenizer.autoencoder import Encoder
from vqgan.types import Images, check_images, grid_size


class ClassifierConfig(Config, frozen=True):
    """A whole classifier.

    Attributes:
        encoder: The sizes of its convolutions, as of a tokenizer's; its ``latent_channels`` features tell the class.
        image_size: Height and width that it was trained on; images of other sizes are resized to it.
        class_names: Their names, in the order of the probabilities.
    """

    encoder: AutoencoderConfig
    image_size: tuple[int, int]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        grid_size(self.image_size, self.encoder.downsample_factor, "classifier")
        count = len(self.class_names)
        require(count >= 2, f"`class_names` has the length {count}, expected at least 2")


class Classifier(nn.Module):
    """A tokenizer's encoder whose features, averaged over the image, tell the class. No statistics over a batch.

    Args:
        config: What to build; the weights are freshly initialised.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.image_channels = config.encoder.image_channels
        self.encoder = Encoder(config.encoder)
        self.output = nn.Linear(config.encoder.latent_channels, len(config.class_names))

    def features(self, images: Images) -> Float[Tensor, "b f"]:
        """What the last layer sees, by which images can be compared; arguments and errors as of :meth:`forward`."""
        check_images(images, self.image_channels)
        images = images.to(self.output.weight.device, torch.float32).clamp(-1, 1)
        if images.shape[2:] != self.config.image_size:
            images = F.interpolate(images, self.config.image_size, mode="bilinear", antialias=True)
        return F.silu(self.encoder(images.to(self.output.weight.dtype))).mean(dim=(2, 3))

    def logits(self, images: Images) -> Float[Tensor, "b classes"]:
        """Unnormalised log-probabilities of the classes; arguments and errors as of :meth:`forward`."""
        return self.output(self.features(images))

    def forward(self, images: Images) -> Float[Tensor, "b classes"]:
        """The probability of each class, in the order of ``config.class_names``; each row adds up to 1.

        Args:
            images: Values in [-1, 1], of any size. They are taken to the device of the weights.

        Raises:
            ConfigError: If these are no images, or their channels do not fit.
        """
        return self.logits(images).float().softmax(dim=1)

    @torch.no_grad()
    def scores(self, images: Images, classes: Sequence[int] | None = None) -> Float[Tensor, " b"]:
        """How probable it is that each image shows its class; without classes, the highest probability of any.

        Args:
            images: As of :meth:`forward`.
            classes: The class of each image, by number.

        Raises:
            ConfigError: As :meth:`forward`; or if there is not one class for each image, or one does not exist.
        """
        probabilities = self(images)
        if classes is None:
            return probabilities.amax(dim=1)
        require(
            len(classes) == len(images),
            f"there are {len(classes)} classes for {len(images)} images, expected one for each",
            hint="the probabilities of one class: `classifier(images)[:, 3]`",
        )
        known = range(len(self.config.class_names))
        for each in classes:
            what = f"the class {each!r} does not exist, expected a number from 0 to {known[-1]}"
            require(
                each in known, what, hint="their names, in this order, are `classifier.config.class_names`"
            )
        return probabilities[torch.arange(len(images)), torch.tensor([int(each) for each in classes])]
