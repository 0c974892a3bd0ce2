"""``vqgan decode``: codes to images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Compute


@dataclass(kw_only=True)
class Decode(Compute):
    """Writes the images of codes that `vqgan encode` wrote, as PNGs of the original names."""

    model: Annotated[str, tyro.conf.Positional]
    """The tokenizer that encoded them: a run folder or a weights file."""

    codes: Annotated[str, tyro.conf.Positional]
    """The folder with `codes.npy` and `codes.json`."""

    out: str
    """The folder for the results."""

    batch_size: int = 16
    """Images that are computed together."""

    def run(self) -> None:
        """Decodes; prints the paths of the results."""
        from pathlib import Path

        import torch

        from vqgan.checkpoints.codes import load_codes
        from vqgan.cli.inputs import load_tokenizer
        from vqgan.cli.progress import ProgressBar
        from vqgan.images import save_png
        from vqgan.types import Progress

        tokenizer, header = load_tokenizer(self.model, device=self.device, precision=self.precision)
        codes, names = load_codes(Path(self.codes), tokenizer)
        device = tokenizer.to_codebook.weight.device
        info = {"model": header.digest[:12], "command": "decode", "precision": self.precision}
        written = []
        with ProgressBar() as bar, torch.no_grad():
            for start in range(0, len(codes), self.batch_size):
                part = torch.from_numpy(codes[start : start + self.batch_size].astype("int64"))
                for name, image in zip(
                    names[start:], tokenizer.decode(part.to(device)).float().cpu(), strict=False
                ):
                    written.append(save_png(image, Path(self.out) / f"{name}.png", info))
                bar(Progress("decode", len(written), len(codes)))
        for path in written:
            print(path)
