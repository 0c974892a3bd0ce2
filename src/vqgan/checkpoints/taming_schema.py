"""The keys of the original's configurations, with its defaults; keys that say nothing of the model are not read."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec


class Node(msgspec.Struct):
    """A class and its arguments, as the original's configurations name them."""

    target: str
    params: dict[str, Any] = {}


class Sizes(msgspec.Struct):
    """Of encoder and decoder (`ddconfig`)."""

    ch: int
    out_ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]
    in_channels: int
    resolution: int
    z_channels: int
    dropout: float = 0.0
    resamp_with_conv: bool = True
    double_z: bool = True
    attn_type: str = "vanilla"
    tanh_out: bool = False


class FirstStage(msgspec.Struct):
    """Arguments of a first stage."""

    ddconfig: Sizes
    n_embed: int
    embed_dim: int
    kl_weight: float = 1e-8
    remap: str | None = None


class Transformer(msgspec.Struct):
    """Arguments of the transformer."""

    vocab_size: int
    block_size: int
    n_layer: int = 12
    n_head: int = 8
    n_embd: int = 256
    resid_pdrop: float = 0.0
    n_unmasked: int = 0


class SecondStage(msgspec.Struct):
    """Arguments of a second stage."""

    transformer_config: Node
    first_stage_config: Node
    cond_stage_config: Node | str = "__is_unconditional__"
    permuter_config: Node | None = None
    cond_stage_key: str = "depth"
    sos_token: int = 0
    unconditional: bool = False
    downsample_cond_size: int = -1


class SceneData(msgspec.Struct):
    """What the data's part says of layouts; null means that it does not."""

    no_tokens: int | None = None
    no_object_classes: int | None = None
    encode_crop: bool | None = None
    use_group_parameter: bool | None = None
    use_additional_parameters: bool | None = None


_REFERENCE = re.compile(r"\$\{(\.*)([^${}]*)\}")
_MAX_REFERENCES = 100


def interpolated(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with what stands at `a.b` of it for each `${a.b}`; what it does not hold stays as it is.

    Example:
        >>> interpolated({"a": {"b": 3, "c": "${.b}"}, "d": "${a}", "e": "${oc.env:HOME}"})
        {'a': {'b': 3, 'c': 3}, 'd': {'b': 3, 'c': 3}, 'e': '${oc.env:HOME}'}
    """
    left = iter(range(_MAX_REFERENCES))  # they may go in circles, or multiply

    def resolve(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            return {key: resolve(each, (*path, str(key))) for key, each in value.items()}
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if found is None or next(left, None) is None:
            return value
        dots, name = found.groups()  # each dot in front is a level up
        place, target = (*path[: len(path) - len(dots) if dots else 0], *name.split(".")), mapping
        for part in place:
            target = target.get(part, {}) if isinstance(target, Mapping) else {}
        return value if target == {} else resolve(target, place)

    result: dict[str, Any] = resolve(mapping, ())
    return result


def unresolved(value: Any) -> str:
    """The end of a message that names the references in a value that lead nowhere; empty without."""
    names = sorted({f"`{found[0]}`" for found in _REFERENCE.finditer(str(value))})
    return f"; {', '.join(names[:3])} stands nowhere in the file" if names else ""
