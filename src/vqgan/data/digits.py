"""scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: real images that need no download."""

import numpy as np

from vqgan.config import Config
from vqgan.data.source import ArraySource
from vqgan.errors import needing


class DigitsConfig(Config, frozen=True, tag_field="kind", tag="digits"):
    """Handwritten digits, 8 x 8 pixels, grey; ten classes, "0" to "9"."""


def open_digits() -> ArraySource:
    """Loads the digits from the installed package; their 17 shades of grey become 0 to 255.

    Raises:
        ConfigError: If scikit-learn is not installed.
    """
    with needing("scikit-learn", "the data source `digits`", "demo"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    return ArraySource(
        name="digits",
        images=np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None],
        classes=digits.target.astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
    )
