import gzip
from pathlib import Path

import numpy as np
import pytest

from examples import write_idx
from vqgan.data import IdxConfig, Source, open_source
from vqgan.data.idx import read_idx
from vqgan.errors import DataError


def numbered(count: int, start: int = 0) -> np.ndarray:
    return np.broadcast_to(np.arange(start, start + count, dtype=np.uint8)[:, None, None], (count, 2, 3))


def opened(path: Path, split: str = "all") -> Source:
    return open_source(IdxConfig(path=str(path))).part(split)


def values(source: Source) -> list[int]:
    return [int(source.read(i).pixels[0, 0, 0]) for i in range(len(source))]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_test_files_are_the_held_out_part(ending: str, tmp_path: Path) -> None:
    write_idx(tmp_path / f"train-images-idx3-ubyte{ending}", numbered(6))
    write_idx(tmp_path / f"train-labels-idx1-ubyte{ending}", np.array([0, 1, 2, 0, 1, 2], np.uint8))
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{ending}", numbered(2, start=100))
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{ending}", np.array([3, 0], np.uint8))
    train, held_out, both = (opened(tmp_path, split) for split in ("train", "heldout", "all"))
    assert (values(train), values(held_out)) == (list(range(6)), [100, 101])
    assert values(both) == [*range(6), 100, 101]
    assert train.class_names == held_out.class_names == ("0", "1", "2", "3")
    assert [held_out.read(i).class_index for i in range(2)] == [3, 0]
    assert train.read(0).pixels.shape == (2, 3, 1)


def test_a_named_file_is_that_file_only(tmp_path: Path) -> None:
    for name, count, start in (("train", 60, 0), ("t10k", 2, 100)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", numbered(count, start))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 2)
    path = tmp_path / "train-images-idx3-ubyte"
    assert values(opened(path)) == list(range(60))
    assert sorted(values(opened(path, "train")) + values(opened(path, "heldout"))) == list(range(60))
    assert values(opened(tmp_path / "t10k-images-idx3-ubyte")) == [100, 101]


def test_without_test_files_a_part_is_held_out_and_without_labels_there_are_no_classes(
    tmp_path: Path,
) -> None:
    write_idx(tmp_path / "pictures-idx3-ubyte", numbered(60))
    path = tmp_path / "pictures-idx3-ubyte"
    train, held_out = opened(path, "train"), opened(path, "heldout")
    assert sorted(values(train) + values(held_out)) == list(range(60))
    assert 1 <= len(held_out) <= 10
    assert train.class_names == ()
    assert train.read(0).class_index is None


def test_the_files_may_be_named_with_a_dot_and_one_may_be_gzipped(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images.idx3-ubyte", numbered(3))
    write_idx(tmp_path / "train-labels.idx1-ubyte.gz", np.array([0, 1, 1], np.uint8))
    assert opened(tmp_path).class_names == ("0", "1")


def test_the_header_is_that_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", numbered(3))
    assert (tmp_path / "x").read_bytes()[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3])
    assert np.array_equal(read_idx(tmp_path / "x", dimensions=3), numbered(3))


def damaged(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_damaged_files_say_what_is_wrong(tmp_path: Path) -> None:
    write_idx(tmp_path / "good", numbered(3))
    good = (tmp_path / "good").read_bytes()
    packed = gzip.compress(good)
    cases = {
        "short": (good[:-1], "should hold 18 values, it has 17"),
        "long": (good + b"x", "should hold 18 values, it has more"),
        "head": (good[:7], "is not an IDX file of unsigned bytes with 3 dimensions"),
        "text": (b"hello, this is some text", "is not an IDX file"),
        "huge": (good[:4] + b"\xff" * 12, "at most 4,294,967,296 are read"),
        "none": (good[:4] + bytes(12), "holds no images: its shape is (0, 0, 0)"),
        "cut.gz": (packed[:-9], "cannot read"),
        "plain.gz": (good, "cannot read"),
    }
    for name, (data, message) in cases.items():
        with pytest.raises(DataError) as caught:
            opened(damaged(tmp_path, name, data))
        assert message in caught.value.message
        assert name in caught.value.message


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", numbered(3))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(DataError, match="has 4 labels for 3 images"):
        opened(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", numbered(2))
    with pytest.raises(DataError, match="expected images of one size, and labels in both or in none"):
        opened(tmp_path)


def test_a_folder_without_the_files_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no `train-images-idx3-ubyte`"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*nothing`: no such file"):
        opened(tmp_path / "nothing")
