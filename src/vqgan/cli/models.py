"""``vqgan models``: the published models."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from vqgan.cli.options import OptionalText

if TYPE_CHECKING:
    from vqgan.checkpoints.zoo_entries import Entry

_TITLES = ("name", "factor", "codes", "parameters", "trained on", "FID", "licence", "download")
_NUMBERS = (1, 2, 3, 7)
"""Columns that are aligned on the right."""


@dataclass(kw_only=True)
class Models:
    """Lists the published models, or shows all that is known of one, its architecture included."""

    name: Annotated[
        OptionalText, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]", help_behavior_hint="")
    ] = None
    """The model to show."""

    def run(self) -> None:
        """Prints the table, or one model."""
        from vqgan.checkpoints.zoo_entries import ENTRIES, find_entry

        if self.name is not None:
            _show(find_entry(self.name))
            return
        rows = [_TITLES, *(_row(entry) for entry in ENTRIES.values())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
        for row in rows:
            cells = (
                f"{cell:>{width}}" if column in _NUMBERS else f"{cell:<{width}}"
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            print("  ".join(cells).rstrip())


def _row(entry: "Entry") -> tuple[str, ...]:
    return (
        entry.name,
        str(entry.factor),
        str(entry.codes),
        f"{entry.parameters / 1e6:.1f}M",
        entry.data,
        entry.fid or "-",
        entry.source.licence,
        (_size(entry) if entry.source.size else "size unknown") if entry.source.checkpoint else "by hand",
    )


def _size(entry: "Entry") -> str:
    from vqgan.checkpoints.zoo_entries import NOT_STATED

    return f"{entry.source.size / 1e6:.0f} MB" if entry.source.size else NOT_STATED


def _show(entry: "Entry") -> None:
    from vqgan.checkpoints.zoo import model_config
    from vqgan.checkpoints.zoo_entries import NOT_STATED
    from vqgan.config import dump_yaml

    source, nowhere = entry.source, "no address that one plain request can fetch is known"
    for key, value in (
        ("name", entry.name),
        ("holds", entry.holds),
        ("factor", f"{entry.factor} pixels per token side"),
        ("codes", f"{entry.codes:,}"),
        ("parameters", f"{entry.parameters:,}"),
        ("trained on", entry.data),
        ("FID", entry.fid or NOT_STATED),
        ("licence", source.licence),
        ("size", _size(entry)),
        ("page", source.page),
        ("checkpoint", source.checkpoint or nowhere),
        ("sha256", source.checkpoint_sha256 or "not known"),
        ("YAML file", source.config or "no address is known"),
        ("sha256", source.config_sha256 or "not known"),
    ):
        print(f"{key:<12}{value}")
    print("config:")
    print("\n".join(f"  {line}" for line in dump_yaml(model_config(entry.name)).splitlines()))
