"""``vqgan models`` and ``vqgan presets``: what is known by a name; no torch, so that they answer fast."""

import textwrap
from collections.abc import Iterable

from vqgan.checkpoints.zoo import ENTRIES, NOT_STATED, Entry, find_entry, model_config
from vqgan.cli import commands
from vqgan.config import Config, dump_yaml
from vqgan.presets import PRESETS

_TITLES = ("name", "factor", "codes", "parameters", "trained on", "FID", "licence", "download")
_NUMBERS = (1, 2, 3, 7)
"""Columns that are aligned on the right."""


def presets(flags: commands.Presets) -> None:
    """Prints the list, or one preset."""
    if flags.name is None:
        width = max(map(len, PRESETS))
        for name, preset in PRESETS.items():
            print(f"{name:<{width}}  {preset.summary}")
    else:
        from vqgan.runs import resolve

        print(dump_yaml(resolve(flags.name)), end="")


def models(flags: commands.Models) -> None:
    """Prints the table, or one model."""
    if flags.name is not None:
        _show(find_entry(flags.name))
        return
    rows = [_TITLES, *map(_row, ENTRIES.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:>{width}}" if column in _NUMBERS else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        str(entry.factor),
        str(entry.codes),
        f"{entry.parameters / 1e6:.1f}M",
        entry.data,
        entry.fid or "-",
        entry.licence,
        (_size(entry) if entry.size else "size unknown") if entry.checkpoint else "by hand",
    )


def _size(entry: Entry) -> str:
    return f"{entry.size / 1e6:.0f} MB" if entry.size else NOT_STATED


def _show(entry: Entry) -> None:
    nowhere = "no address that one plain request can fetch is known"
    rows = (
        ("name", entry.name),
        ("holds", entry.holds),
        ("factor", f"{entry.factor} pixels per token side"),
        ("codes", f"{entry.codes:,}"),
        ("parameters", f"{entry.parameters:,}"),
        ("trained on", entry.data),
        ("FID", entry.fid or NOT_STATED),
        ("licence", entry.licence),
        ("size", _size(entry)),
        ("page", entry.page),
        ("checkpoint", entry.checkpoint or nowhere),
        ("sha256", entry.checkpoint_sha256 or "not known"),
        ("YAML file", entry.config or "no address is known"),
        ("sha256", entry.config_sha256 or "not known"),
    )
    print_described(rows, model_config(entry.name))


def print_described(rows: Iterable[tuple[str, str]], config: Config) -> None:
    """Prints what is known of a model, a line each, and its configuration."""
    for key, value in rows:
        print(f"{key:<12}{value}")
    print("config:")
    print(textwrap.indent(dump_yaml(config), "  "), end="")
