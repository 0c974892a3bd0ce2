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
    """The preset to print."""

    def run(self) -> None:
        """Prints the list, or one preset."""
        from vqgan.config import dump_yaml
        from vqgan.presets import PRESETS, find_preset

        if self.name is not None:
            print(dump_yaml(find_preset(self.name, "").make()), end="")
            return
        width = max(len(name) for name in PRESETS)
        for name, preset in PRESETS.items():
            print(f"{name:<{width}}  {preset.summary}")
