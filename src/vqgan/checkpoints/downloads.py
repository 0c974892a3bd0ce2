"""Files from the network: complete, with the right checksum, or not there at all."""

import hashlib
import http.client
import math
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from vqgan.errors import CheckpointError
from vqgan.output_files import replace_file
from vqgan.types import OnProgress, Progress

_CHUNK = 1_000_000


def download(
    address: str, path: Path, *, hint: str, sha256: str = "", on_progress: OnProgress | None = None
) -> None:
    """Fetches a file with one request.

    Args:
        address: Where it is.
        path: Where it goes.
        hint: What else to do when the network or the server fails.
        sha256: Its checksum, where one is known.
        on_progress: Called for every megabyte; the total is 0 where the server does not tell it.

    Raises:
        CheckpointError: If the network or the server fails, the file comes incomplete, or its checksum differs;
            nothing is kept.
        OutputError: If the disk refuses.
    """

    def write(temporary: Path) -> None:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for step, (chunk, steps) in enumerate(_chunks(address, hint), 1):
                digest.update(chunk)
                file.write(chunk)
                if on_progress is not None:
                    on_progress(Progress("download (MB)", step, steps))
        if sha256 and digest.hexdigest() != sha256:
            raise CheckpointError(
                f"`{address}` has the checksum {digest.hexdigest()}, expected {sha256}",
                hint="the download was cut off or changed on the way; try again",
            )

    replace_file(path, write)


def _chunks(address: str, hint: str) -> Iterator[tuple[bytes, int]]:
    """The bytes at an address, and how many chunks there are.

    Failures of the network become our errors, apart from those of the disk.
    """
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            told = response.headers.get("Content-Length", "")
            size, received = int(told) if told.isdecimal() else 0, 0
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                yield chunk, math.ceil(size / _CHUNK)
            if received < size:
                raise OSError(f"it ended after {received:,} of {size:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"cannot download `{address}`: {getattr(error, 'reason', error)}", hint=hint
        ) from None
