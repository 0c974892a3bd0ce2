"""``vqgan convert`` and ``vqgan download``: published checkpoints into one file of ours."""

from pathlib import Path

from vqgan.checkpoints.published import convert as convert_checkpoint
from vqgan.checkpoints.published import convert_to_diffusers, download_model
from vqgan.cli import commands
from vqgan.cli.progress import ProgressBar
from vqgan.errors import require
from vqgan.output_files import weights_path


def convert(flags: commands.Convert) -> None:
    """Converts; prints the path."""
    source, config = Path(flags.checkpoint), Path(flags.config) if flags.config else None
    out = weights_path(flags.out) if flags.to == "vqgan" else Path(flags.out)
    if flags.to == "diffusers":
        require(
            not flags.keep_training_state,
            "a diffusers folder has no place for the training state",
            hint="omit `--keep-training-state`",
        )
        convert_to_diffusers(source, out, config, flags.set)
    else:
        keep = flags.keep_training_state
        convert_checkpoint(source, out, config, keep_training=keep, overrides=flags.set)
    print(out)


def download(flags: commands.Download) -> None:
    """Fetches and converts; prints the path."""
    out, keep = weights_path(flags.out) if flags.out else None, flags.keep_training_state
    with ProgressBar() as bar:
        path = download_model(flags.name, out, keep_training=keep, on_progress=bar)
    print(path)
