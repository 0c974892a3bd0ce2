import logging
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing

from vqgan.data import FolderConfig, ListConfig, open_source
from vqgan.data.loader import (
    AUGMENTATION,
    MAX_TRIES,
    candidates,
    draws,
    evaluation_batches,
    permutation,
    training_batches,
)
from vqgan.data.source import ArraySource, Item, Source
from vqgan.data.transforms import TransformConfig
from vqgan.errors import ConfigError, DataError
from vqgan.images import save_png, to_float
from vqgan.types import Batch

PLAIN = TransformConfig(image_size=(4, 5), image_channels=1, crop="center", flip=False)
AUGMENTED = TransformConfig(image_size=(4, 5), image_channels=3, crop="random", flip=True)


def noise(count: int, classes: int = 3) -> ArraySource:
    """Image i shows i in its first pixel."""
    images = np.random.default_rng(0).integers(0, 256, (count, 7, 8, 1)).astype(np.uint8)
    names = tuple(str(i) for i in range(classes))
    return ArraySource(name="noise", images=images, classes=np.arange(count) % classes, class_names=names)


@dataclass
class Watched(Source):
    """A source that notes what is read, and that cannot read some of its images."""

    size: int
    bad: frozenset[int] = frozenset()
    reads: list[int] = field(default_factory=list)
    name: str = "watched"
    class_names: tuple[str, ...] = ()
    fingerprint: str = "0"

    def __len__(self) -> int:
        return self.size

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        self.reads.append(index)
        if index in self.bad:
            raise DataError(f"cannot read `{self.label(index)}`: OSError: cut short")
        return Item(np.full((4, 5, 1), index % 256, np.uint8), None)

    def label(self, index: int) -> str:
        return f"file {index}"


def first(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(islice(batches, count))


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.sample, other.sample)
        assert one.condition.keys() == other.condition.keys()
        assert all(torch.equal(one.condition[name], other.condition[name]) for name in one.condition)
        assert one.skipped == other.skipped


def shown(batches: list[Batch]) -> list[int]:
    """The numbers of the images of a Watched source."""
    return [round(float(image[0, 0, 0] + 1) * 127.5) for batch in batches for image in batch.images]


def test_a_batch_holds_images_classes_and_sample_numbers() -> None:
    batch = first(training_batches(noise(10), AUGMENTED, batch_size=4, seed=0), 1)[0]
    assert batch.images.shape == (4, 3, 4, 5)
    assert batch.images.dtype == torch.float32
    assert batch.condition["class"].dtype == torch.int64
    assert batch.sample.tolist() == [0, 1, 2, 3]
    assert batch.skipped == ()
    assert first(training_batches(Watched(10), PLAIN, batch_size=4, seed=0), 1)[0].condition == {}


def test_each_image_comes_with_its_class() -> None:
    source = noise(12)
    sized = replace_size(PLAIN, (7, 8))
    for batch in first(training_batches(source, sized, batch_size=5, seed=3), 4):
        for image, number in zip(batch.images, batch.condition["class"].tolist(), strict=True):
            same = [i for i in range(12) if torch.equal(to_float(source.read(i).pixels), image)]
            assert [i % 3 for i in same] == [number]


def replace_size(config: TransformConfig, size: tuple[int, int]) -> TransformConfig:
    return TransformConfig(
        image_size=size, image_channels=config.image_channels, crop=config.crop, flip=config.flip
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(workers: int) -> None:
    batches_of = partial(training_batches, noise(11), AUGMENTED, batch_size=4, seed=5)
    assert_same(first(batches_of(workers=workers), 8), first(batches_of(), 8))


def test_starting_at_a_sample_equals_skipping_to_it() -> None:
    batches_of = partial(training_batches, noise(11), AUGMENTED, batch_size=4, seed=5)
    everything = first(batches_of(), 12)
    assert_same(first(batches_of(start=7 * 4), 5), everything[7:])
    assert_same(first(batches_of(start=7 * 4, workers=2), 5), everything[7:])


@pytest.mark.parametrize("world", [2, 4])
def test_training_processes_share_the_batch_of_one(world: int) -> None:
    batches_of = partial(training_batches, noise(11), AUGMENTED, batch_size=4, seed=5)
    shares = [first(batches_of(rank=rank, world=world, start=4), 6) for rank in range(world)]
    for whole, *parts in zip(first(batches_of(start=4), 6), *shares, strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.sample for part in parts]), whole.sample)
        assert torch.equal(torch.cat([part.condition["class"] for part in parts]), whole.condition["class"])


