"""``vqgan decode``: codes to images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Compute, Folder, Model, check_batch_size


@dataclass(kw_only=True)
class Decode(Compute):
    """Writes the images of codes that `vqgan encode` wrote, as PNGs of the original names."""

    model: Model
    """The tokenizer that encoded them: a run folder or a weights file."""

    codes: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CODES")]
    """The folder with `codes.npy` and `codes.json`."""

    out: Folder
    """Where the results go."""

    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 16
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

        check_batch_size(self.batch_size)
        tokenizer, header = load_tokenizer(self.model, device=self.device, precision=self.precision)
        codes, names = load_codes(Path(self.codes), tokenizer)
        grids = torch.from_numpy(codes.astype("int64"))
        info = {"model": header.digest[:12], "command": "decode", "precision": self.precision}
        paths: list[Path] = []
        with ProgressBar() as bar, torch.no_grad():
            for part in grids.split(self.batch_size):
                for image in tokenizer.decode(part.to(tokenizer.to_codebook.weight.device)):
                    path = Path(self.out) / f"{names[len(paths)]}.png"
                    paths.append(save_png(image.float().cpu(), path, info))
                bar(Progress("decode", len(paths), len(grids)))
        for path in paths:
            print(path)
