"""Tokenizers of diffusers, both ways: a folder with ``config.json`` and the weights of a ``VQModel``."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from torch import Tensor

from vqgan.checkpoints.format import model_names
from vqgan.checkpoints.key_maps import DIFFUSERS
from vqgan.checkpoints.original_config import without_codes
from vqgan.checkpoints.pickles import read_checkpoint
from vqgan.checkpoints.tensors import COPY_AGAIN, read_tensors, write_tensors
from vqgan.config import Config, from_mapping, to_mapping
from vqgan.errors import CheckpointError, ConfigError, printable, reason_of, require
from vqgan.nn.convolution import NORM_GROUPS
from vqgan.output_files import write_json
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

CONFIG_FILE, WEIGHTS_FILE = "config.json", "diffusion_pytorch_model.safetensors"
PIPELINE_FILE = "model_index.json"
"""Lies in the folder of a whole pipeline, whose parts are folders in it."""

_STEM = WEIGHTS_FILE.partition(".")[0]
_MAX_CONFIG_BYTES = 1_000_000
_CLASS = "VQModel"
_BUILT = (
    *("out_channels", "down_block_types", "up_block_types", "block_out_channels"),
    *("norm_num_groups", "norm_type"),
)
"""Arguments of which only some values can be built."""

_ATTENTION = (".query.weight", ".key.weight", ".value.weight", ".projection.weight")


class VQModelConfig(Config, frozen=True):
    """The arguments of ``diffusers.VQModel``: its names and defaults, and the values that we can build.

    The last four change nothing about encoding and decoding. A side of ``sample_size`` is what attention
    resolutions are counted from, and nothing else.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(min_length=1)] = (64,)
    layers_per_block: int = 1
    act_fn: Literal["silu", "swish"] = "silu"
    latent_channels: int = 3
    num_vq_embeddings: int = 256
    norm_num_groups: int = NORM_GROUPS
    vq_embed_dim: int | None = None
    norm_type: str = "group"
    mid_block_add_attention: bool = True
    sample_size: int | tuple[int, int] = 32
    scaling_factor: float = 0.18215
    lookup_from_codebook: bool = False
    force_upcast: bool = False


def read_diffusers(folder: Path) -> tuple[TokenizerConfig, dict[str, Tensor]]:
    """The tokenizer in a folder that ``diffusers.VQModel.save_pretrained`` wrote.

    Args:
        folder: Holds ``config.json`` and the weights (see :func:`weights_files`).

    Returns:
        The configuration, and the tensors by our names, in the precision of the file.

    Raises:
        CheckpointError: If a file is missing or damaged, the configuration asks for something that this
            package does not build, or the tensors do not fit it.
    """
    files = weights_files(folder)
    config = _read_config(folder / CONFIG_FILE)
    published: dict[str, Tensor] = {}
    for file in files:
        found = read_checkpoint(file).tensors if file.suffix == ".bin" else read_tensors(file)
        for key in sorted(found.keys() & published.keys()):
            raise CheckpointError(f"`{printable(key)}` is in several files of `{folder}`", hint=COPY_AGAIN)
        published |= found
    where = f"`{folder}`"
    state = DIFFUSERS.rename(published, model_names(config, where), where=where)
    return config, {key: _as_convolution(key, tensor) for key, tensor in state.items()}


def weights_files(folder: Path) -> list[Path]:
    """The file with the weights in such a folder, or the files among which an index divides them.

    Full precision comes before half, safetensors before pickles. Raises CheckpointError if there are only Flax weights.
    """
    for variant, kind in product(("", ".fp16", ".bf16"), (".safetensors", ".bin")):
        file, index = folder / f"{_STEM}{variant}{kind}", folder / f"{_STEM}{kind}.index{variant}.json"
        if file.is_file():
            return [file]
        if index.is_file():
            return _divided(index)
    for file in sorted(folder.glob("*.msgpack")):
        raise CheckpointError(
            f"`{file}` holds weights of Flax, which are not read",
            hint=f"get the same model's `{WEIGHTS_FILE}`, or save it anew with PyTorch where it was made",
        )
    return [folder / WEIGHTS_FILE]


def _divided(index: Path) -> list[Path]:
    places = _read_json(index).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names):
        raise CheckpointError(f"`{index}` names no files beside it in `weight_map`", hint=COPY_AGAIN)
    return [index.parent / name for name in sorted(set(names))]


def is_diffusers(folder: Path) -> bool:
    """Whether something in a folder is named as diffusers names it, or as Flax does."""
    return (folder / CONFIG_FILE).is_file() or any(folder.glob("*.msgpack"))


def is_part(file: Path) -> bool:
    """Whether a file belongs to a folder of diffusers, or of one of its pipelines."""
    named = file.name.startswith((CONFIG_FILE, PIPELINE_FILE, _STEM)) or file.suffix == ".msgpack"
    return named and any((file.parent / name).is_file() for name in (CONFIG_FILE, PIPELINE_FILE))


def pipeline_tokenizer(folder: Path) -> Path | None:
    """The folder of a pipeline's ``VQModel``, None for other folders. Raises CheckpointError if it has none."""
    if not (folder / PIPELINE_FILE).is_file():
        return None
    parts = _read_json(folder / PIPELINE_FILE).items()
    classes = {
        printable(name): printable(str(kind[-1])) for name, kind in parts if isinstance(kind, list) and kind
    }
    for name, kind in classes.items():
        if kind == _CLASS and name.isidentifier():
            return folder / name
    for name, kind in classes.items():
        if "AutoencoderKL" in kind:
            raise without_codes(kind, f"the part `{name}` of `{folder}`")
    raise CheckpointError(
        f"the pipeline `{folder}` has no `{_CLASS}`; it has {', '.join(classes.values()) or 'no parts'}",
        hint="give a pipeline that has one, such as aMUSEd's, or the folder of a tokenizer",
    )