def test_the_seed_decides_order_and_augmentation() -> None:
    one, same, other = (
        first(training_batches(noise(11), AUGMENTED, batch_size=4, seed=s), 3) for s in (1, 1, 2)
    )
    assert_same(one, same)
    assert not torch.equal(one[0].images, other[0].images)


def test_the_same_image_is_augmented_anew_in_every_epoch() -> None:
    batches = first(training_batches(noise(1), AUGMENTED, batch_size=1, seed=0), 20)
    assert len({tuple(batch.images.flatten().tolist()) for batch in batches}) > 10


def test_every_epoch_is_a_permutation_also_when_batches_straddle_its_end() -> None:
    numbers = shown(first(training_batches(Watched(7), PLAIN, batch_size=3, seed=1), 7))
    epochs = [numbers[0:7], numbers[7:14], numbers[14:21]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_nothing_before_the_start_is_read_however_far_it_is() -> None:
    source = Watched(100)
    batch = first(training_batches(source, PLAIN, batch_size=8, seed=0, start=50 * 100 - 4), 1)[0]
    assert source.reads == shown([batch])
    assert len(source.reads) == 8
    assert batch.sample.tolist() == list(range(4996, 5004))


def test_the_global_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for workers in (0, 1):
        first(training_batches(noise(5), AUGMENTED, batch_size=2, seed=0, workers=workers), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_image_of_the_order_takes_the_place_of_a_bad_one(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    size = 60
    good = shown(first(training_batches(Watched(size), PLAIN, batch_size=20, seed=2), 3))
    place = 17
    source = Watched(size, bad=frozenset({good[place]}))
    with caplog.at_level(logging.WARNING):
        batches = first(training_batches(source, PLAIN, batch_size=20, seed=2, workers=workers), 6)
    assert shown(batches[:3]) == [*good[:place], good[place + 1], *good[place + 1 :]]
    assert batches[0].skipped == ((f"file {good[place]}", "OSError: cut short"),)
    assert batches[1].skipped == ()
    assert sum(len(batch.skipped) for batch in batches) == 2
    assert caplog.messages == [f"skipped `file {good[place]}`: OSError: cut short"]
    assert batches[0].sample.tolist() == list(range(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_images_stop_with_a_table(workers: int) -> None:
    source = Watched(200, bad=frozenset(range(0, 200, 10)))
    with pytest.raises(DataError) as caught:
        first(training_batches(source, PLAIN, batch_size=10, seed=0, workers=workers), 100)
    assert "too many images cannot be read" in caught.value.message
    assert "at most 5% are skipped" in caught.value.message
    assert "OSError: cut short  (`file " in caught.value.message
    assert "repair or remove" in caught.value.hint
    assert torch.multiprocessing.active_children() == []


@pytest.mark.parametrize("size", [1, 3, 500])
def test_a_source_without_one_good_image_stops_at_once(size: int) -> None:
    source = Watched(size, bad=frozenset(range(size)))
    with pytest.raises(DataError, match="too many images cannot be read"):
        next(iter(training_batches(source, PLAIN, batch_size=2, seed=0)))


def test_one_bad_image_of_few_never_stops_a_run_however_long_it_is() -> None:
    batches_of = partial(training_batches, Watched(19, bad=frozenset({4})), PLAIN, batch_size=4, seed=0)
    batches = first(batches_of(), 200)
    assert all(len(batch.images) == 4 for batch in batches)
    assert {path for batch in batches for path, _ in batch.skipped} == {"file 4"}
    assert sum(len(batch.skipped) for batch in batches) > 40


@pytest.mark.parametrize(
    ("size", "bad", "stops"), [(19, 4, False), (19, 5, True), (60, 5, True), (101, 5, False)]
)
def test_a_run_stops_at_five_bad_images_if_they_are_more_than_one_in_twenty(
    size: int, bad: int, stops: bool
) -> None:
    batches_of = partial(
        training_batches, Watched(size, bad=frozenset(range(bad))), PLAIN, batch_size=10, seed=0
    )
    if not stops:
        assert len(first(batches_of(), 100)) == 100
        return
    with pytest.raises(DataError, match=f"cannot be read: {bad} of {size} tried"):
        first(batches_of(), 100)


class Broken(Watched):
    """Fails in a way that no other image can make good."""

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        raise ConfigError("the game `x` is unknown", hint="did you mean `y`?")


def test_an_error_in_a_worker_keeps_its_kind_message_and_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        first(training_batches(Broken(5), PLAIN, batch_size=2, seed=0, workers=2), 1)
    assert (caught.value.message, caught.value.hint) == ("the game `x` is unknown", "did you mean `y`?")
    assert torch.multiprocessing.active_children() == []


class Killed(Watched):
    """Takes its process with it, as the system does when memory is short."""

    def read(self, index: int, channels: int = 3, smallest_side: int | None = None) -> Item:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_dies_is_a_data_error() -> None:
    with pytest.raises(DataError, match="a process that reads images died") as caught:
        first(training_batches(Killed(5), PLAIN, batch_size=2, seed=0, workers=1), 1)
    assert "lower the number of workers" in caught.value.hint
    assert torch.multiprocessing.active_children() == []


def test_workers_end_with_the_iteration() -> None:
    batches = iter(training_batches(noise(5), PLAIN, batch_size=2, seed=0, workers=2))
    for _ in range(2):  # one of each worker: only then both have surely left this process's group
        next(batches)
    children = torch.multiprocessing.active_children()
    assert len(children) == 2
    groups = {os.getpgid(child.pid) for child in children}
    assert os.getpgid(0) not in groups
    batches.close()
    assert torch.multiprocessing.active_children() == []


def test_a_source_can_be_sent_to_a_process_that_starts_from_nothing(tmp_path: Path) -> None:
    for number in range(6):
        pixels = np.full((6, 6, 3), 40 * number, np.uint8)
        save_png(to_float(pixels), tmp_path / "ab"[number % 2] / f"{number}.png")
    source = open_source(FolderConfig(path=str(tmp_path))).part("train")
    batches_of = partial(training_batches, source, AUGMENTED, batch_size=2, seed=0)
    assert_same(first(pickle.loads(pickle.dumps(batches_of))(), 3), first(batches_of(), 3))
    before = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method("spawn", force=True)
    try:
        assert_same(first(batches_of(workers=1), 3), first(batches_of(), 3))
    finally:
        torch.multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_every_image_once_in_order_without_chance(workers: int) -> None:
    source = noise(7)
    batches = list(evaluation_batches(source, AUGMENTED, 3, workers=workers))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    assert torch.cat([batch.sample for batch in batches]).tolist() == list(range(7))
    assert torch.cat([batch.condition["class"] for batch in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert_same(batches, list(evaluation_batches(source, AUGMENTED, 3)))


def test_a_limited_evaluation_is_spread_over_the_source() -> None:
    numbers = shown(list(evaluation_batches(Watched(100), PLAIN, 3, limit=5)))
    assert numbers == [0, 20, 40, 60, 80]
    assert shown(list(evaluation_batches(Watched(3), PLAIN, 2, limit=5))) == [0, 1, 2]


def test_evaluation_leaves_bad_images_out_and_reports_them() -> None:
    source = Watched(12, bad=frozenset({0, 1, 7}))
    batches = list(evaluation_batches(source, PLAIN, 2))
    assert shown(batches) == [2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert [len(batch.images) for batch in batches] == [0, 2, 2, 1, 2, 2]
    assert [path for batch in batches for path, _ in batch.skipped] == ["file 0", "file 1", "file 7"]


@pytest.mark.parametrize("size", [1, 7, 200])
def test_an_evaluation_without_one_good_image_is_empty_and_reports_them_all(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    batches = list(evaluation_batches(Watched(size, bad=frozenset(range(size))), PLAIN, 4))
    assert shown(batches) == []
    assert sum(len(batch.skipped) for batch in batches) == size
    assert caplog.messages == []  # whoever evaluates again and again says so once


def test_a_list_that_names_one_bad_file_again_and_again_stops(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"<html>")
    (tmp_path / "list.txt").write_text("bad.png\n" * 3)
    source = open_source(ListConfig(path=str(tmp_path / "list.txt")))
    with pytest.raises(DataError, match="too many images cannot be read"):
        first(training_batches(source, PLAIN, batch_size=2, seed=0), 1)


def test_many_bad_images_in_front_of_a_good_one_do_not_stop_before_enough_are_tried() -> None:
    order = permutation(1000, 0, 0)
    source = Watched(1000, bad=frozenset(order[:40].tolist()))
    assert len(first(training_batches(source, PLAIN, batch_size=1, seed=0), 50)) == 50
    with pytest.raises(DataError, match="cannot be read: 40 of "):
        first(
            training_batches(
                Watched(100, bad=frozenset(permutation(100, 0, 0)[:40].tolist())), PLAIN, batch_size=1, seed=0
            ),
            200,
        )


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_every_epoch_shows_every_image_once_and_in_another_order(size: int) -> None:
    epochs = [[next(candidates(epoch * size + i, size, seed=3)) for i in range(size)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    assert size < 7 or len({tuple(epoch) for epoch in epochs}) == 3


def test_the_seed_decides_the_order() -> None:
    assert not np.array_equal(permutation(50, 1, 0), permutation(50, 2, 0))
    assert not np.array_equal(permutation(50, 0, 1), permutation(50, 1, 0))


def test_the_order_of_a_seed_never_changes() -> None:
    assert permutation(8, 7, 0).tolist() == [4, 1, 6, 3, 2, 7, 5, 0]
    assert permutation(8, 2**63 - 1, 10**12).tolist() == [1, 5, 7, 0, 6, 4, 3, 2]


def test_those_that_take_an_images_place_follow_in_the_epochs_order() -> None:
    order = permutation(5, 0, 4)
    assert list(candidates(4 * 5 + 3, 5, 0)) == [*order[3:], *order[:3]]
    assert len(list(candidates(0, 10_000, 0))) == MAX_TRIES


def test_augmentation_follows_from_seed_and_sample_and_is_not_the_orders_chance() -> None:
    firsts = {key: draws(*key, AUGMENTATION).random() for key in product(range(20), range(20))}
    assert len(set(firsts.values())) == 400
    assert draws(9, 5, AUGMENTATION).random() == firsts[9, 5]
    other = np.argsort(draws(3, 5, AUGMENTATION).bit_generator.random_raw(1000), kind="stable")
    assert not np.array_equal(permutation(1000, 3, 5), other)


def test_samples_come_with_their_context_and_their_coordinates_where_these_are_asked_for() -> None:
    wanted = TransformConfig(
        image_size=(2, 3), image_channels=1, resize=None, context=2, flip=True, coordinates=True
    )
    source = ArraySource(name="one", images=np.arange(9 * 10, dtype=np.uint8).reshape(1, 9, 10, 1))
    (batch,) = first(training_batches(source, wanted, batch_size=400, seed=0), 1)
    assert batch.images.shape == (400, 1, 6, 7)
    places = batch.condition["coordinates"] * 90
    assert batch.corner is not None
    for image, (row, column), place in zip(batch.images, batch.corner.tolist(), places, strict=True):
        shown = ((image[:, row : row + 2, column : column + 3] + 1) * 127.5).round()
        same, mirrored = shown - place, shown // 10 * 10 + 9 - shown % 10 - place
        assert min(same.abs().max(), mirrored.abs().max()) < 1e-3
    assert {tuple(corner) for corner in batch.corner.tolist()} == {
        (y, x) for y in (0, 2, 4) for x in (0, 2, 4)
    }
    (held_out,) = evaluation_batches(source, wanted, 4)
    assert held_out.corner is not None
    assert held_out.corner.tolist() == [[2, 2]]


def test_a_batch_without_images_has_the_shapes_of_others() -> None:
    wanted = TransformConfig(image_size=(2, 3), image_channels=1, context=2, coordinates=True)
    (batch,) = evaluation_batches(Watched(2, bad=frozenset({0, 1})), wanted, 2)
    assert batch.images.shape == (0, 1, 6, 7)
    assert batch.condition["coordinates"].shape == (0, 1, 2, 3)
    assert batch.corner is not None
    assert batch.corner.shape == (0, 2)
