import sys

import numpy as np
import pytest

from vqgan.data import DigitsConfig, open_source
from vqgan.data.loader import evaluation_batches
from vqgan.data.transforms import TransformConfig
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


def test_every_digit_can_be_read_and_is_in_one_part() -> None:
    plain = TransformConfig(image_size=(8, 8), image_channels=1, crop="center", flip=False)
    counts = {}
    for split in ("train", "heldout"):
        batches = list(evaluation_batches(open_source(DigitsConfig()).part(split), plain, 500))
        assert not any(batch.skipped for batch in batches)
        counts[split] = sum(len(batch.images) for batch in batches)
    assert sum(counts.values()) == 1797
    assert 60 <= counts["heldout"] <= 120


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="needs scikit-learn") as caught:
        open_source(DigitsConfig())
    assert 'pip install "vqgan[demo]"' in caught.value.hint
