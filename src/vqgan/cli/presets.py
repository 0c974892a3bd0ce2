"""``vqgan presets``: the named runs."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import OptionalText


@dataclass(kw_only=True)
class Presets:
    """Lists the named runs, or prints one as YAML: the beginning of a run file of your own."""

    name: Annotated[
        OptionalText, tyro.conf.Positional, tyro.conf.arg(metavar="[PRESET]", help_behavior_hint="")
    ] = None
    """The preset to print, or a run file, completed by its preset."""

    def run(self) -> None:
        """Prints the list, or one preset."""
        from pathlib import Path

        from vqgan.config import dump_yaml
        from vqgan.presets import PRESETS, find_preset

        if self.name is not None:
            if Path(self.name).suffix in (".yaml", ".yml"):
                from vqgan.runs import resolve

                print(dump_yaml(resolve(self.name)), end="")
            else:
                print(dump_yaml(find_preset(self.name, "").make()), end="")
            return
        width = max(len(name) for name in PRESETS)
        for name, preset in PRESETS.items():
            print(f"{name:<{width}}  {preset.summary}")
