"""What every data source promises, checked for each member of the union."""

import hashlib
import pickle
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from examples import example
from vqgan.config import Config, from_mapping, to_mapping
from vqgan.data import CodesConfig, DigitsConfig, Source, SourceConfig, open_source
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.data.transforms import TransformConfig
from vqgan.training.run import DataConfig, open_sources


class Holder(Config, frozen=True):
    """A configuration with a source in it."""

    source: SourceConfig


MEMBERS = [each for each in typing.get_args(SourceConfig) if each is not CodesConfig]
"""All that hold images; those of codes promise other things."""
Opener = Callable[[str], Source]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sources that are made first are made once for all tests, and not in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__struct_config__.tag)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> SourceConfig:
    return example(request.param, tmp_path)


@pytest.fixture
def opened(config: SourceConfig) -> Opener:
    return lambda split: open_source(config).part(split)


def labels(source: Source) -> list[str]:
    return [source.label(i) for i in range(len(source))]


def test_the_config_survives_the_way_through_a_file(config: SourceConfig) -> None:
    assert from_mapping({"source": to_mapping(config)}, Holder).source == config


def contents(source: Source) -> list[tuple[int | None, bytes]]:
    items = [source.read(i) for i in range(len(source))]
    return [(item.class_index, hashlib.sha256(item.pixels.tobytes()).digest()) for item in items]


def test_training_and_held_out_images_are_all_images_once(opened: Opener) -> None:
    train, held_out, everything = (contents(opened(split)) for split in ("train", "heldout", "all"))
    assert train
    assert held_out
    assert Counter(train + held_out) == Counter(everything)


def test_held_out_images_of_its_own_are_never_trained_on(config: SourceConfig, opened: Opener) -> None:
    other = DigitsConfig()
    train, _ = open_sources(DataConfig(image_size=(8, 8), source=config, eval_source=other))
    _, held_out = open_sources(DataConfig(image_size=(8, 8), source=other, eval_source=config))
    own = opened("all").held_out is not None
    assert contents(train) == contents(opened("train" if own else "all"))
    assert contents(held_out) == contents(opened("heldout" if own else "all"))


def test_images_have_one_number_of_channels_and_a_class_exactly_when_there_are_classes(
    opened: Opener,
) -> None:
    source = opened("all")
    assert source.name
    channels = {source.read(index).pixels.shape[2] for index in range(len(source))}
    assert channels in ({1}, {3})
    assert len(set(source.class_names)) == len(source.class_names)
    for index in range(0, len(source), max(1, len(source) // 20)):
        item = source.read(index)
        assert item.pixels.dtype == np.uint8
        assert item.pixels.ndim == 3
        assert item.class_index in (range(len(source.class_names)) if source.class_names else (None,))


def test_both_parts_number_the_classes_alike(opened: Opener) -> None:
    names = {opened(split).class_names for split in ("train", "heldout", "all")}
    assert len(names) == 1


def test_opening_again_gives_the_same_images_and_fingerprint(opened: Opener) -> None:
    one, other = opened("train"), opened("train")
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != opened("heldout").fingerprint
    assert labels(one) == labels(other)
    last = len(one) - 1
    assert np.array_equal(one.read(last).pixels, other.read(last).pixels)
    assert np.array_equal(one.read(last).pixels, one.read(last).pixels)


def test_a_source_can_be_sent_to_another_process(opened: Opener) -> None:
    source = opened("train")
    copy = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint == source.fingerprint
    assert np.array_equal(copy.read(0).pixels, source.read(0).pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_come_in_the_wanted_size_and_channels(opened: Opener, channels: int) -> None:
    transform = TransformConfig(image_size=(8, 8), image_channels=channels, crop="random", flip=True)
    source = opened("train")
    for batch in islice(training_batches(source, transform, batch_size=4, seed=0), 3):
        assert batch.images.shape == (4, channels, 8, 8)
        assert batch.skipped == ()
        own = {"class": source.class_names, "text": source.captions}
        assert set(batch.condition) == {name for name, values in own.items() if values}
    held_out = opened("heldout")
    batches = list(evaluation_batches(held_out, transform, 4, limit=6))
    assert sum(len(batch.images) for batch in batches) == min(6, len(held_out))
    assert all(torch.isfinite(batch.images).all() for batch in batches)
