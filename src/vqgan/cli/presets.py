"""``vqgan presets``: the named runs."""

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(kw_only=True)
class Presets:
    """Lists the named runs, or prints one as YAML to begin a run file with."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """The preset to print."""

    def run(self) -> None:
        """Prints the list, or one preset."""
        from vqgan.config import dump_yaml
        from vqgan.presets import PRESETS
        from vqgan.runs import resolve

        if self.name is not None:
            print(dump_yaml(resolve(self.name)), end="")
            return
        width = max(len(name) for name in PRESETS)
        for name, preset in PRESETS.items():
            print(f"{name:<{width}}  {preset.summary}")
