"""``vqgan convert``: published checkpoints into one file of ours."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from vqgan.cli.options import Changes, OptionalText
from vqgan.errors import ConfigError

Format = Literal["vqgan", "diffusers"]


@dataclass(kw_only=True)
class Convert:
    """Turns a published checkpoint into one `.safetensors` file with its configuration inside.

    Reads checkpoints of the original (with their YAML file), of LlamaGen and of latent diffusion's first stages, and
    diffusers folders. Nothing that stands in a file is run.
    """

    checkpoint: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """The checkpoint, the folder that it was published in, or a diffusers folder; with `--to diffusers` any of ours."""

    out: Annotated[str, tyro.conf.arg(metavar="PATH")]
    """The file to write; with `--to diffusers` a folder."""

    config: Annotated[OptionalText, tyro.conf.arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Its configuration; by default the one beside it or in `configs/`."""

    set: Changes = field(default_factory=list)
    """What a checkpoint's own configuration does not tell: `--set prior.num_heads=16`."""

    to: Format = "vqgan"
    """What to write."""

    keep_training_state: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep the discriminator and the perceptual network, for fine-tuning with `--from`."""

    def run(self) -> None:
        """Converts; prints the path and the share of the bytes that was saved."""
        from pathlib import Path

        from vqgan.checkpoints.convert import convert, convert_to_diffusers
        from vqgan.output_files import weights_path

        source, config = Path(self.checkpoint), self.config
        out = weights_path(self.out) if self.to == "vqgan" else Path(self.out)
        if self.to == "diffusers" and self.keep_training_state:
            raise ConfigError(
                "a folder of diffusers has no place for the training state",
                hint="omit `--keep-training-state`",
            )
        described = Path(config) if config else None
        if self.to == "diffusers":
            convert_to_diffusers(source, out, described, self.set)
        else:
            convert(source, out, described, keep_training=self.keep_training_state, overrides=self.set)
        print(out)
