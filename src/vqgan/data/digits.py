"""scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: real images that need no download."""

import numpy as np

from vqgan.config import Config
from vqgan.data.source import ArraySource
from vqgan.errors import ConfigError


class DigitsConfig(Config, frozen=True, tag_field="kind", tag="digits"):
    """Handwritten digits, 8 x 8 pixels, grey; ten classes, "0" to "9"."""


def open_digits() -> ArraySource:
    """Loads the digits from the installed package; their 17 shades of grey become 0 to 255.

    Raises:
        ConfigError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError(
            "the data source `digits` needs scikit-learn, which is not installed",
            hint='install the extra `demo`: pip install "vqgan[demo]"',
        ) from None
    digits = load_digits()
    return ArraySource(
        name="digits",
        images=np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None],
        classes=digits.target.astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
    )
