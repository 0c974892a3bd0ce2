"""Published checkpoints: fetches them, and converts them to files of ours using little memory."""

import hashlib
import http.client
import logging
import math
import shutil
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqgan.cache import cache_folder
from vqgan.checkpoints.diffusers import CONFIG_FILE, WEIGHTS_FILE, write_diffusers
from vqgan.checkpoints.finding import find_file
from vqgan.checkpoints.foreign import read_foreign, training_networks
from vqgan.checkpoints.format import read_header, save_model, tokenizer_of
from vqgan.checkpoints.load import is_own, read_model
from vqgan.checkpoints.zoo import Entry, find_entry
from vqgan.errors import CheckpointError, ConfigError
from vqgan.output_files import output_errors, refuse_existing, replace_file
from vqgan.synthesizer import Synthesizer
from vqgan.types import OnProgress, Progress

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 2**30
"""No published checkpoint is larger; an archive that promises more would fill the disk."""

_CHUNK = 1_000_000


def convert(
    source: Path,
    out: Path,
    config: Path | None = None,
    *,
    keep_training: bool = False,
    overrides: Sequence[str] = (),
) -> None:
    """Writes the model of a published checkpoint to a file of ours.

    The weights stay mapped from the checkpoint until they are written: memory holds one copy of what is
    kept while it is written.

    Args:
        source: The checkpoint, or a folder that holds one.
        out: The file; it must not exist.
        config: The checkpoint's configuration, where it is not beside it.
        keep_training: Whether the discriminator and the perceptual network are kept, too.
        overrides: Changes of its configuration, ``"prior.num_heads=16"``.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or does not fit its configuration.
        ConfigError: If it is already a file of ours.
        OutputError: If ``out`` exists or cannot be written.
    """
    file = find_file(source)
    if is_own(file):
        read_header(file)  # a damaged one has its own message
        raise ConfigError(f"`{file}` is already a file of ours", hint="there is nothing to convert")
    refuse_existing(out)
    foreign = read_foreign(file, config, overrides)
    networks = training_networks(foreign) if keep_training else {}
    model = foreign.model(copy=False)
    header = foreign.header()
    save_model(model, out, weights=header.weights, step=header.step, training=networks)
    if header.training and not keep_training:
        omitted = ", ".join(sorted(header.training))
        logger.info("omitted, for training only: %s (kept with `keep_training_state=`)", omitted)
    if file.is_file():
        before, after = file.stat().st_size, out.stat().st_size
        less = f" ({100 * (1 - after / before):.0f} % less)" if after < before else ""
        logger.info("%.1f MB became %.1f MB%s", before / 1e6, after / 1e6, less)


def convert_to_diffusers(
    source: Path, out: Path, config: Path | None = None, overrides: Sequence[str] = ()
) -> None:
    """Writes the tokenizer of any model as a folder for ``diffusers.VQModel.from_pretrained``.

    Raises:
        CheckpointError: If the model cannot be read.
        ConfigError: If diffusers' class cannot express it.
        OutputError: If the folder holds such a model already, or cannot be written.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        refuse_existing(out / name)
    model, header = read_model(source, config, overrides)
    write_diffusers(tokenizer_of(model, source), out)
    if isinstance(model, Synthesizer):
        logger.info("omitted: the prior and its condition; diffusers' class is only a tokenizer")
    if header.training:
        logger.info("omitted, for training only: %s", ", ".join(sorted(header.training)))


def download(
    address: str, path: Path, *, hint: str, sha256: str = "", on_progress: OnProgress | None = None
) -> None:
    """Fetches a file with one request.

    Args:
        address: Where it is.
        path: Where it goes.
        hint: What else to do when the network or the server fails.
        sha256: Its checksum, where one is known.
        on_progress: Called for every megabyte; the total is 0 if the server does not send it.

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
            announced = response.headers.get("Content-Length", "")
            size, received = int(announced) if announced.isdecimal() else 0, 0
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                yield chunk, math.ceil(size / _CHUNK)
            if received < size:
                raise OSError(f"it ended after {received:,} of {size:,} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"cannot download `{address}`: {getattr(error, 'reason', error)}", hint=hint
        ) from None


def download_model(
    name: str,
    out: Path | None = None,
    *,
    keep_training: bool = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Fetches a published model and writes it as a file of ours.

    Args:
        name: One of :data:`vqgan.checkpoints.zoo.ENTRIES`.
        out: The file, which must not exist; by default one in the cache, which is not fetched again.
        keep_training: Whether the discriminator and the perceptual network are kept, too.
        on_progress: Called after every megabyte.

    Returns:
        The file.

    Raises:
        CheckpointError: If the model cannot be fetched by one plain request, the network fails, or the file is
            not what was published; nothing is kept.
        ConfigError: If no published model of that name is known.
        OutputError: If ``out`` exists, or the disk refuses.
    """
    entry = find_entry(name)
    hint, path = by_hand(entry), out or default_path(name, keep_training=keep_training)
    if out is None and path.exists():
        logger.info("`%s` already exists", path)
        return path
    refuse_existing(path)
    if not entry.checkpoint:
        what = f"`{name}` cannot be fetched by one plain request: it is behind a web page"
        raise CheckpointError(what, hint=hint)
    with output_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the result: the download may be too large for the system's temporary folder.
        temporary = tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent)
    with temporary as place:
        config, checkpoint, archive = (
            Path(place, file) for file in ("model.yaml", "last.ckpt", "archive.zip")
        )
        if entry.config:
            download(entry.config, config, sha256=entry.config_sha256, hint=hint)
        fetched = archive if entry.checkpoint.endswith(".zip") else checkpoint
        sha256 = entry.checkpoint_sha256
        download(entry.checkpoint, fetched, sha256=sha256, hint=hint, on_progress=on_progress)
        if fetched == archive:
            _extract(archive, checkpoint, entry)
            archive.unlink()
        try:
            convert(checkpoint, path, config if entry.config else None, keep_training=keep_training)
        except CheckpointError as error:
            message = error.message.replace(f"{place}/", "")
            what = f"`{entry.checkpoint}` gave a file that is not the model: {message}"
            raise CheckpointError(what, hint=hint) from None
    return path


def default_path(name: str, *, keep_training: bool) -> Path:
    """Where a model is kept: a file in the folder ``models`` of the cache, another one with the training state."""
    return cache_folder() / "models" / f"{name}{'-training' if keep_training else ''}.safetensors"


def by_hand(entry: Entry) -> str:
    """How to get the model by hand."""
    with_yaml = entry.config or entry.holds == "synthesizer"
    files = "the checkpoint and its YAML file" if with_yaml else "the checkpoint"
    return (
        f"open {entry.page} in a browser, put {files} into one folder, and run "
        f"`vqgan convert FOLDER --out {entry.name}.safetensors`"
    )


def _extract(archive: Path, path: Path, entry: Entry) -> None:
    """Takes the only checkpoint out of a zip archive; the names in the archive are not used as paths."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [member for member in opened.infolist() if member.filename.endswith(".ckpt")]
            if len(found) != 1:
                raise zipfile.BadZipFile(f"it holds {len(found)} checkpoints, expected 1")
            if found[0].file_size > MAX_BYTES:
                raise zipfile.BadZipFile(
                    f"its checkpoint has {found[0].file_size:,} bytes, at most {MAX_BYTES:,}"
                )
            with opened.open(found[0]) as packed, output_errors(path), path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"`{entry.checkpoint}` gave an archive that cannot be used: {error}", hint=by_hand(entry)
        ) from None
