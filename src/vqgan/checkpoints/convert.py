"""Converts published checkpoints to files of ours, using little memory."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vqgan.checkpoints.diffusers import CONFIG_FILE, WEIGHTS_FILE, write_diffusers
from vqgan.checkpoints.finding import find_file
from vqgan.checkpoints.foreign import read_foreign, training_networks
from vqgan.checkpoints.format import read_header, save_model
from vqgan.checkpoints.load import is_own, read_model
from vqgan.errors import ConfigError
from vqgan.output_files import output_errors, refuse_existing
from vqgan.synthesizer import Synthesizer

logger = logging.getLogger(__name__)


def convert(
    source: Path,
    out: Path,
    config: Path | None = None,
    *,
    keep_training: bool = False,
    overrides: Sequence[str] = (),
) -> None:
    """Writes the model of a published checkpoint to a file of ours.

    The weights stay mapped from the checkpoint until they are written: memory holds one copy of what is
    kept while it is written.

    Args:
        source: The checkpoint, or a folder that holds one.
        out: The file; it must not exist.
        config: The checkpoint's configuration, where it is not beside it.
        keep_training: Whether the discriminator and the perceptual network are kept, too.
        overrides: Changes of its configuration, ``"prior.num_heads=16"``.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or does not fit its configuration.
        ConfigError: If it is already a file of ours.
        OutputError: If ``out`` exists or cannot be written.
    """
    file = find_file(source)
    if is_own(file):
        read_header(file)  # a damaged one has its own message
        raise ConfigError(f"`{file}` is already a file of ours", hint="there is nothing to convert")
    refuse_existing(out)
    foreign = read_foreign(file, config, overrides)
    networks = training_networks(foreign) if keep_training else {}
    model = foreign.model(copy=False)
    with output_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    header = foreign.header()
    save_model(model, out, weights=header.weights, step=header.step, training=networks)
    if header.training and not keep_training:
        omitted = ", ".join(sorted(header.training))
        logger.info("omitted, for training only: %s (kept with `keep_training_state=`)", omitted)
    if file.is_file():
        before, after = file.stat().st_size, out.stat().st_size
        less = f" ({100 * (1 - after / before):.0f} % less)" if after < before else ""
        logger.info("%.1f MB became %.1f MB%s", before / 1e6, after / 1e6, less)


def convert_to_diffusers(
    source: Path, out: Path, config: Path | None = None, overrides: Sequence[str] = ()
) -> None:
    """Writes the tokenizer of any model as a folder for ``diffusers.VQModel.from_pretrained``.

    Raises:
        CheckpointError: If the model cannot be read.
        ConfigError: If diffusers' class cannot express it.
        OutputError: If the folder holds such a model already, or cannot be written.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        refuse_existing(out / name)
    model, header = read_model(source, config, overrides)
    write_diffusers(model.tokenizer if isinstance(model, Synthesizer) else model, out)
    if isinstance(model, Synthesizer):
        logger.info("omitted: the prior and its condition; diffusers' class is only a tokenizer")
    if header.training:
        logger.info("omitted, for training only: %s", ", ".join(sorted(header.training)))
