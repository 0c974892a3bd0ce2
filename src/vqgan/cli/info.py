"""``vqgan info``: what a file or run folder holds."""

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(kw_only=True)
class Info:
    """Prints what a weights file or run folder holds, from its header alone."""

    path: Annotated[str, tyro.conf.Positional]
    """A run folder or a weights file."""

    def run(self) -> None:
        """Reads the header and prints it."""
        from math import prod
        from pathlib import Path

        import torch

        from vqgan.checkpoints.format import TRAINING_PREFIX, build_model, read_header
        from vqgan.checkpoints.load import find_file
        from vqgan.config import dump_yaml
        from vqgan.synthesizer import Synthesizer

        file = find_file(Path(self.path))
        header = read_header(file)
        with torch.device("meta"):
            model = build_model(header.kind, header.config, where=f"`{file}`")
        tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
        rows = {
            "file": str(file),
            "holds": header.kind,
            "weights": f"{header.weights}, after {header.step} steps, digest {header.digest[:12]}",
            "written by": f"vqgan {header.version}",
            "size": f"{file.stat().st_size / 1e6:.1f} MB",
            "codebook": f"{tokenizer.codebook_size} codes, {tokenizer.downsample_factor} pixels per token side",
        }
        if isinstance(model, Synthesizer):
            rows["window"] = f"{model.config.window[0]} x {model.config.window[1]} tokens"
            rows["condition"] = model.conditioner.name
        counts: dict[str, int] = {}
        for name, shape in header.shapes.items():
            part = name.split(".")[0] if not name.startswith(TRAINING_PREFIX) else "training"
            counts[part] = counts.get(part, 0) + prod(shape)
        rows["parameters"] = ", ".join(f"{part} {count:,}" for part, count in counts.items())
        for key, value in rows.items():
            print(f"{key:<12}{value}")
        print("config:")
        print("\n".join(f"  {line}" for line in dump_yaml(model.config).splitlines()))
