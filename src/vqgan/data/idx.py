"""IDX files, the format of MNIST and its successors, plain or gzipped.

A file begins with two zero bytes, a type (8: unsigned bytes), the number of dimensions and each dimension as
a big-endian 32-bit number; the values follow. Source: Y. LeCun, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vqgan.config import Config
from vqgan.data.source import ArraySource
from vqgan.errors import DataError, printable

MAX_BYTES = 1 << 32
"""Larger files are refused: the values are held in memory."""


class IdxConfig(Config, frozen=True, tag_field="kind", tag="idx"):
    """Grey images in IDX files, with their classes.

    Attributes:
        path: A folder with ``train-images-idx3-ubyte``, or a file of images. The labels are in the same folder
            under the same name with ``labels`` and ``idx1``; without them there are no classes. A folder's files
            that begin with ``t10k`` are the held-out part; otherwise 5 % of the images are held out.
    """

    path: str


def open_idx(config: IdxConfig) -> ArraySource:
    """Reads the files into memory.

    Raises:
        DataError: If a file is missing, damaged or does not fit the others.
    """
    path = Path(config.path).expanduser()
    files = _files_of(path)
    pairs = [_read_pair(file) for file in files]
    if len({(images.shape[1:], labels is None) for images, labels in pairs}) > 1:
        raise DataError(
            f"`{printable(files[1])}` does not fit `{printable(files[0])}`: expected images of one size, and "
            "labels in both or in none",
            hint="move one of them elsewhere, or bring all four files of one data set together",
        )
    images = np.concatenate([images for images, _ in pairs])
    labels = np.concatenate([np.empty(0, np.int64), *(own for _, own in pairs if own is not None)])
    return ArraySource(
        name=printable(path),
        images=images[..., None],
        classes=labels if len(labels) else None,
        class_names=tuple(str(number) for number in range(int(labels.max(initial=-1)) + 1)),
        held_out=np.arange(len(images)) >= len(pairs[0][0]) if len(pairs) > 1 else None,
    )


def _files_of(path: Path) -> list[Path]:
    """The file itself, or a folder's training images and, where it has them, its held-out images."""
    if not path.is_dir():
        return [path]
    train = _with_ending(path / "train-images-idx3-ubyte") or _with_ending(path / "train-images.idx3-ubyte")
    if train is None:
        raise DataError(
            f"folder `{printable(path)}` has no `train-images-idx3-ubyte`, plain or with `.gz`",
            hint="give the folder with MNIST's files, or one file of images",
        )
    test = _with_ending(train.with_name(train.name.replace("train", "t10k", 1)))
    return [train] if test is None else [train, test]


def _with_ending(path: Path) -> Path | None:
    """The file itself or its gzipped twin, whichever exists."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    twin = plain.with_name(plain.name + ".gz")
    return next((file for file in (path, plain, twin) if file.is_file()), None)


def _read_pair(images: Path) -> tuple[UInt8[np.ndarray, "n H W"], UInt8[np.ndarray, " n"] | None]:
    values = read_idx(images, dimensions=3)
    if 0 in values.shape:
        raise DataError(f"`{printable(images)}` holds no images: its shape is {values.shape}")
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    file = _with_ending(images.with_name(name))
    if name == images.name or file is None:
        return values, None
    labels = read_idx(file, dimensions=1)
    if len(labels) != len(values):
        raise DataError(
            f"`{printable(file)}` has {len(labels)} labels for {len(values)} images in `{printable(images)}`",
            hint="the two files must belong together",
        )
    return values, labels


def read_idx(path: Path, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Reads a file of bytes with this number of dimensions.

    Raises:
        DataError: If the file cannot be read, is not such a file, or is shorter or longer than it says.
    """
    name = printable(path)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes((0, 0, 8, dimensions)) or len(header) < 4 + 4 * dimensions:
                raise DataError(
                    f"`{name}` is not an IDX file of unsigned bytes with {dimensions} dimensions",
                    hint="MNIST's images have 3 dimensions (idx3), its labels 1 (idx1)",
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise DataError(f"`{name}` says that it holds {size:,} bytes, at most {MAX_BYTES:,} are read")
            data = file.read(size + 1)  # one more than it should have, to see a file that is too long
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"cannot read `{name}`: {reason.lower()}", hint="check the path or fetch it again"
        ) from None
    if len(data) != size:
        found = "more" if len(data) > size else f"{len(data):,}"
        raise DataError(f"`{name}` should hold {size:,} values, it has {found}", hint="fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
