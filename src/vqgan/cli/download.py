"""``vqgan download``: a published model, fetched and converted."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import OptionalText


@dataclass(kw_only=True)
class Download:
    """Fetches a published model (`vqgan models` lists them), converts it into one file of ours, and prints its path.

    One plain request for each file; checksums are compared where they are known. What was fetched is removed once it is
    converted, also when something fails.
    """

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """The model."""

    out: Annotated[OptionalText, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The file to write; by default `models/NAME.safetensors` in the cache ($VQGAN_CACHE), fetched once."""

    keep_training_state: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep the discriminator and the perceptual network, for fine-tuning with `--from`."""

    def run(self) -> None:
        """Fetches and converts; prints the path."""
        from vqgan.checkpoints.zoo_download import download_model
        from vqgan.cli.progress import ProgressBar
        from vqgan.output_files import weights_path

        out = weights_path(self.out) if self.out else None
        with ProgressBar() as bar:
            path = download_model(self.name, out, keep_training=self.keep_training_state, on_progress=bar)
        print(path)
