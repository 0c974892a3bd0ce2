"""Tar files of images: what counts, in which order, what is damaged, and that a run goes on where it stood."""

import gzip
import os
import tarfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import miniatures
from vqgan.cache import cache_folder
from vqgan.data import ShardsConfig, Source, open_source, parse_source, shards
from vqgan.data.conditions import Classes, Maps, with_conditions
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.data.transforms import TransformConfig
from vqgan.errors import DataError

SMALL = TransformConfig(image_size=(8, 8), image_channels=3, crop="random", flip=True)


def png(value: int) -> bytes:
    return miniatures.encoded(np.full((8, 8, 3), value, np.uint8))


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes shards and opens them all."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))

    def opener(*packed: dict[str, dict[str, bytes]]) -> Source:
        for number, samples in enumerate(packed):
            miniatures.shard(tmp_path / "packed" / f"{number}.tar", samples)
        return open_source(ShardsConfig(path=str(tmp_path / "packed")))

    return opener


def shades(source: Source) -> list[int]:
    return [int(source.read(index).pixels[0, 0, 0]) for index in range(len(source))]


def test_files_of_a_key_are_a_sample_and_shards_come_in_natural_order(opened, tmp_path) -> None:
    packed = [
        {
            "a/b": {
                "cls": b"7\n",
                "jpg.txt": b"no",
                "PNG": png(number),
                "txt": f" One {number}\n\nTwo\n".encode(),
            }
        }
        for number in range(11)
    ]
    packed[3]["a/._b"] = packed[3]["a/.hidden"] = {"png": b"clutter of a system"}
    packed[4]["a/b"]["jpeg"] = png(99)
    source = opened(*packed)
    assert shades(source) == [*range(11)]
    assert source.class_names == ("7",)
    assert source.read(0).class_index == 0
    assert [*source.captions] == [(f"One {number}", "Two") for number in range(11)]
    assert source.label(10) == f"{tmp_path}/packed/10.tar/a/b.PNG"
    (batch,) = evaluation_batches(source, SMALL, 11)
    assert batch.condition["text"] == [f"One {number}" for number in range(11)]


def test_conditions_beside_the_shards_are_found_by_key(opened, tmp_path) -> None:
    source = opened({"cats/1": {"png": png(1)}, "2": {"png": png(2)}})
    (tmp_path / "classes.csv").write_text("cats/1.jpg,cat\n2.jpg,other\n")
    miniatures.save(tmp_path / "maps" / "cats" / "1.png", np.zeros((8, 8), np.uint8))
    miniatures.save(tmp_path / "maps" / "2.png", np.ones((8, 8), np.uint8))
    paths = {"class": str(tmp_path / "classes.csv"), "segmentation": str(tmp_path / "maps")}
    whole = with_conditions(source, paths, {"class": Classes(), "segmentation": Maps(2, 2)})
    assert [whole.class_names[whole.read(index).class_index] for index in (0, 1)] == ["cat", "other"]
    assert whole.read(1).condition["segmentation"].min() == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_any_process_reads_its_share_from_any_sample_on(opened, workers) -> None:
    source = opened(
        *({f"{shard}-{n}": {"png": png(8 * shard + n)} for n in range(8)} for shard in range(3))
    ).part("train")

    def batches(count: int, **position: int) -> list[torch.Tensor]:
        found = training_batches(source, SMALL, batch_size=4, seed=3, **position)
        return [batch.images for batch in islice(found, count)]

    whole = batches(14)  # two epochs
    again = batches(3, start=44, workers=workers)
    halves = [batches(14, rank=rank, world=2, workers=workers) for rank in (0, 1)]
    assert all(map(torch.equal, whole[11:], again))
    assert all(map(torch.equal, whole, map(torch.cat, zip(*halves, strict=True))))
    firsts = [round((float(image[0, 0, 0]) + 1) * 127.5) // 8 for batch in whole[:2] for image in batch]
    assert len({*firsts}) == 3  # the order mixes shards


def test_samples_without_what_others_have_are_skipped_by_name(opened) -> None:
    samples = {str(n): {"png": png(n), "txt": b"words", "cls": b"1"} for n in range(6)}
    del samples["1"]["txt"], samples["2"]["cls"]
    samples["3"]["txt"] = b"\xff\xfe no UTF-8"
    samples["4"]["txt"] = b"x" * (shards.MAX_TEXT_BYTES + 1)
    (batch,) = evaluation_batches(opened(samples), SMALL, 6)
    assert batch.sample.tolist() == [0, 5]
    names = [label.rpartition("/")[2] for label, _ in batch.skipped]
    reasons = [reason for _, reason in batch.skipped]
    assert names == ["1.png", "2.png", "3.png", "4.png"]
    assert ["caption" in reason for reason in reasons] == [True, False, True, True]
    assert reasons[1] == "it has no class"


def test_what_is_no_plain_file_is_skipped(opened, tmp_path) -> None:
    opened({"1": {"png": png(1)}, "2": {"png": b""}})
    with tarfile.open(tmp_path / "packed" / "0.tar", "a") as tar:
        link, folder = tarfile.TarInfo("3.png"), tarfile.TarInfo("4.png")
        link.type, link.linkname, folder.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.DIRTYPE
        tar.addfile(link)
        tar.addfile(folder)
    (batch,) = evaluation_batches(opened(), SMALL, 3)
    assert [reason for _, reason in batch.skipped] == ["the file is empty", "not a regular file"]


def test_an_index_is_read_again_only_when_its_shard_changed(opened, tmp_path, monkeypatch) -> None:
    first = opened({"1": {"png": png(1), "txt": b"one"}}, {"2": {"png": png(2), "txt": b"two"}})
    scanned: list[str] = []
    real = shards._scan
    monkeypatch.setattr(shards, "_scan", lambda file: scanned.append(file.name) or real(file))
    assert opened().fingerprint == first.fingerprint
    assert scanned == []
    files = sorted((cache_folder() / "shards").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-9])
    assert opened().fingerprint == first.fingerprint
    assert len(scanned) == 1
    miniatures.shard(tmp_path / "packed" / "1.tar", {"2": {"png": png(3), "txt": b"three"}})
    os.utime(tmp_path / "packed" / "1.tar", ns=(1, 1))
    assert opened().fingerprint != first.fingerprint
    assert shades(opened()) == [1, 3]
    monkeypatch.setenv("VQGAN_CACHE", "/dev/null/cache")
    assert shades(opened()) == [1, 3]


