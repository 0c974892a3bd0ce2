"""Odd, damaged and hostile pictures in a folder and in shards: each is read, or skipped under its name."""

import os
import random
import resource
import shutil
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import miniatures
from odd_files import ACCEPTED, REJECTED
from vqgan.data import FolderConfig, ShardsConfig, Source, open_source
from vqgan.data.loader import check_source, evaluation_batches, training_batches
from vqgan.data.transforms import TransformConfig
from vqgan.errors import DataError

MAX_SECONDS = 60  # on a busy machine; alone it is a tenth
MAX_MEGABYTES = 600
SMALL = TransformConfig(image_size=(8, 8), image_channels=3, crop="random", flip=True)


@pytest.fixture(params=["folder", "shards"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes files, and opens them as one of the two kinds of source."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))

    def opener(files: Mapping[str, bytes]) -> Source:
        if request.param == "shards":
            samples: dict[str, dict[str, bytes]] = {}
            for name, data in files.items():
                key, _, ending = name.partition(".")
                samples.setdefault(key, {})[ending] = data
            miniatures.shard(tmp_path / "0.tar", samples)
            return open_source(ShardsConfig(path=str(tmp_path / "0.tar")))
        (tmp_path / "files").mkdir()
        for name, data in files.items():
            (tmp_path / "files" / name).write_bytes(data)
        return open_source(FolderConfig(path=str(tmp_path / "files")))

    return opener


@contextmanager
def within_limits() -> Iterator[None]:
    """Neither hangs nor takes much memory, of which the whole process has had at most as much more at any time."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - begin < MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_MEGABYTES * 1024


def names(source: Source, batches: list) -> dict[str, str]:
    """What was skipped and why, without the folder or the shard in front."""
    labels = {source.label(index) for index in range(len(source))}
    skipped = dict(row for batch in batches for row in batch.skipped)
    assert set(skipped) <= labels
    return {label.rpartition("/")[2]: reason for label, reason in skipped.items()}


def unlike(files: Mapping[str, object], prefix: str) -> dict[str, object]:
    """The files under names whose keys all differ."""
    return {f"{prefix}{number}-{name}": data for number, (name, data) in enumerate(files.items())}


def test_every_kind_of_file_is_read_or_listed_under_its_name(packed) -> None:
    good = {name: data for name, (data, _) in unlike(ACCEPTED, "a").items()}
    bad = {name: data for name, (data, _) in unlike(REJECTED, "b").items()}
    assert len(good) + len(bad) > 65
    with within_limits():
        source = packed({**good, **bad})
        assert len(source) == len(good) + len(bad)
        batches = list(evaluation_batches(source, SMALL, 16))
        assert sum(len(batch.images) for batch in batches) == len(good)
        skipped = names(source, batches)
        assert set(skipped) == set(bad)
        assert all(REJECTED[name.partition("-")[2]][1] in reason for name, reason in skipped.items())
        with pytest.raises(DataError, match="too many images cannot be read"):
            check_source(source, 3)
        with pytest.raises(DataError, match=r"too many images cannot be read: .*\n +\d+  "):
            list(islice(training_batches(source, SMALL, batch_size=8, seed=0), 40))


def test_few_bad_files_are_skipped_in_training_and_each_is_listed(packed) -> None:
    good = {f"g{number}.png": ACCEPTED["plain.png"][0] for number in range(400)}
    bad = {name: data for name, (data, _) in unlike(REJECTED, "b").items()}
    source = packed({**good, **bad})
    batches = list(islice(training_batches(source, SMALL, batch_size=len(source), seed=0), 1))
    assert set(names(source, batches)) == set(bad)
    assert len(batches[0].images) == len(source)


def test_a_thousand_damaged_files_are_pictures_or_skipped_under_their_names(packed) -> None:
    rng, files = np.random.default_rng(0), dict[str, bytes]()
    picture = miniatures.noise(0, 48, 40, 3) // 4 + np.arange(40, dtype=np.uint8)[:, None]
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
    whole = {ending: miniatures.encoded(picture, kind) for ending, kind in kinds.items()}
    for number in range(1000):
        ending = ("jpg", "png", "webp")[number % 3]
        data = bytearray(whole[ending])
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= int(rng.integers(1, 256))
        if number % 4 == 0:  # the header is where most can go wrong
            data[int(rng.integers(0, 64))] = int(rng.integers(0, 256))
        files[f"{number}.{ending}"] = bytes(data)
    with within_limits():
        source = packed(files)
        batches = list(evaluation_batches(source, SMALL, 100))
        skipped = names(source, batches)
        read = sum(len(batch.images) for batch in batches)
        assert read + len(skipped) == 1000
        assert min(read, len(skipped)) > 100
        assert all(reason and "\n" not in reason for reason in skipped.values())


def test_a_damaged_archive_is_refused_or_read_and_never_hangs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    rng, path, ends = random.Random(0), tmp_path / "0.tar", Counter[str]()
    png = ACCEPTED["plain.png"][0]
    whole = miniatures.shard(path, {str(n): {"png": png, "txt": b"words"} for n in range(6)}).read_bytes()
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    with within_limits():
        for _ in range(200):
            data, at = bytearray(whole), rng.choice(headers)
            data[at + rng.randrange(512)] ^= rng.randint(1, 255)
            if rng.random() < 0.7:  # with the sum that makes it count
                total = tarfile.calc_chksums(bytes(data[at : at + 512]))[0]
                data[at + 148 : at + 156] = b"%06o\0 " % total
            path.write_bytes(data)
            try:
                (batch,) = evaluation_batches(open_source(ShardsConfig(path=str(path))), SMALL, 9)
                ends["skipped" if batch.skipped else "read"] += 1
            except DataError as error:
                ends[error.message.partition(": ")[0]] += 1
    refused = f"cannot read the shard `{path}`"
    assert set(ends) <= {"read", "skipped", refused}
    assert min(ends[refused], ends["read"]) > 20


def test_what_we_may_not_read_is_listed_and_what_is_no_file_does_not_hang() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "good.png").write_bytes(ACCEPTED["plain.png"][0])
        (folder / "locked.png").write_bytes(ACCEPTED["plain.png"][0])
        (folder / "locked.png").chmod(0)
        (folder / "loop.png").symlink_to("loop.png")
        (folder / "circle").symlink_to(".")
        (folder / "nowhere.png").symlink_to("nothing")
        (folder / "folder.png").mkdir()
        os.mkfifo(folder / "pipe.png")
        with unprivileged():
            source = open_source(FolderConfig(path=str(folder)))
            (batch,) = evaluation_batches(source, SMALL, 9)
        assert names(source, [batch]) == {
            "locked.png": "permission denied",
            "loop.png": "too many levels of symbolic links",
            "nowhere.png": "no such file or directory",
            "pipe.png": "not a regular file",
        }
        assert len(batch.images) == 1
    finally:
        shutil.rmtree(folder)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As another user, if we are the one who may read everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
