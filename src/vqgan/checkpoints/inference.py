"""Configurations of checkpoints that come without one, from their tensors, in the words of the original's files."""

import itertools
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from vqgan.checkpoints.taming import ORDERS, PRIOR, SCENE, TRANSFORMER, below
from vqgan.checkpoints.tensors import Shapes
from vqgan.errors import CheckpointError
from vqgan.prior.token_order import token_positions

_RESOLUTION = 256
"""Side of the images of nearly all published models: no tensor tells it, and no image depends on it."""

_LARGEST_SIDE = 1024
"""Of a window: a larger permutation is not compared."""

_EXAMPLES = {
    "prior.num_heads": "16`",
    "conditioner.kind": "unconditional` (or `class_label`, `coordinates`, `scene_layout`)",
    "conditioner.num_classes": "1000`",
}


def inferred(state: Mapping[str, Tensor], known: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The configuration of a checkpoint of the original, as its YAML file would have it.

    Args:
        state: Its tensors by their original names.
        known: What is known beside them, in our words: ``{"prior": {"num_heads": 16}}``.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If something cannot be told; it is named.
    """
    shapes = _shapes(state)
    if "transformer.tok_emb.weight" not in shapes:
        return first_stage(shapes, where=where)
    codes, width = shape_of("transformer.tok_emb.weight", 2, "the codes", shapes, where)
    length = shape_of("transformer.pos_emb", 3, "the length of the context", shapes, where)[1]
    # Published windows have a power of two on a side: pictures in front double the length, others add less.
    side = 1 << (isqrt(length).bit_length() - 1)
    first = first_stage(shapes, "first_stage_model.", side=side, where=where)
    condition, untold = _condition(state, first, known, where)
    heads = _given(known, "prior", "num_heads")
    untold = [*([] if heads else ["prior.num_heads"]), *untold]
    if untold:
        raise _untold(
            " and ".join(f"`{name}`" for name in untold),
            where,
            "say it, for example " + " ".join(f"`--set {name}={_EXAMPLES[name]}" for name in untold),
        )
    sizes = {
        "vocab_size": codes,
        "block_size": length,
        "n_layer": len({key.split(".")[2] for key in shapes if key.startswith("transformer.blocks.")}),
        "n_head": heads,
        "n_embd": width,
    }
    params = {"first_stage_config": first, "transformer_config": {"target": TRANSFORMER, "params": sizes}}
    order = state.get("permuter.forward_shuffle_idx")
    if order is not None:
        params["permuter_config"] = _permuter(order, where)
    return {"target": PRIOR, "params": params | condition}


def first_stage(shapes: Shapes, prefix: str = "", *, side: int = 0, where: str) -> dict[str, Any]:
    """The class and the arguments of the first stage below ``prefix``.

    Args:
        shapes: Of all tensors.
        prefix: What stands before the names of this one's.
        side: Of the token grid, if it is known.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If something cannot be told; it is named.
    """
    own = below(prefix, shapes)

    def count(name: str) -> int:
        return next(number for number in itertools.count() if name.format(number) not in own)

    def shape(name: str, dimensions: int, what: str) -> tuple[int, ...]:
        return shape_of(f"{prefix}{name}", dimensions, what, shapes, where)

    base, channels, *_ = shape("encoder.conv_in.weight", 4, "the channels of the images")
    levels = range(max(1, count("encoder.down.{}.block.0.conv1.weight")))
    widths = [shape(f"encoder.down.{level}.block.0.conv1.weight", 4, "the levels")[0] for level in levels]
    uneven = [width for width in widths if width % base]
    if uneven:
        raise _untold(f"the multipliers: a level is {uneven[0]} channels wide, no multiple of {base}", where)
    quantizers = [name for name in ("embedding", "embed") if f"quantize.{name}.weight" in own]
    if len(quantizers) != 1:
        why = "both are there" if quantizers else "neither is there (an `AutoencoderKL` has no codes)"
        raise _untold(f"the quantizer: of `quantize.embedding` and `quantize.embed` {why}", where)
    codes, width = shape(f"quantize.{quantizers[0]}.weight", 2, "the codes")
    resolution = (side or max(1, _RESOLUTION >> levels[-1])) << levels[-1]
    attended = [level for level in levels if f"encoder.down.{level}.attn.0.q.weight" in own]
    sizes = {
        "double_z": False,
        "ch": base,
        "ch_mult": [width // base for width in widths],
        "num_res_blocks": count("encoder.down.0.block.{}.conv1.weight"),
        "attn_resolutions": [resolution >> level for level in attended],
        "attn_type": "vanilla" if "encoder.mid.attn_1.q.weight" in own else "none",
        "in_channels": channels,
        "out_ch": shape("decoder.conv_out.weight", 4, "the channels of the images")[0],
        "resolution": resolution,
        "z_channels": shape("encoder.conv_out.weight", 4, "the width of the latents")[0],
    }
    target = f"taming.models.vqgan.{'VQModel' if quantizers == ['embedding'] else 'GumbelVQ'}"
    return {"target": target, "params": {"embed_dim": width, "n_embed": codes, "ddconfig": sizes}}


def shape_of(name: str, dimensions: int, what: str, shapes: Shapes, where: str) -> tuple[int, ...]:
    """The shape of a tensor that tells ``what``. Raises CheckpointError unless it has so many dimensions."""
    found = shapes.get(name)
    if found is None or len(found) != dimensions or min(found) < 1:
        raise _untold(
            f"{what}: `{name}` {'is not there' if found is None else f'has the shape {found}'}", where
        )
    return found


def _condition(
    state: Mapping[str, Tensor], first: dict[str, Any], known: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """What steers a second stage, and what must be said of it: the tensors tell of pictures alone."""
    own, sizes = below("cond_stage_model.", state), first["params"]["ddconfig"]
    if own:
        side = sizes["resolution"] >> (len(sizes["ch_mult"]) - 1)
        picture = first_stage(_shapes(state), "cond_stage_model.", side=side, where=where)
        image = below("first_stage_model.", state)
        is_shared = _shapes(own) == _shapes(image) and all(torch.equal(own[key], image[key]) for key in own)
        channels = picture["params"]["ddconfig"]["in_channels"]
        key = {1: "depth", 3: "image"}.get(channels, "segmentation")
        return {
            "cond_stage_key": key,
            "cond_stage_config": "__is_first_stage__" if is_shared else picture,
        }, []
    codes = _given(known, "conditioner", "num_values") or first["params"]["n_embed"]
    factor = 1 << (len(sizes["ch_mult"]) - 1)
    match _given(known, "conditioner", "kind"):
        case "unconditional":
            return {"sos_token": _given(known, "conditioner", "start_token") or 0}, []
        case "class_label":
            classes = _given(known, "conditioner", "num_classes")
            return _node("util.Labelator", n_classes=classes), [] if classes else ["conditioner.num_classes"]
        case "coordinates":
            return _node("misc.coord.CoordStage", n_embed=codes, down_factor=factor), []
        case "scene_layout":
            return {"cond_stage_config": {"target": SCENE, "params": {"conditional_key": "objects_bbox"}}}, []
        case _:
            return {}, ["conditioner.kind"]


def _node(name: str, **params: Any) -> dict[str, Any]:
    return {"cond_stage_config": {"target": f"taming.modules.{name}", "params": params}}


def _permuter(stored: Tensor, where: str) -> dict[str, Any]:
    """The order of the tokens, by its permutation of a square grid."""
    side = isqrt(stored.numel())
    if stored.shape == (side * side,) and side <= _LARGEST_SIDE:
        for target, order in ORDERS.items():
            if torch.equal(token_positions(order, (side, side)), stored):
                return {"target": target, "params": {"H": side, "W": side}}
    raise _untold(
        f"`token_order`: `permuter.forward_shuffle_idx` is no order of {side} x {side} tokens", where
    )


def _given(known: Mapping[str, Any], part: str, name: str) -> Any:
    values = known.get(part)
    return values.get(name) if isinstance(values, Mapping) else None


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _untold(what: str, where: str, hint: str = "give it with `--config model.yaml`") -> CheckpointError:
    return CheckpointError(
        f"{where} needs the configuration that it was published with; there is none beside it or in `configs/`, "
        f"and its tensors do not tell {what}",
        hint=hint,
    )
