"""Malicious and damaged files, and what every one of them must meet: one message, and nothing else."""

import pickle
import resource
import shutil
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import vqgan
from reference import store
from vqgan.cli.main import main
from vqgan.errors import VqganError

MAX_SECONDS = 20  # on a busy machine; alone it is one or two
MAX_MEGABYTES = 500


class Faults:
    """What a test is given: a folder with an image and a place for the bad files, and the check of them all.

    Attributes:
        folder: Where the test puts its files.
        marker: A file that the payloads make; it must not appear.
        published: Folders with good checkpoints of the original, by kind.
    """

    def __init__(self, root: Path, published: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.folder, self.marker = root, root / "in", root / "marker"
        self.published, self._capsys = published, capsys
        self.folder.mkdir()
        self.image = root / "image.png"
        Image.new("RGB", (64, 64)).save(self.image)

    def copy(self, kind: str = "vqmodel_tiny") -> Path:
        """The checkpoint of a good folder, with its YAML file beside it."""
        shutil.copy(self.published[kind] / "model.yaml", self.folder / "model.yaml")
        return Path(shutil.copy(self.published[kind] / "last.ckpt", self.folder / "last.ckpt"))

    def yaml(self, kind: str = "vqmodel_tiny") -> str:
        """The YAML file of a good folder."""
        return (self.published[kind] / "model.yaml").read_text()

    def pickle_of(self, kind: str) -> bytes:
        """The pickle in the archive of a good checkpoint."""
        with zipfile.ZipFile(self.published[kind] / "last.ckpt") as file:
            return next(file.read(name) for name in file.namelist() if name.endswith("data.pkl"))

    def refused(self, path: Path, *message: str, code: int = 5, extra: tuple[object, ...] = ()) -> None:
        """`info`, `convert`, `reconstruct` and `vqgan.load` all refuse a file, and leave everything as it is."""
        out = self.root / "out.safetensors"
        for words in (
            ["info", path],
            ["convert", path, "--out", out],
            ["reconstruct", path, self.image, "--out", self.root / "out"],
        ):
            # What has a sound header of ours is told not to be converted; more of it is not read for that.
            self.refuses([*words, *extra], *message, code=code, ours=words[0] == "convert")
        with self.untouched(), pytest.raises(VqganError) as caught:
            vqgan.load(path, extra[1] if extra else None, device="cpu")
        assert caught.value.exit_code == code

    def refuses(self, words: list[object], *message: str, code: int = 5, ours: bool = False) -> None:
        """One command ends with the code and one message, runs nothing and writes nothing."""
        self._capsys.readouterr()
        with self.untouched():
            found = main([str(word) for word in words])
        out, err = self._capsys.readouterr()
        lines = [
            line for line in err.splitlines() if not line.startswith(("the tokenizer computes", "loaded"))
        ]
        assert found == code or (ours and "is already a file of ours" in err), err
        assert out == ""
        assert lines[0].startswith("vqgan: "), err
        assert all(line.startswith(("  ", "hint: ")) for line in lines[1:]), err
        assert sum(line.startswith("hint: ") for line in lines) <= 1
        assert all(letter.isprintable() for line in lines for letter in line)
        assert len(err) < 5_000
        for text in message:
            assert text in err

    def untouched(self) -> "Untouched":
        """A context in which no file appears, changes or goes, and neither much time nor much memory is taken."""
        return Untouched(self.root)

    def archive(
        self, data: bytes, records: dict[str, bytes] | None = None, *, name: str = "last.ckpt"
    ) -> Path:
        """A zip archive as PyTorch writes them around a pickle, with a good YAML file beside it."""
        path = self.folder / name
        (self.folder / "model.yaml").write_text(self.yaml())
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", data)
            file.writestr("archive/byteorder", "little")
            for key, record in (records or {"archive/data/0": bytes(64)}).items():
                file.writestr(key, record)
            file.writestr("archive/version", "3\n")
        return path


class Untouched:
    """Compares the files, the clock and the memory before and after."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> None:
        self.files, self.started, self.peak = self._files(), time.monotonic(), _peak()

    def __exit__(self, kind: object, *rest: object) -> None:
        assert self._files() == self.files
        assert not (self.root / "marker").exists()
        assert time.monotonic() - self.started < MAX_SECONDS
        assert _peak() - self.peak < MAX_MEGABYTES

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {path: path.lstat() for path in self.root.rglob("*")}
        return {str(path): (state.st_size, state.st_mtime_ns) for path, state in found.items()}


def _peak() -> float:
    """Most memory that this process ever had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good checkpoints of the original by kind, each with its YAML file beside it."""
    root = tmp_path_factory.mktemp("published")
    for kind in ("vqmodel_tiny", "train3", "net2net_class", "net2net_permuter"):
        (root / kind).mkdir()
        store.write_checkpoint(kind, root / kind / "last.ckpt")
        shutil.copy(store.ROOT / kind / "model.yaml", root / kind)
    return {folder.name: folder for folder in root.iterdir()}


@pytest.fixture
def faults(
    tmp_path: Path,
    published: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Faults:
    """The files of one test; what is written below the working, the home or the temporary folder is seen, too."""
    root = tmp_path / "root"
    for name in ("work", "home", "temporary"):
        (root / name).mkdir(parents=True)
    monkeypatch.chdir(root / "work")
    monkeypatch.setenv("HOME", str(root / "home"))
    monkeypatch.setenv("TMPDIR", str(root / "temporary"))
    return Faults(root, published, capsys)


class Reducer:
    """Pickled, it is a call: whoever unpickles it carelessly makes it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.fixture(scope="session")
def reducer() -> type[Reducer]:
    """``reducer(os.system, "...")``: an object that is pickled as this call."""
    return Reducer


class _Storage:
    """Stands for the storage of a tensor in a pickle."""

    def __init__(self, *key: object) -> None:
        self.key = key


class _Pickler(pickle._Pickler):
    def persistent_id(self, value: object) -> object:
        return ("storage", *value.key) if isinstance(value, _Storage) else None


@pytest.fixture(scope="session")
def tensor_pickle() -> Callable[..., bytes]:
    """``tensor_pickle(numel=, size=, stride=, offset=)``: a state dict of one tensor as it stands in an archive."""

    def build(numel: object, size: object, stride: object, offset: object = 0, key: object = "0") -> bytes:
        import io

        storage = _Storage(torch.FloatStorage, key, "cpu", numel)
        rebuilt = Reducer(
            torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict()
        )
        file = io.BytesIO()
        _Pickler(file, 2).dump({"state_dict": {"quantize.embedding.weight": rebuilt}})
        return file.getvalue()

    return build
