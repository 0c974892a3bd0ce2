"""Large real pictures inside installed packages: material without a download for crops at a picture's own resolution.

==========  ============  ==============================================================================================
name        package       what it shows, where it comes from, licence
==========  ============  ==============================================================================================
``hubble``  scikit-image  872 x 1000, colour: the Hubble eXtreme Deep Field; NASA, public domain
``grass``   scikit-image  512 x 512, grey; DeviantArt, by linolafett, CC0
``gravel``  scikit-image  512 x 512, grey; CC0Textures, Gravel04, CC0
``brick``   scikit-image  512 x 512, grey; CC0Textures, Bricks25, CC0
``china``   scikit-learn  427 x 640, colour: a temple; flickr.com/photos/danielbuechele/6061409035, CC BY 2.0
``flower``  scikit-learn  427 x 640, colour; flickr.com/photos/vultilion/6056698931, CC BY 2.0
==========  ============  ==============================================================================================

The packages say so in ``skimage/data/_fetchers.py`` and ``sklearn/datasets/images/README.txt``.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vqgan.config import Config
from vqgan.data.source import Item, Source
from vqgan.errors import ConfigError, closest, require
from vqgan.images import Pixels, read_pixels

HELD_OUT_COLUMNS = 1 / 5
"""Share of a picture's columns, at its right, that is held out."""

_SKIMAGE, _SKLEARN = ("skimage", "scikit-image", "data"), ("sklearn", "scikit-learn", "datasets/images")
PICTURES = {
    "hubble": (*_SKIMAGE, "hubble_deep_field.jpg"),
    "grass": (*_SKIMAGE, "grass.png"),
    "gravel": (*_SKIMAGE, "gravel.png"),
    "brick": (*_SKIMAGE, "brick.png"),
    "china": (*_SKLEARN, "china.jpg"),
    "flower": (*_SKLEARN, "flower.jpg"),
}
"""Where each picture is: module, name of its package, folder and file in it."""


class SampleConfig(Config, frozen=True, tag_field="kind", tag="sample"):
    """Large pictures by name; each is a class.

    Attributes:
        names: Of ``PICTURES``.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.names) > 0, "`names` is empty, expected at least one picture")
        require(len(set(self.names)) == len(self.names), "`names` names a picture twice")
        for name in self.names:
            require(name in PICTURES, f"unknown sample picture `{name}`", hint=closest(name, PICTURES))


@dataclass(eq=False, kw_only=True)
class SampleSource(Source):
    """Parts of pictures, in colour: of each the left four fifths, then the held-out squares from top to bottom.

    Several squares, because an evaluation sees one crop of each image. They have no pixel in common with what is
    trained on.

    Attributes:
        parts: All parts.
        classes: The picture that each is from.
        class_names: The pictures.
    """

    parts: list[np.ndarray]
    classes: list[int]
    class_names: tuple[str, ...]
    name: str = "sample"

    def __post_init__(self) -> None:
        after = [False] + [one == other for one, other in zip(self.classes, self.classes[1:], strict=False)]
        self.held_out = np.array(after)  # all but the first of each picture

    def __len__(self) -> int:
        return len(self.parts)

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        """The part and its picture's number; cannot fail."""
        return Item(self.parts[index], self.classes[index])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and pixels."""
        digest = hashlib.sha256(repr((self.class_names, [part.shape for part in self.parts])).encode())
        for part in self.parts:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def open_sample(config: SampleConfig) -> SampleSource:
    """Reads the pictures from the installed packages, which are not imported.

    Raises:
        ConfigError: If a package is not installed.
        DataError: If it does not hold the picture.
    """
    parts: list[np.ndarray] = []
    classes: list[int] = []
    for number, name in enumerate(config.names):
        own = _parts(read_pixels(_path(name), 3))
        parts += own
        classes += [number] * len(own)
    return SampleSource(parts=parts, classes=classes, class_names=config.names)


def _parts(picture: Pixels) -> list[np.ndarray]:
    """What is trained on, then the held-out squares (or a little higher: no row is lost)."""
    height, width = picture.shape[:2]
    held_out = max(1, round(width * HELD_OUT_COLUMNS))
    squares = np.array_split(picture[:, width - held_out :], max(1, height // held_out))
    return [picture[:, : width - held_out], *squares]


def _path(name: str) -> Path:
    module, package, folder, file = PICTURES[name]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"the data source `sample:{name}` needs {package}, which is not installed",
            hint='install the extra `demo`: pip install "vqgan[demo]"',
        )
    return Path(spec.submodule_search_locations[0]) / folder / file
