"""The published models: what they are, what was published about them, and where they lie (read from ``zoo.toml``).

Only :func:`model_config` needs PyTorch, and imports it: the table is shown without.
"""

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from vqgan.config import Config, from_mapping, merge
from vqgan.errors import ConfigError, closest

if TYPE_CHECKING:
    from vqgan.synthesizer import SynthesizerConfig
    from vqgan.tokenizer import TokenizerConfig

NOT_STATED = "not stated"


class Entry(Config, frozen=True):
    """One published model.

    Attributes:
        data: What it was trained on.
        parameters: Of all networks that are kept, a condition's tokenizer included.
        page: The page that links to it.
        tokenizer: The configuration of its first stage.
        prior: The configuration of its second stage, if it has one.
        conditioner: The configuration of the second stage's condition.
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
    tokenizer: dict[str, Any]
    prior: dict[str, Any] = msgspec.field(default_factory=dict)
    conditioner: dict[str, Any] = msgspec.field(default_factory=dict)
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
        return "synthesizer" if self.prior else "tokenizer"

    @property
    def factor(self) -> int:
        """Pixels per token side."""
        return 2 ** (len(self.tokenizer["autoencoder"]["channel_multipliers"]) - 1)

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return int(self.tokenizer["quantizer"]["codebook_size"])


def _read() -> dict[str, Entry]:
    text = files(__package__).joinpath("zoo.toml").read_text(encoding="utf-8")
    tables: dict[str, Any] = msgspec.toml.decode(text)
    common = tables.pop("common")
    for name, table in tables.items():
        table["name"] = name
        for part in (table, table.get("conditioner", {})):
            if "tokenizer" in part:
                part["tokenizer"] = merge(common, part["tokenizer"])
    return msgspec.convert(tables, dict[str, Entry])


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


def model_config(name: str) -> "TokenizerConfig | SynthesizerConfig":
    """The configuration of a published model: it can be built, and its key list checked, without its weights.

    Raises:
        ConfigError: If there is no published model of that name.
    """
    from vqgan.synthesizer import SynthesizerConfig
    from vqgan.tokenizer import TokenizerConfig

    entry = find_entry(name)
    if not entry.prior:
        return from_mapping(entry.tokenizer, TokenizerConfig, where=name)
    model = {
        "tokenizer": entry.tokenizer,
        "conditioner": entry.conditioner,
        "prior": {"vocabulary": "shared", **entry.prior},
        "window": (16, 16),
    }
    return from_mapping(model, SynthesizerConfig, where=name)
