"""The published models: what they are, what was published about them, and where they lie (read from ``zoo.toml``).

Nothing here needs PyTorch; :mod:`vqgan.checkpoints.architectures` turns an entry into a configuration.
"""

from importlib.resources import files
from typing import Any, Literal

import msgspec

from vqgan.config import Config
from vqgan.errors import ConfigError, closest

NOT_STATED = "not stated"


class TokenizerSizes(Config, frozen=True):
    """What distinguishes the published tokenizers.

    Attributes:
        codes: Size of the codebook.
        multipliers: Widths of the levels, in multiples of 128 channels.
        channels: Of the images; label maps have one for each label, depth has one.
        latent_channels: Width of the encoder's output.
        codebook_dim: Width of a code.
        attention: Whether the lowest level has attention.
        gumbel: Whether codes are drawn by Gumbel noise in training.
        normalize: Whether codes are compared at length 1.
    """

    codes: int
    multipliers: tuple[int, ...]
    channels: int = 3
    latent_channels: int = 256
    codebook_dim: int = 256
    attention: bool = True
    gumbel: bool = False
    normalize: bool = False


class PriorSizes(Config, frozen=True):
    """What distinguishes the published priors: transformer blocks, their width, their heads, dropout."""

    depth: int
    width: int
    num_heads: int
    dropout: float = 0.0


class Entry(Config, frozen=True):
    """One published model.

    Attributes:
        data: What it was trained on.
        parameters: Of all networks that are kept, a condition's tokenizer included.
        page: The page that links to it.
        tokenizer: Its first stage.
        prior: Its second stage, if it has one.
        condition: The configuration of the second stage's condition.
        condition_tokenizer: The tokenizer of the condition, if that is an image.
        name: What its publishers call it.
        fid: As published, and against which images; rFID for reconstructions. Empty if not published.
        checkpoint: Address of the file, or of a zip archive that holds it; empty if one plain request cannot get it.
        config: Address of its YAML file; empty if it is not published separately.
        size: Bytes of the checkpoint's download, 0 if not known.
        licence: Of the weights.
        checkpoint_sha256: Checksum of the checkpoint's download, empty if not known.
        config_sha256: Checksum of the YAML file, empty if not known.
    """

    data: str
    parameters: int
    page: str
    tokenizer: TokenizerSizes
    prior: PriorSizes | None = None
    condition: dict[str, Any] = msgspec.field(default_factory=dict)
    condition_tokenizer: TokenizerSizes | None = None
    name: str = ""
    fid: str = ""
    checkpoint: str = ""
    config: str = ""
    size: int = 0
    licence: str = NOT_STATED
    checkpoint_sha256: str = ""
    config_sha256: str = ""

    @property
    def holds(self) -> Literal["tokenizer", "synthesizer"]:
        """What the file holds: a synthesizer is a prior with its tokenizer."""
        return "synthesizer" if self.prior is not None else "tokenizer"

    @property
    def factor(self) -> int:
        """Pixels per token side."""
        return 2 ** (len(self.tokenizer.multipliers) - 1)


def _read() -> dict[str, Entry]:
    text = files(__package__).joinpath("zoo.toml").read_text(encoding="utf-8")
    entries = msgspec.toml.decode(text, type=dict[str, Entry])
    return {name: msgspec.structs.replace(entry, name=name) for name, entry in entries.items()}


ENTRIES = _read()
"""The published models by name."""


def find_entry(name: str) -> Entry:
    """The published model of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in ENTRIES:
        raise ConfigError(f"unknown published model `{name}`", hint=closest(name, ENTRIES))
    return ENTRIES[name]
