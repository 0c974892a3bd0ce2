"""The weights of the network by which FID compares images, out of the file that pytorch-fid and others share."""

import hashlib
import re
from pathlib import Path

from vqgan.checkpoints.format import check_keys, shapes_of
from vqgan.checkpoints.key_maps import INCEPTION, KeyMap
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.nn.inception import Convolution, Inception

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_COUNTER = "num_batches_tracked"


def published_names(network: Inception) -> dict[str, str]:
    """The name of each weight in the file by ours, without the counters of norms, which some files lack."""
    ours = [re.escape(name) for name, module in network.named_modules() if isinstance(module, Convolution)]
    rules = {r"^output\.": "fc."}
    for place, part in enumerate(("conv", "bn")):
        rules |= {rf"^{a}\.{place}\.": f"{b}.{part}." for a, b in zip(ours, INCEPTION, strict=True)}
    return KeyMap(rules).published(name for name in network.state_dict() if _COUNTER not in name)


def load_inception(path: Path) -> tuple[Inception, str, bool]:
    """The network with the weights of a file, the file's digest, and whether it is the one that was published.

    Raises:
        CheckpointError: If the file is damaged, or does not hold all weights and nothing else.
    """
    network = Inception()
    names, own = published_names(network), network.state_dict()
    found = {name: each for name, each in read_checkpoint(path).tensors.items() if _COUNTER not in name}
    wanted = {theirs: tuple(own[name].shape) for name, theirs in names.items()}
    hint = f"give `{PUBLISHED}`, as pytorch-fid has it"
    check_keys(wanted, shapes_of(found), where=f"`{path}`", what="network of FID", hint=hint)
    network.load_state_dict(own | {name: found[theirs] for name, theirs in names.items()}, strict=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return network, digest, digest == _SHA256
