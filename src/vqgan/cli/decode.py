"""``vqgan decode``: codes to images."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import Folder, Model, Use, bytes_of, check_batch_size


@dataclass(kw_only=True)
class Decode(Use):
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
        from vqgan.checkpoints.load import precision_of
        from vqgan.cli.inputs import load_tokenizer, memory_of
        from vqgan.cli.outputs import check_targets
        from vqgan.cli.progress import ProgressBar
        from vqgan.images import printable, save_png
        from vqgan.tokenizer import check_decoding, decode_within
        from vqgan.types import Progress

        check_batch_size(self.batch_size)
        bytes_of(self.memory)  # a wrong number is refused before the model is read
        tokenizer, header, digest = load_tokenizer(self)
        memory = memory_of(self, tokenizer)
        codes, names, sizes = load_codes(Path(self.codes), digest=digest)
        check_targets(Path(self.out), [f"{name}.png" for name in names], overwrite=self.overwrite)
        grids = torch.from_numpy(codes.astype("int64"))
        info = {
            "model": header.digest[:12],
            "command": "decode",
            "precision": precision_of(tokenizer),
            "batch_size": str(self.batch_size),
            "memory": str(self.memory),
        }
        check_decoding(tokenizer, (grids.shape[1], grids.shape[2]), memory)
        paths: list[Path] = []
        with ProgressBar() as bar, torch.no_grad():
            for part in grids.split(self.batch_size):
                for image in decode_within(tokenizer, part, memory, bar):
                    path = Path(self.out) / f"{names[len(paths)]}.png"
                    height, width = sizes[len(paths)] if sizes else image.shape[1:]
                    paths.append(save_png(image[:, :height, :width].float().cpu(), path, info))
                bar(Progress("decode", len(paths), len(grids)))
        for path in paths:
            print(printable(path))