def write_diffusers(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the tokenizer so that ``diffusers.VQModel.from_pretrained`` reads it.

    What only matters for training (dropout, the quantizer's loss) is not part of that class and is left out.

    Args:
        tokenizer: Its weights are written in their precision.
        folder: Created if necessary; files of the same names are replaced.

    Raises:
        ConfigError: If the class has no word for something that the tokenizer does.
        OutputError: If the folder cannot be written.
    """
    config = _to_theirs(tokenizer.config)
    state = tokenizer.state_dict()
    theirs = {
        key: state[name].flatten(1) if name.endswith(_ATTENTION) else state[name]
        for name, key in DIFFUSERS.published(state).items()
    }
    write_tensors(folder / WEIGHTS_FILE, theirs, {"format": "pt"})
    write_json(folder / CONFIG_FILE, {"_class_name": _CLASS, **to_mapping(config)})


def _read_json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_CONFIG_BYTES + 1)
        if len(data) > _MAX_CONFIG_BYTES:
            raise ValueError(f"more than {_MAX_CONFIG_BYTES:,} bytes")
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}, expected an object")
        return values
    except (OSError, ValueError, RecursionError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error).lower()
        raise CheckpointError(
            f"cannot read `{file}`: {reason}", hint="give a folder of diffusers' `VQModel`"
        ) from None


def _read_config(file: Path) -> TokenizerConfig:
    values = _read_json(file)
    name = values.get("_class_name")
    if "AutoencoderKL" in str(name):
        raise without_codes(str(name), f"the model that `{file}` describes")
    if name != _CLASS:
        raise CheckpointError(
            f"`_class_name` of `{file}` is `{printable(str(name)[:100])}`, only `{_CLASS}` can be read",
            hint="give the folder of the tokenizer, in a pipeline usually `vqvae` or `vqmodel`",
        )
    arguments = {key: value for key, value in values.items() if not key.startswith("_")}
    try:
        theirs: VQModelConfig = from_mapping(arguments, VQModelConfig, where=f"`{file}`")
        ours = _to_ours(theirs)
        built = to_mapping(_to_theirs(ours))
        for key, value in to_mapping(theirs).items():
            if key in _BUILT:
                require(value == built[key], f"`{key}` is {value}, only {built[key]} can be built")
        return ours
    except ConfigError as error:
        at = "" if str(file) in error.message else f"`{file}` cannot be built: "
        raise CheckpointError(f"{at}{error.message}", hint=error.hint) from None


def _to_ours(theirs: VQModelConfig) -> TokenizerConfig:
    width, *_ = widths = theirs.block_out_channels
    factor, size = 2 ** (len(widths) - 1), theirs.sample_size
    side = size if isinstance(size, int) else max(size)
    resolution = max(1, -(-side // factor)) * factor
    attended = [level for level, block in enumerate(theirs.down_block_types) if block.startswith("Attn")]
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=theirs.in_channels,
            base_channels=width,
            channel_multipliers=tuple(each // width for each in widths),
            num_residual_blocks=theirs.layers_per_block,
            latent_channels=theirs.latent_channels,
            resolution=resolution,
            attention_resolutions=tuple(resolution >> level for level in attended if level < len(widths)),
            middle_attention=theirs.mid_block_add_attention,
        ),
        quantizer=VectorQuantizerConfig(
            codebook_size=theirs.num_vq_embeddings,
            codebook_dim=theirs.latent_channels if theirs.vq_embed_dim is None else theirs.vq_embed_dim,
            loss_convention="original",
        ),
    )


def _to_theirs(ours: TokenizerConfig) -> VQModelConfig:
    sizes, quantizer = ours.autoencoder, to_mapping(ours.quantizer)
    if sizes is None:
        raise ConfigError(
            "the tokenizer has no autoencoder, diffusers needs one", hint="keep it in our own format"
        )
    levels = range(len(sizes.channel_multipliers))
    prefixes = ["Attn" if sizes.has_attention(level) else "" for level in levels]
    hint = f"diffusers' `{_CLASS}` has no such setting; keep the model in our own format"
    require(sizes.patch_size == 1, f"`patch_size` is {sizes.patch_size}, diffusers needs 1", hint=hint)
    first = sizes.channel_multipliers[0]
    require(first == 1, f"`channel_multipliers` begins with {first}, diffusers needs 1", hint=hint)
    kind = quantizer["kind"]
    require(kind == "vector", f"the quantizer is `{kind}`, diffusers needs `vector`", hint=hint)
    for name in ("normalize", "remap"):
        require(not quantizer.get(name), f"the quantizer has `{name}`, diffusers needs it without", hint=hint)
    return VQModelConfig(
        in_channels=sizes.image_channels,
        out_channels=sizes.image_channels,
        down_block_types=tuple(f"{prefix}DownEncoderBlock2D" for prefix in prefixes),
        # The decoder runs from the lowest resolution to the highest.
        up_block_types=tuple(f"{prefix}UpDecoderBlock2D" for prefix in reversed(prefixes)),
        block_out_channels=tuple(sizes.level_width(level) for level in levels),
        layers_per_block=sizes.num_residual_blocks,
        latent_channels=sizes.latent_channels,
        num_vq_embeddings=ours.quantizer.codebook_size,
        vq_embed_dim=ours.quantizer.codebook_dim,
        mid_block_add_attention=sizes.middle_attention,
        sample_size=sizes.resolution,
    )


def _as_convolution(key: str, tensor: Tensor) -> Tensor:
    return tensor[:, :, None, None] if key.endswith(_ATTENTION) and tensor.ndim == 2 else tensor
