import logging
import pickle

import numpy as np
import pytest

from vqgan.data.base import ArraySource, split_source


def numbered(count: int) -> ArraySource:
    """Image i is filled with i."""
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ArraySource(name="n", images=images, classes=None, class_names=())


def contents(source: object) -> list[int]:
    return [int(source.read(i).pixels[0, 0, 0]) for i in range(len(source))]


@pytest.mark.parametrize("count", [2, 3, 5, 20, 250])
def test_both_parts_hold_something_and_together_everything_once(count: int) -> None:
    train = contents(split_source(numbered(count), "train"))
    held_out = contents(split_source(numbered(count), "heldout"))
    assert train
    assert held_out
    assert train == sorted(train)
    assert sorted(train + held_out) == list(range(count))
    assert contents(split_source(numbered(count), "all")) == list(range(count))


def test_about_one_image_in_twenty_is_held_out() -> None:
    keys = [f"{i}.png".encode() for i in range(20_000)]
    source = ArraySource(name="n", images=np.zeros((20_000, 1, 1, 1), np.uint8), classes=None, class_names=())
    assert 900 < len(split_source(source, "heldout", keys)) < 1100


def test_a_single_image_is_in_both_parts() -> None:
    assert (
        contents(split_source(numbered(1), "train")) == contents(split_source(numbered(1), "heldout")) == [0]
    )


def test_images_that_are_added_move_no_other_image() -> None:
    few = set(contents(split_source(numbered(150), "heldout")))
    many = set(contents(split_source(numbered(250), "heldout")))
    assert few == {number for number in many if number < 150}


@pytest.mark.parametrize(("count", "warned"), [(1, True), (10, True), (150, False)])
def test_too_few_images_to_hold_some_out_for_good_are_warned_about(count, warned, caplog):
    with caplog.at_level(logging.WARNING):
        split_source(numbered(count), "train")
        split_source(numbered(count), "all")
        assert caplog.messages == []
        split_source(numbered(count), "heldout")
    few = "is one image" if count == 1 else f"has too few images ({count}) to hold some out for good"
    assert [message.split(":")[0] for message in caplog.messages] == warned * [f"`n` {few}"]


def test_equal_keys_stay_on_one_side() -> None:
    keys = [f"{i % 50}".encode() for i in range(200)]
    train = {i % 50 for i in contents(split_source(numbered(200), "train", keys))}
    assert not train & {i % 50 for i in contents(split_source(numbered(200), "heldout", keys))}


def test_the_hash_of_a_key_never_changes() -> None:
    keys = [f"folder/{i}.png".encode() for i in range(100)]
    assert contents(split_source(numbered(100), "heldout", keys)) == [43, 49, 85]


def test_fingerprints_differ_by_part_and_by_content_and_survive_pickling() -> None:
    source = numbered(30)
    parts = [split_source(source, split) for split in ("train", "heldout", "all")]
    prints = [part.fingerprint() for part in parts]
    assert len({*prints, numbered(31).fingerprint()}) == 4
    assert [pickle.loads(pickle.dumps(part)).fingerprint() for part in parts] == prints
    assert parts[1].label(0) == f"n[{contents(parts[1])[0]}]"
