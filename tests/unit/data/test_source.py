import logging
import pickle

import numpy as np
import pytest

from vqgan.data.source import ArraySource, Source, Split


def numbered(count: int) -> ArraySource:
    """Image i is filled with i."""
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return ArraySource(name="n", images=images)


def part(count: int, split: Split) -> Source:
    return numbered(count).part(split)


def keyed(keys: list[bytes], split: Split) -> Source:
    class Keyed(ArraySource):
        def keys(self) -> list[bytes]:
            return keys

    images = np.arange(len(keys), dtype=np.uint16).astype(np.uint8).reshape(-1, 1, 1, 1)
    return Keyed(name="n", images=images).part(split)


def contents(source: object) -> list[int]:
    return [int(source.read(i).pixels[0, 0, 0]) for i in range(len(source))]


@pytest.mark.parametrize("count", [2, 3, 5, 20, 250])
def test_both_parts_hold_something_and_together_everything_once(count: int) -> None:
    train = contents(part(count, "train"))
    held_out = contents(part(count, "heldout"))
    assert train
    assert held_out
    assert train == sorted(train)
    assert sorted(train + held_out) == list(range(count))
    assert contents(part(count, "all")) == list(range(count))


def test_about_one_image_in_twenty_is_held_out() -> None:
    keys = [f"{i}.png".encode() for i in range(20_000)]
    assert 900 < len(keyed(keys, "heldout")) < 1100


def test_a_single_image_is_in_both_parts() -> None:
    assert contents(part(1, "train")) == contents(part(1, "heldout")) == [0]


def test_images_that_are_added_move_no_other_image() -> None:
    few = set(contents(part(150, "heldout")))
    many = set(contents(part(250, "heldout")))
    assert few == {number for number in many if number < 150}


@pytest.mark.parametrize(("count", "warned"), [(1, True), (10, True), (150, False)])
def test_too_few_images_to_hold_some_out_for_good_are_warned_about(count, warned, caplog):
    with caplog.at_level(logging.WARNING):
        part(count, "train")
        part(count, "all")
        assert caplog.messages == []
        part(count, "heldout")
    few = "is one image" if count == 1 else f"has too few images ({count}) to hold some out permanently"
    assert [message.split(":")[0] for message in caplog.messages] == warned * [f"`n` {few}"]


def test_equal_keys_stay_on_one_side() -> None:
    keys = [f"{i % 50}".encode() for i in range(200)]
    train = {i % 50 for i in contents(keyed(keys, "train"))}
    assert not train & {i % 50 for i in contents(keyed(keys, "heldout"))}


def test_the_hash_of_a_key_never_changes() -> None:
    keys = [f"folder/{i}.png".encode() for i in range(100)]
    assert contents(keyed(keys, "heldout")) == [43, 49, 85]


def test_fingerprints_differ_by_part_and_by_content_and_survive_pickling() -> None:
    source = numbered(30)
    parts = [source.part(split) for split in ("train", "heldout", "all")]
    prints = [part.fingerprint for part in parts]
    assert len({*prints, numbered(31).fingerprint}) == 4
    assert [pickle.loads(pickle.dumps(part)).fingerprint for part in parts] == prints
    assert parts[1].label(0) == f"n[{contents(parts[1])[0]}]"
