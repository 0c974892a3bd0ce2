"""Infers the configurations of checkpoints that come without one from their tensors, in the original's format."""

import itertools
from collections.abc import Iterable, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from vqgan.checkpoints.format import shapes_of
from vqgan.checkpoints.original_config import ORDERS, PRIOR, SCENE, TRANSFORMER, translated
from vqgan.checkpoints.tensors import Shapes, below
from vqgan.errors import CheckpointError
from vqgan.prior.token_order import token_positions
from vqgan.tokenizer import TokenizerConfig, VectorQuantizerConfig

_RESOLUTION = 256
"""Side of the images of nearly all published models: no tensor shows it, and no image depends on it."""

_MAX_SIDE = 1024
"""Largest side of a window whose permutation is compared."""

_EXAMPLES = {
    "prior.num_heads": '`overrides=["prior.num_heads=16"]`',
    "conditioner.kind": '`overrides=["conditioner.kind=class_label"]`, `coordinates`, `scene_layout`, `unconditional`',
    "conditioner.num_classes": '`overrides=["conditioner.num_classes=1000"]`',
}


def inferred(state: Mapping[str, Tensor], known: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The configuration of a checkpoint of the original, as its YAML file would have it.

    Args:
        state: Its tensors by their original names.
        known: What is known otherwise, by our names: ``{"prior": {"num_heads": 16}}``.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If something cannot be inferred; the message names it.
    """
    shapes = shapes_of(state)
    if "transformer.tok_emb.weight" not in shapes:
        return first_stage(shapes, where=where)
    codes, width = _shape(shapes, "transformer.tok_emb.weight", 2, "the codes", where)
    length = _shape(shapes, "transformer.pos_emb", 3, "the length of the context", where)[1]
    # Published windows have a power of two on a side: pictures in front double the length, others add less.
    side = 1 << (isqrt(length).bit_length() - 1)
    first = first_stage(below("first_stage_model.", shapes), side=side, where=where)
    prior, conditioner = (
        dict(values) if isinstance(values := known.get(part), Mapping) else {}
        for part in ("prior", "conditioner")
    )
    condition = _condition(state, first, conditioner, side, where)
    is_known = {
        "prior.num_heads": "num_heads" in prior,
        "conditioner.kind": condition is not None,
        "conditioner.num_classes": conditioner.get("kind") != "class_label" or "num_classes" in conditioner,
    }
    unknown = [name for name, given in is_known.items() if not given]
    if condition is None or unknown:
        hint = "set it, for example " + " ".join(_EXAMPLES[name] for name in unknown)
        raise _cannot_infer(" and ".join(f"`{name}`" for name in unknown), where, hint)
    sizes = {
        "vocab_size": codes,
        "block_size": length,
        "n_layer": len({key.split(".")[2] for key in shapes if key.startswith("transformer.blocks.")}),
        "n_head": prior["num_heads"],
        "n_embd": width,
    }
    params = {"first_stage_config": first, "transformer_config": {"target": TRANSFORMER, "params": sizes}}
    order = state.get("permuter.forward_shuffle_idx")
    if order is not None:
        params["permuter_config"] = _permuter(order, where)
    return {"target": PRIOR, "params": params | condition}


def first_stage(shapes: Shapes, *, side: int = 0, where: str) -> dict[str, Any]:
    """The class and the arguments of a first stage; ``side`` is that of its grid, if it is known.

    Raises:
        CheckpointError: If something cannot be inferred; the message names it.
    """

    def count(name: str) -> int:
        return next(number for number in itertools.count() if name.format(number) not in shapes)

    base, channels, *_ = _shape(shapes, "encoder.conv_in.weight", 4, "the channels of the images", where)
    levels, first = range(max(1, count("encoder.down.{}.block.0.conv1.weight"))), "block.0.conv1.weight"
    widths = [_shape(shapes, f"encoder.down.{level}.{first}", 4, "the levels", where)[0] for level in levels]
    uneven = [width for width in widths if width % base]
    if uneven:
        raise _cannot_infer(
            f"the multipliers: a level is {uneven[0]} channels wide, not a multiple of {base}", where
        )
    quantizers = [name for name in ("embedding", "embed") if f"quantize.{name}.weight" in shapes]
    if len(quantizers) != 1:
        why = "both exist" if quantizers else "neither exists (an `AutoencoderKL` has no codes)"
        raise _cannot_infer(f"the quantizer: of `quantize.embedding` and `quantize.embed` {why}", where)
    codes, width = _shape(shapes, f"quantize.{quantizers[0]}.weight", 2, "the codes", where)
    resolution = (side or max(1, _RESOLUTION >> levels[-1])) << levels[-1]
    attended = [level for level in levels if f"encoder.down.{level}.attn.0.q.weight" in shapes]
    sizes = {
        "double_z": False,
        "ch": base,
        "ch_mult": [width // base for width in widths],
        "num_res_blocks": count("encoder.down.0.block.{}.conv1.weight"),
        "attn_resolutions": [resolution >> level for level in attended],
        "attn_type": "vanilla" if "encoder.mid.attn_1.q.weight" in shapes else "none",
        "in_channels": channels,
        "out_ch": _shape(shapes, "decoder.conv_out.weight", 4, "the channels of the images", where)[0],
        "resolution": resolution,
        "z_channels": _shape(shapes, "encoder.conv_out.weight", 4, "the width of the latents", where)[0],
    }
    target = f"taming.models.vqgan.{'VQModel' if quantizers == ['embedding'] else 'GumbelVQ'}"
    return {"target": target, "params": {"embed_dim": width, "n_embed": codes, "ddconfig": sizes}}


def is_llamagen(names: Iterable[str]) -> bool:
    """Whether the names of the tensors are those of a LlamaGen tokenizer, after any common prefix."""
    return any(name.endswith("encoder.conv_blocks.0.res.0.conv1.weight") for name in names)


def llamagen_config(state: Mapping[str, Tensor], *, where: str = "the checkpoint") -> TokenizerConfig:
    """The configuration of a LlamaGen tokenizer, from the shapes of its tensors.

    Codes are compared at length 1: all published tokenizers do so, and the tensors do not show it.

    Args:
        state: Its tensors by their published names.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If a tensor that shows a size is missing or has an impossible shape.
    """
    words = {".conv_blocks.": ".down.", ".res.": ".block.", ".mid.1.": ".mid.attn_1."}
    shapes = shapes_of(state)
    for theirs, original in words.items():
        shapes = {key.replace(theirs, original): shape for key, shape in shapes.items()}
    config = translated(first_stage(shapes, where=where), {}, where=where)
    assert isinstance(config, TokenizerConfig)
    codes, width = config.quantizer.codebook_size, config.quantizer.codebook_dim
    quantizer = VectorQuantizerConfig(codebook_size=codes, codebook_dim=width, normalize=True)
    return TokenizerConfig(autoencoder=config.autoencoder, quantizer=quantizer)


def _condition(
    state: Mapping[str, Tensor], first: dict[str, Any], known: dict[str, Any], side: int, where: str
) -> dict[str, Any] | None:
    """The condition of a second stage; None if it must be given, because tensors only show image conditions."""
    own, image = below("cond_stage_model.", state), below("first_stage_model.", state)
    if own:
        shapes = shapes_of(own)
        picture: Any = first_stage(shapes, side=side, where=f"the condition of {where}")
        key = {1: "depth", 3: "image"}.get(picture["params"]["ddconfig"]["in_channels"], "segmentation")
        if shapes == shapes_of(image) and all(torch.equal(own[name], image[name]) for name in own):
            picture = "__is_first_stage__"
        return {"cond_stage_key": key, "cond_stage_config": picture}
    params = first["params"]
    codes, factor = params["n_embed"], params["ddconfig"]["resolution"] // side
    target, arguments = {
        "class_label": ("taming.modules.util.Labelator", {"n_classes": known.get("num_classes")}),
        "coordinates": (
            "taming.modules.misc.coord.CoordStage",
            {"n_embed": known.get("num_values", codes), "down_factor": factor},
        ),
        "scene_layout": (SCENE, {"conditional_key": "objects_bbox"}),
        "unconditional": ("taming.modules.util.SOSProvider", {"sos_token": known.get("start_token", 0)}),
    }.get(str(known.get("kind")), ("", {}))
    return {"cond_stage_config": {"target": target, "params": arguments}} if target else None


def _permuter(stored: Tensor, where: str) -> dict[str, Any]:
    """The order of the tokens, by its permutation of a square grid."""
    side = isqrt(stored.numel())
    if stored.shape == (side * side,) and side <= _MAX_SIDE:
        for target, order in ORDERS.items():
            if torch.equal(token_positions(order, (side, side)), stored):
                return {"target": target, "params": {"H": side, "W": side}}
    what = f"`token_order`: `permuter.forward_shuffle_idx` is not an order of {side} x {side} tokens"
    raise _cannot_infer(what, where)


def _shape(shapes: Shapes, name: str, dimensions: int, what: str, where: str) -> tuple[int, ...]:
    """The shape of the tensor that shows ``what``. Raises CheckpointError unless it has this many dimensions."""
    found = shapes.get(name)
    if found is None or len(found) != dimensions or min(found) < 1:
        reason = "is missing" if found is None else f"has the shape {found}"
        raise _cannot_infer(f"{what}: `{name}` {reason}", where)
    return found


def _cannot_infer(what: str, where: str, hint: str = 'give it with `config="model.yaml"`') -> CheckpointError:
    return CheckpointError(
        f"{where} needs the configuration that it was published with; there is none beside it or in `configs/`, "
        f"and its tensors do not show {what}",
        hint=hint,
    )
