"""The weights of the perceptual loss: from a file, the cache, or a download with a checksum."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from vqgan.cache import cache_folder
from vqgan.checkpoints.finding import find_file
from vqgan.checkpoints.format import TRAINING_PREFIX, check_keys, load_model, read_header, shapes_of
from vqgan.checkpoints.imagenet import IMAGENET, load_efficientnet_lite
from vqgan.checkpoints.key_maps import PERCEPTUAL, VGG16
from vqgan.checkpoints.load import is_own
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.checkpoints.published import download
from vqgan.checkpoints.tensors import below, is_safetensors, read_tensors, write_tensors
from vqgan.denoiser import Denoiser
from vqgan.errors import CheckpointError
from vqgan.nn.efficientnet_lite import EfficientNetLite
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.output_files import output_errors

logger = logging.getLogger(__name__)

_VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"
_VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"

_HEADS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
    "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth"
)
_HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"

_FILE = "lpips-vgg16.safetensors"
_ORIGINAL_PREFIX = "loss.perceptual_loss."


def load_perceptual(path: str = "") -> PerceptualNetwork:
    """LPIPS with its weights.

    Args:
        path: A file with them: the cache's own, a model's file that contains them, or an original checkpoint
            that was trained with the perceptual loss. Empty: the cache; if they are not in it, they are downloaded
            once (528 MB) and kept there.

    Raises:
        CheckpointError: If the file does not hold them, or the download fails or has the wrong checksum.
    """
    network = PerceptualNetwork()
    names = network.state_dict()
    file = Path(path).expanduser() if path else cache_folder() / _FILE
    if not path and not file.exists():
        write_tensors(file, _download(file.parent, network), {})
    state = read_perceptual(file, names)
    check_keys(shapes_of(names), shapes_of(state), where=f"`{file}`", what="perceptual network")
    network.load_state_dict(state, strict=True)
    return network


def known_perceptual(path: str = "") -> PerceptualNetwork | None:
    """As :func:`load_perceptual`, without a download: None if there is no path and the cache does not hold them."""
    return load_perceptual(path) if path or (cache_folder() / _FILE).exists() else None


def load_alternative(path: str) -> Denoiser | EfficientNetLite | None:
    """What is to compare images in the place of LPIPS, frozen; None if that is what ``path`` holds, or if it is empty.

    Args:
        path: ``imagenet-lite``, or the file or run of a denoiser.
    """
    if path == IMAGENET:
        return load_efficientnet_lite()
    if not path or not is_own(file := find_file(Path(path))) or read_header(file).kind != "denoiser":
        return None
    model, _ = load_model(file)
    assert isinstance(model, Denoiser), "its header says so"
    return model.requires_grad_(False)


def read_perceptual(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of LPIPS in a file, by our ``names``.

    Raises:
        CheckpointError: If the file cannot be read or does not contain them.
    """
    if is_safetensors(path):
        state = read_tensors(path)
        return below(f"{TRAINING_PREFIX}perceptual.", state) or state
    if not path.is_file():
        raise CheckpointError(f"`{path}` does not exist", hint="give the file with the weights of LPIPS")
    found = below(_ORIGINAL_PREFIX, read_checkpoint(path).tensors)
    if not found:
        raise CheckpointError(
            f"`{path}` has no keys `{_ORIGINAL_PREFIX}*`",
            hint="only checkpoints that were trained with the perceptual loss carry its weights",
        )
    return PERCEPTUAL.rename(found, names, where=f"`{path}`")


def _download(folder: Path, network: PerceptualNetwork) -> dict[str, Tensor]:
    logger.info("downloading the weights of the perceptual loss to `%s` (528 MB, once)", folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    state = {"shift": network.shift, "scale": network.scale}
    # A separate folder: another run may be downloading the same files.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        for address, digest, keys in (
            (_HEADS, _HEADS_SHA256, PERCEPTUAL),
            (_VGG16, _VGG16_SHA256, VGG16),
        ):
            file = Path(temporary) / f"{digest[:8]}.pth"
            fetch(address, file, digest)
            found = keys.rename(read_checkpoint(file).tensors, network.state_dict())
            state |= {name: tensor.clone() for name, tensor in found.items()}
            file.unlink()
    return state


def fetch(address: str, path: Path, sha256: str) -> None:
    """Downloads one of the two files; raises as :func:`vqgan.checkpoints.published.download`."""
    hint = (
        'train without it (`overrides=["task.perceptual=null"]`), give `overrides=["task.perceptual.weights=FILE"]`, '
        f"or put `{_FILE}` into `{cache_folder()}`"
    )
    download(address, path, sha256=sha256, hint=hint)
