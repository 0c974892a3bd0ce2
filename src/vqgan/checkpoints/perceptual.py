"""The weights of the perceptual loss: from a file, the cache, or a download with a checksum."""

import hashlib
import logging
import urllib.error
import urllib.request
from pathlib import Path

from torch import Tensor

from vqgan.cache import cache_folder
from vqgan.checkpoints.files import output_errors, replace_file
from vqgan.checkpoints.format import is_safetensors, read_tensors, write_tensors
from vqgan.checkpoints.key_maps import PERCEPTUAL_KEYS, VGG16_KEYS, rename
from vqgan.checkpoints.pickles import read_pickle
from vqgan.errors import CheckpointError
from vqgan.nn.lpips import LPIPS

logger = logging.getLogger(__name__)

_VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"
_VGG16_SHA256 = "397923af"
"""The first digits of the file's sha256, which its name carries by the publisher's custom."""

_HEADS = "https://heibox.uni-heidelberg.de/f/607503859c864bc1b30b/?dl=1"
_HEADS_MD5 = "d507d7349b931f0638a25a48a722f98a"

_FILE = "lpips-vgg16.safetensors"
_CHUNK = 1 << 20


def load_perceptual(path: str = "") -> LPIPS:
    """LPIPS with its weights.

    Args:
        path: A file with them: the cache's own, or an original checkpoint trained with the perceptual loss.
            Empty: the cache; when it has none, they are downloaded once (528 MB) and kept there.

    Raises:
        CheckpointError: If the file does not hold them, or the download fails or has the wrong checksum.
    """
    network = LPIPS()
    if path:
        state = _from_file(Path(path))
    else:
        cached = cache_folder() / _FILE
        if not cached.exists():
            write_tensors(cached, _download(cached.parent), {})
        state = read_tensors(cached)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"`{path or _FILE}` does not hold the weights of LPIPS: {reason}") from None
    return network


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"`{path}` does not exist", hint="give the file with the weights of LPIPS")
    if is_safetensors(path):
        return read_tensors(path)
    prefix = "loss.perceptual_loss."
    found = {key.removeprefix(prefix): t for key, t in read_pickle(path).items() if key.startswith(prefix)}
    if not found:
        raise CheckpointError(
            f"`{path}` has no keys `{prefix}*`",
            hint="only checkpoints that were trained with the perceptual loss carry its weights",
        )
    return rename(found, PERCEPTUAL_KEYS)


def _download(folder: Path) -> dict[str, Tensor]:
    logger.info("downloading the weights of the perceptual loss to `%s` (528 MB, once)", folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Tensor] = {}
    for address, algorithm, digest, table in (
        (_HEADS, "md5", _HEADS_MD5, PERCEPTUAL_KEYS),
        (_VGG16, "sha256", _VGG16_SHA256, VGG16_KEYS),
    ):
        file = folder / f"{algorithm}-{digest}.pth"
        fetch(address, file, algorithm=algorithm, digest=digest)
        state = {key: t for key, t in read_pickle(file).items() if not key.startswith("classifier.")}
        parts |= rename(state, table)
        file.unlink()
    return {**{key: t for key, t in LPIPS().state_dict().items() if key in ("shift", "scale")}, **parts}


def fetch(address: str, path: Path, *, algorithm: str, digest: str) -> None:
    """Downloads a file and checks that its digest begins as given.

    Raises:
        CheckpointError: If the network or the server fails, or the digest differs; nothing is kept.
        OutputError: If the disk refuses.
    """

    def write(temporary: Path) -> None:
        total = hashlib.new(algorithm)
        with urllib.request.urlopen(address, timeout=60) as response, temporary.open("wb") as file:
            while chunk := response.read(_CHUNK):
                total.update(chunk)
                file.write(chunk)
        if not total.hexdigest().startswith(digest):
            raise CheckpointError(
                f"`{address}` has {algorithm} {total.hexdigest()}, expected {digest}…", hint="try again later"
            )

    try:
        replace_file(path, write)
    except (urllib.error.URLError, TimeoutError) as error:
        raise CheckpointError(
            f"cannot download `{address}`: {getattr(error, 'reason', error)}",
            hint=f"train without it (`--set task.perceptual=null`), or put a converted `{_FILE}` into `{path.parent}`",
        ) from None
