import functools
import itertools
import re
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.data.source import ArraySource
from vqgan.errors import ConfigError, DataError
from vqgan.images import to_float
from vqgan.runs import train
from vqgan.training.cached_codes import CachedCodes, check_pictures, draw_variant
from vqgan.training.run import DataConfig

FACTOR = 4


@dataclass(eq=False, kw_only=True)
class Pictures(ArraySource):
    """Noise, each picture a class of its own; some cannot be read."""

    name: str = "noise"
    images: np.ndarray = field(
        default_factory=lambda: np.random.Generator(np.random.Philox(0)).integers(
            0, 256, (3, 21, 30, 1), np.uint8
        )
    )
    bad: tuple[int, ...] = ()

    def __post_init__(self):
        self.classes = np.arange(len(self.images))
        self.class_names = tuple(f"picture {number}" for number in self.classes)

    def read(self, index, channels=3, smallest_side=None):
        if index in self.bad:
            raise DataError(f"cannot read `{self.label(index)}`: it is torn")
        return super().read(index, channels, smallest_side)


def wanted(variants, **changes):
    return DataConfig(image_size=(8, 12), resize=None, cached_codes=variants, **changes)


def codes(source=None, variants=FACTOR**2, seed=7, **changes):
    found = CachedCodes(
        source or Pictures(), tiny.tokenizer().eval(), data=wanted(variants, **changes), seed=seed
    )
    found.encode()
    return found


def first(batches, count):
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_cells_of_the_whole_shifted_picture_and_know_their_class_and_place(flip):
    source, tokenizer = Pictures(), tiny.tokenizer().eval()
    (batch,) = first(
        codes(source, 32 if flip else 16, flip=flip).batches(batch_size=300, coordinates=True), 1
    )
    assert batch.indices.shape == (300, 2, 3)
    assert batch.indices.dtype == torch.int64
    assert batch.images.shape == (300, 1, 0, 0)
    seen, mirrored = set(), []

    @functools.cache
    def grid(label, down, right, mirror):
        whole = to_float(source.images[label])[None]
        shifted = (whole.flip(-1) if mirror else whole)[:, :, down:, right:]
        height, width = (side // FACTOR * FACTOR for side in shifted.shape[2:])
        return tokenizer.encode(shifted[:, :, :height, :width])[0]

    for indices, label, place in zip(
        batch.indices, batch.condition["class"].tolist(), batch.condition["coordinates"], strict=True
    ):
        row, column = divmod(round(place[0, 0, 0].item() * 21 * 30), 30)
        rows, columns = torch.arange(row, row + 8), torch.arange(column, column + 12)
        assert torch.allclose(place[0] * 21 * 30, (rows[:, None] * 30 + columns).float(), atol=1e-3)
        equal = []
        for mirror in (False, True):
            cells = grid(label, row % FACTOR, column % FACTOR, mirror)[row // FACTOR :, column // FACTOR :]
            equal.append(torch.equal(indices, cells[:2, :3]))
        assert equal[0] or (equal[1] and flip)
        seen.add((row % FACTOR, column % FACTOR))
        mirrored.append(not equal[0])
    assert len(seen) == FACTOR**2
    assert 0.4 < sum(mirrored) / len(mirrored) < 0.6 if flip else not any(mirrored)


def test_without_classes_and_coordinates_there_is_no_condition():
    source = ArraySource(name="one", images=Pictures().images[:1])
    (batch,) = first(codes(source).batches(batch_size=2), 1)
    assert batch.condition == {}
    assert batch.sample.tolist() == [0, 1]


def test_samples_are_the_same_from_any_start_and_for_any_number_of_processes():
    whole = first(codes(flip=True).batches(batch_size=6), 4)
    (later,) = first(codes(flip=True).batches(batch_size=6, start=18), 1)
    assert torch.equal(later.indices, whole[3].indices)
    assert later.sample.tolist() == [18, 19, 20, 21, 22, 23]
    shares = [first(codes(flip=True).batches(batch_size=6, rank=rank, world=3), 4)[1] for rank in range(3)]
    assert torch.equal(torch.cat([share.indices for share in shares]), whole[1].indices)
    assert torch.cat([share.sample for share in shares]).tolist() == whole[1].sample.tolist()
    (other,) = first(codes(flip=True, seed=8).batches(batch_size=6), 1)
    assert not torch.equal(other.indices, whole[0].indices)


def test_every_picture_is_shown_once_in_an_epoch():
    for batch in first(codes().batches(batch_size=3), 5):
        assert sorted(batch.condition["class"].tolist()) == [0, 1, 2]


def test_variants_repeat_neither_rows_nor_columns_nor_pairs_before_they_must():
    for picture in range(20):
        variants = [draw_variant(number, picture, 8, seed=1) for number in range(128)]
        for begin in range(0, 128, 8):
            assert {each.top for each in variants[begin : begin + 8]} == set(range(8))
            assert {each.left for each in variants[begin : begin + 8]} == set(range(8))
            assert sum(each.mirrored for each in variants[begin : begin + 8]) == 4
        assert len({each[:2] for each in variants[:64]}) == 64
        assert len(set(variants)) == 128
    assert len({draw_variant(0, picture, 8, seed) for picture in range(20) for seed in range(20)}) > 100


def test_a_picture_that_cannot_be_read_is_named_and_another_takes_its_place(caplog):
    found = codes(Pictures(bad=(1,)))
    assert caplog.messages == ["skipped `noise[1]`: it is torn"]
    (batch,) = first(found.batches(batch_size=9), 1)
    assert batch.skipped == (("noise[1]", "it is torn"),)
    assert set(batch.condition["class"].tolist()) == {0, 2}
    with pytest.raises(DataError, match="too many images cannot be read: 3 of 3 tried"):
        codes(Pictures(bad=(0, 1, 2)))


def test_a_picture_must_hold_a_crop_at_every_shift():
    tokenizer, images = tiny.tokenizer(), Pictures().images
    check_pictures(Pictures(images=images[:, :11, :15]), tokenizer, wanted(16))
    for small in (images[:, :10, :15], images[:, :11, :14]):
        with pytest.raises(DataError) as caught:
            check_pictures(Pictures(images=small), tokenizer, wanted(16))
        height, width = small.shape[1:3]
        message = f"`noise[0]` has {height}x{width} pixels, but with `data.cached_codes` each picture needs at least 11x15"
        assert caught.value.message.startswith(message)
        assert "`data.cached_codes=0`" in caught.value.hint


def test_more_variants_than_there_are_and_small_pictures_leave_no_folder(tmp_path):
    check_pictures(Pictures(), tiny.tokenizer(), wanted(32, flip=True))
    run = tiny.prior_run()
    path = tmp_path / "tokenizer.safetensors"
    save_model(tiny.tokenizer(), path)
    for variants, side, kind, message in (
        (
            17,
            20,
            ConfigError,
            "`data.cached_codes` is 17, but with a downsample factor of 4 a picture has only 16 variants",
        ),
        (
            16,
            10,
            DataError,
            "has 10x10 pixels, but with `data.cached_codes` each picture needs at least 11x11",
        ),
    ):
        data = msgspec.structs.replace(run.data, resize=None, cached_codes=variants, flip=False)
        with pytest.raises(kind, match=re.escape(message)):
            train(
                msgspec.structs.replace(run, data=data),
                data=tiny.data(tmp_path / f"{side}", side=side),
                out=tmp_path / "run",
                tokenizer=path,
                device="cpu",
            )
        assert not (tmp_path / "run").exists()
