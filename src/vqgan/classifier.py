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
from vqgan.types import Images, check_images, next_sizes


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
        (height, width), factor = self.image_size, self.encoder.downsample_factor
        require(
            min(height, width) >= 1 and height % factor == 0 and width % factor == 0,
            f"`image_size` is {height}x{width}, expected multiples of the classifier's {factor}",
            hint=next_sizes(self.image_size, factor),
        )
        count = len(self.class_names)
        require(count >= 2, f"there {'is' if count == 1 else 'are'} {count} class, expected at least 2")


class Classifier(nn.Module):
    """A tokenizer's encoder whose features, averaged over the image, tell the class. No statistics over a batch.

    Args:
        config: What to build; the weights are freshly initialised.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.output = nn.Linear(config.encoder.latent_channels, len(config.class_names))

    @property
    def image_channels(self) -> int:
        """Channels of the images."""
        return self.config.encoder.image_channels

    def logits(self, images: Images) -> Float[Tensor, "b classes"]:
        """Unnormalised log-probabilities of the classes; arguments and errors as of :meth:`forward`."""
        check_images(images)
        require(
            images.shape[1] == self.image_channels,
            f"the images have {images.shape[1]} channels; the classifier was built for {self.image_channels}",
            hint="convert the images, or train a classifier on such images",
        )
        images = images.to(self.output.weight.device, torch.float32).clamp(-1, 1)
        if images.shape[2:] != self.config.image_size:
            images = F.interpolate(images, self.config.image_size, mode="bilinear", antialias=True)
        return self.output(F.silu(self.encoder(images.to(self.output.weight.dtype))).mean(dim=(2, 3)))

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
        """
        probabilities = self(images)
        if classes is None:
            return probabilities.amax(dim=1)
        return probabilities[torch.arange(len(images)), torch.tensor(classes)]
