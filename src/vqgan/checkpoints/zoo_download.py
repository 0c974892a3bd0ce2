"""Published models fetched from where they lie and converted, with nothing else left behind."""

import logging
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from vqgan.cache import cache_folder
from vqgan.checkpoints.convert import convert
from vqgan.checkpoints.downloads import download
from vqgan.checkpoints.zoo import model_config
from vqgan.checkpoints.zoo_entries import Entry, find_entry
from vqgan.config import dump_yaml
from vqgan.errors import CheckpointError
from vqgan.output_files import output_errors, refuse_existing, write_text
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig
from vqgan.types import OnProgress

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 2**30
"""No published checkpoint is larger; an archive that promises more would fill the disk."""


def download_model(
    name: str,
    out: Path | None = None,
    *,
    keep_training: bool = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Fetches a published model and writes it as a file of ours.

    Args:
        name: One of :data:`vqgan.checkpoints.zoo_entries.ENTRIES`.
        out: The file, which must not exist; by default one in the cache, which is not fetched again.
        keep_training: Whether the discriminator and the perceptual network travel along.
        on_progress: Called for every megabyte.

    Returns:
        The file.

    Raises:
        CheckpointError: If the model cannot be fetched by one plain request, the network fails, or what comes is
            not what was published; nothing is kept.
        ConfigError: If no published model of that name is known.
        OutputError: If ``out`` exists, or the disk refuses.
    """
    entry = find_entry(name)
    path = out or default_path(name, keep_training=keep_training)
    if out is None and path.exists():
        logger.info("`%s` is there already", path)
        return path
    refuse_existing(path)
    if not entry.source.checkpoint:
        raise CheckpointError(
            f"`{name}` cannot be fetched by one plain request: it lies behind a page for people",
            hint=by_hand(entry),
        )
    with output_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the result: what is fetched may be larger than the system's temporary folder.
        temporary = tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent)
    with temporary as place:
        folder = Path(place)
        config = _config(entry, folder)
        checkpoint = _checkpoint(entry, folder, on_progress)
        try:
            convert(checkpoint, path, config, keep_training=keep_training)
        except CheckpointError as error:
            message = error.message.replace(f"{folder}/", "")
            raise CheckpointError(
                f"`{entry.source.checkpoint}` gave a file that is not the model: {message}",
                hint=by_hand(entry),
            ) from None
    return path


def default_path(name: str, *, keep_training: bool) -> Path:
    """Where a model is kept: a file in the folder ``models`` of the cache, another one with the training state."""
    return cache_folder() / "models" / f"{name}{'-training' if keep_training else ''}.safetensors"


def _original_yaml(entry: Entry) -> str:
    """The file of the original's repository that describes such a first stage."""
    model = model_config(entry.name)
    depth = isinstance(model, TokenizerConfig) and model.autoencoder.image_channels == 1
    return "imagenetdepth_vqgan.yaml" if depth else "imagenet_vqgan.yaml"


def by_hand(entry: Entry) -> str:
    """How a person gets the model without ``vqgan download``."""
    files = "the checkpoint"
    if entry.source.config or entry.holds == "synthesizer":
        files = "the checkpoint and its YAML file"
    elif _yaml_is_needed(model_config(entry.name)):
        files = (
            f"the checkpoint and the original's `configs/{_original_yaml(entry)}`, "
            f"with {entry.codes} for `n_embed`,"
        )
    return (
        f"open {entry.source.page} in a browser, put {files} into one folder, and run "
        f"`vqgan convert FOLDER --out {entry.name}.safetensors`"
    )


def original_yaml(config: TokenizerConfig) -> dict[str, Any]:
    """A vector-quantized tokenizer as the original's configurations describe it."""
    sizes, codebook = config.autoencoder, config.quantizer
    described = {
        "double_z": False,
        "z_channels": sizes.latent_channels,
        "resolution": sizes.resolution,
        "in_channels": sizes.image_channels,
        "out_ch": sizes.image_channels,
        "ch": sizes.base_channels,
        "ch_mult": list(sizes.channel_multipliers),
        "num_res_blocks": sizes.num_residual_blocks,
        "attn_resolutions": list(sizes.attention_resolutions),
        "dropout": sizes.dropout,
    }
    params = {
        "embed_dim": codebook.codebook_dim,
        "n_embed": codebook.codebook_size,
        "ddconfig": described,
    }
    return {"model": {"target": "taming.models.vqgan.VQModel", "params": params}}


def _yaml_is_needed(config: TokenizerConfig | SynthesizerConfig) -> bool:
    """LlamaGen's tokenizers, which compare codes at length 1, are described by the shapes of their tensors alone."""
    return not (isinstance(config, TokenizerConfig) and getattr(config.quantizer, "normalize", False))


def _config(entry: Entry, folder: Path) -> Path | None:
    """The YAML file: as published, or written from what is known; None where the checkpoint needs none."""
    path, source = folder / "model.yaml", entry.source
    if source.config:
        download(source.config, path, sha256=source.config_sha256, hint=by_hand(entry))
        return path
    config = model_config(entry.name)
    if isinstance(config, TokenizerConfig) and _yaml_is_needed(config):
        write_text(path, dump_yaml(original_yaml(config)))
        return path
    return None


def _checkpoint(entry: Entry, folder: Path, on_progress: OnProgress | None) -> Path:
    """The checkpoint, taken out of its archive where it lies in one."""
    source, path = entry.source, folder / "last.ckpt"
    archived = source.checkpoint.endswith(".zip")
    fetched = folder / "archive.zip" if archived else path
    download(
        source.checkpoint,
        fetched,
        sha256=source.checkpoint_sha256,
        hint=by_hand(entry),
        on_progress=on_progress,
    )
    if archived:
        _extract(fetched, path, entry)
        fetched.unlink()
    return path


def _extract(archive: Path, path: Path, entry: Entry) -> None:
    """Takes the only checkpoint out of a zip archive; the names in the archive are not used as paths."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [member for member in opened.infolist() if member.filename.endswith(".ckpt")]
            if len(found) != 1:
                raise zipfile.BadZipFile(f"it holds {len(found)} checkpoints, expected 1")
            if found[0].file_size > MAX_BYTES:
                raise zipfile.BadZipFile(
                    f"its checkpoint has {found[0].file_size:,} bytes, at most {MAX_BYTES:,}"
                )
            with opened.open(found[0]) as packed, output_errors(path), path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"`{entry.source.checkpoint}` gave an archive that cannot be used: {error}", hint=by_hand(entry)
        ) from None
