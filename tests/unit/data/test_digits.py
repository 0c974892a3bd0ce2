import sys

import numpy as np
import pytest

from vqgan.data import DigitsConfig, open_source
from vqgan.errors import ConfigError


def test_the_digits_are_grey_images_of_ten_classes() -> None:
    source = open_source(DigitsConfig())
    assert len(source) == 1797
    assert source.class_names == tuple("0123456789")
    item = source.read(0)
    assert item.pixels.shape == (8, 8, 1)
    assert item.class_index == 0
    pixels = np.stack([source.read(i).pixels for i in range(1797)])
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(np.unique(pixels)) == 17


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="needs scikit-learn") as caught:
        open_source(DigitsConfig())
    assert 'pip install "vqgan[demo]"' in caught.value.hint