def test_equal_shards_have_an_equal_fingerprint_wherever_they_are(opened, tmp_path) -> None:
    first = opened({"1": {"png": png(1)}, "2": {"png": png(2)}}).fingerprint
    os.rename(tmp_path / "packed", tmp_path / "moved")
    assert open_source(ShardsConfig(path=f"{tmp_path}/mov*/?.tar")).fingerprint == first
    assert opened({"2": {"png": png(2)}, "1": {"png": png(1)}}).fingerprint != first


def test_a_pattern_names_its_shards_and_those_that_are_missing(opened, tmp_path) -> None:
    opened(*({str(n): {"png": png(n)}} for n in range(11)))
    folder = tmp_path / "packed"
    for pattern, count in (("{8..10}.tar", 3), ("{0,1}*.tar", 3), ("**/*.tar", 11), ("3.tar", 1), ("", 11)):
        assert len(shards.list_shards(f"{folder}/{pattern}")) == count
    with pytest.raises(DataError, match=r"there is no shard `.*/11.tar`") as caught:
        shards.list_shards(f"{folder}/{{8..999999999999}}.tar")
    assert "the range in braces" in caught.value.hint
    with pytest.raises(DataError, match="there is no shard"):
        shards.list_shards(f"{folder}/*.zip")
    (folder / "odd-{1..2}.tar").write_bytes((folder / "0.tar").read_bytes())
    assert len(shards.list_shards(f"{folder}/odd-{{1..2}}.tar")) == 1
    assert parse_source("shards:a-{0..1}.tar") == ShardsConfig(path="a-{0..1}.tar")
    assert parse_source("a.tar") == ShardsConfig(path="a.tar")


def header(name: str, size: bytes) -> bytes:
    """That of a file whose size is these twelve bytes."""
    found = bytearray(tarfile.TarInfo(name).tobuf())
    found[124:136] = size
    found[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(found))[0]
    return bytes(found)


def test_a_text_of_less_than_nothing_is_not_read_and_a_name_stays_below_its_shard(opened, tmp_path) -> None:
    source = opened({"/etc/1": {"png": png(1)}, "2": {"png": png(2), "txt": b"two"}})
    file = tmp_path / "packed" / "0.tar"
    assert source.label(0) == f"{file}//etc/1.png"
    whole = file.read_bytes()
    place = whole.index(b"2.txt")
    file.write_bytes(whole[:place] + header("/etc/1.txt", b"\xff" * 12) + whole[place:])
    with suppress(DataError):  # some versions of tarfile refuse the header
        assert [*opened().captions] == [(), ("two",)]


def test_a_damaged_shard_is_refused_and_nothing_hangs(opened, tmp_path) -> None:
    source = opened({str(n): {"png": png(n)} for n in range(4)})
    file = tmp_path / "packed" / "0.tar"
    whole = file.read_bytes()
    place = int(source._places[1, 2]) - tarfile.BLOCKSIZE
    negative = header("2.png", b"\xff" * 10 + b"\xf0\x00")
    for data, reason in (
        (whole[: place + 600], "unexpected end of data"),
        (whole[:place] + b"?" + whole[place + 1 :], "a header is damaged, at byte"),
        (whole[:place] + negative + whole[place + 512 :], ""),
        (gzip.compress(whole), " header"),
        (b"", "empty"),
        (b"no shard", "truncated header"),
    ):
        file.write_bytes(data)
        with pytest.raises(DataError, match=f"cannot read the shard `{file}`: .*{reason}") as caught:
            opened()
        assert "gunzip" in caught.value.hint
    miniatures.shard(file, {"a": {"v2.jpg": b"", "mp4": b""}, "b": {"mp4": b""}})
    with pytest.raises(DataError, match="hold no images") as caught:
        opened()
    assert "no dot in a key" in caught.value.hint
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError, match="there is no shard"):
        opened()
