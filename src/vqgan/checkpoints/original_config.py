"""Translates configurations of the original (CompVis/taming-transformers) into ours.

Class names in a configuration are looked up in closed tables and never imported. A class that is not in
them is refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from math import isqrt
from typing import Any

import msgspec

from vqgan.checkpoints.format import ModelConfig
from vqgan.checkpoints.tensors import Shapes, below
from vqgan.conditioning import (
    ClassLabelConfig,
    ConditionerConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.config import from_mapping, value_at
from vqgan.errors import CheckpointError, ConfigError, closest, printable, require
from vqgan.prior import PriorConfig
from vqgan.prior.token_order import TokenOrder
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig
from vqgan.tokenizer.quantizers import (
    GumbelQuantizerConfig,
    QuantizerConfig,
    RemapConfig,
    VectorQuantizerConfig,
)

_CLASSES = ("VQModel", "VQNoDiscModel", "VQSegmentationModel", "GumbelVQ", "EMAVQ")
TOKENIZERS = (
    *(f"taming.models.vqgan.{name}" for name in _CLASSES),
    *(f"ldm.models.autoencoder.{name}" for name in ("VQModel", "VQModelInterface")),
)
PRIOR = "taming.models.cond_transformer.Net2NetTransformer"
TRANSFORMER = "taming.modules.transformer.mingpt.GPT"
SCENE = "taming.models.dummy_cond_stage.DummyCondStage"

ORDERS: dict[str, TokenOrder] = {
    "taming.modules.transformer.permuter.Identity": "raster",
    "taming.modules.transformer.permuter.Subsample": "subsample",
    "taming.modules.transformer.permuter.ZCurve": "z_curve",
    "taming.modules.transformer.permuter.SpiralOut": "spiral_out",
    "taming.modules.transformer.permuter.SpiralIn": "spiral_in",
    "taming.modules.transformer.permuter.Random": "random",
    "taming.modules.transformer.permuter.AlternateParsing": "alternate",
}
"""Classes of permuters, and our names of their orders."""


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
    """What the data section says about layouts; null means nothing."""

    no_tokens: int | None = None
    no_object_classes: int | None = None
    encode_crop: bool | None = None
    use_group_parameter: bool | None = None
    use_additional_parameters: bool | None = None
    use_things: bool | None = None
    use_stuff: bool | None = None
    category_allow_list_target: str | None = None

    def classes(self, target: Any) -> tuple[int, tuple[str, ...]]:
        """How many classes the data class ``target`` finds in its files, and their ids in its order; 0 if not known."""
        if self.no_object_classes or self.use_things is False or self.use_stuff is False:
            return self.no_object_classes or 0, ()
        if target == _COCO and not self.category_allow_list_target:
            return len(_COCO_IDS), _COCO_IDS
        return _ALLOWED.get(self.category_allow_list_target or "", 0), ()


_COCO = "taming.data.annotated_objects_coco.AnnotatedObjectsCoco"
_COCO_IDS = tuple(sorted(map(str, {*range(1, 183)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})))
"""Things and stuff without `other` (183), sorted as texts."""

_ALLOWED = {"taming.data.open_images_helper.top_300_classes_plus_coco_compatibility": 340}
"""Classes of Open Images that remain when similar ones are united."""


_REFERENCE = re.compile(r"\$\{(\.*)([^${}]*)\}")
_MAX_REFERENCES = 100
_PUBLISHED = "give the file that was published with the checkpoint (`model.yaml`, `...-project.yaml`)"


def interpolated(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with each `${a.b}` replaced by its value at `a.b`; other references are unchanged.

    Example:
        >>> interpolated({"a": {"b": 3, "c": "${.b}"}, "d": "${a}", "e": "${oc.env:HOME}"})
        {'a': {'b': 3, 'c': 3}, 'd': {'b': 3, 'c': 3}, 'e': '${oc.env:HOME}'}
    """
    left = iter(range(_MAX_REFERENCES))  # they may be circular, or multiply

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


def _unresolved(value: Any) -> str:
    """The end of a message that names the references in a value that lead nowhere; empty without."""
    names = sorted({f"`{found[0]}`" for found in _REFERENCE.finditer(str(value))})
    return f"; {', '.join(names[:3])} does not exist in the file" if names else ""


def is_original(mapping: Mapping[str, Any]) -> bool:
    """Whether a file is a configuration of the original: it has a `model` with a `target`."""
    return value_at(mapping, "model.target") is not None


def translated(mapping: Mapping[str, Any], shapes: Shapes, *, where: str) -> ModelConfig:
    """The configuration of the model that a configuration file of the original describes.

    Args:
        mapping: The whole file, or its part ``model``.
        shapes: Of the checkpoint's tensors: only they show the size of a remapped codebook.
        where: What the mapping is, for messages.

    Raises:
        CheckpointError: If it names an unknown class, lacks a key, or asks for something that no
            published model has.
    """
    try:
        node: Node = read_part(mapping.get("model", mapping), Node, "the model")
        if "AutoencoderKL" in node.target:
            raise without_codes(node.target, f"the model that {where} describes")
        if node.target == PRIOR:
            data = value_at(mapping, "data.params.train") or {}
            return _synthesizer(read_part(node.params, SecondStage, "the second stage"), data, shapes)
        return _tokenizer(node, shapes)
    except ConfigError as error:
        message = f"{where} describes a model that cannot be built: {error.message}"
        raise CheckpointError(message, hint=error.hint) from None


def first_stage_of(mapping: Mapping[str, Any]) -> Any:
    """The part of a configuration that describes the first stage inside another kind of model, or None."""
    is_known = value_at(mapping, "model.target") in (PRIOR, *TOKENIZERS)
    return None if is_known else value_at(mapping, "model.params.first_stage_config")


def read_part(value: Any, kind: Any, where: str, *, hint: str = _PUBLISHED) -> Any:
    """As :func:`vqgan.config.from_mapping`; the message names references that lead nowhere."""
    try:
        return from_mapping(value, kind, where=where)
    except ConfigError as error:
        raise ConfigError(f"{error.message}{_unresolved(value)}", hint=error.hint or hint) from None


def _known(word: str, known: Iterable[str]) -> str:
    """The word. Raises ConfigError if it is unknown."""
    known = tuple(known)
    require(word in known, f"unknown class `{printable(word[:100])}`", hint=closest(word[:100], known))
    return word


def without_codes(name: str, where: str) -> CheckpointError:
    """Why an autoencoder of the class ``name``, with continuous latents, is not a tokenizer."""
    return CheckpointError(
        f"{where} is an `{printable(name[:100])}`: its latents are continuous, it has no codes",
        hint="give a model with a codebook (`VQModel`); `vqgan models` lists published ones",
    )


def _tokenizer(node: Node, shapes: Shapes) -> TokenizerConfig:
    is_gumbel = _known(node.target, (*TOKENIZERS, PRIOR)).endswith(".GumbelVQ")
    stage: FirstStage = read_part(node.params, FirstStage, "the first stage")
    sizes = stage.ddconfig
    attends = sizes.attn_type != "none"
    for key, value, wanted in (
        ("double_z", sizes.double_z, False),
        ("resamp_with_conv", sizes.resamp_with_conv, True),
        ("tanh_out", sizes.tanh_out, False),
        ("attn_type", sizes.attn_type, "vanilla" if attends else "none"),
        ("out_ch", sizes.out_ch, sizes.in_channels),
    ):
        require(value == wanted, f"`{key}` is {value}, only {wanted} is supported")
    sides = {sizes.resolution // 2**level for level in range(len(sizes.ch_mult))}
    autoencoder = AutoencoderConfig(
        image_channels=sizes.in_channels,
        base_channels=sizes.ch,
        channel_multipliers=sizes.ch_mult,
        num_residual_blocks=sizes.num_res_blocks,
        latent_channels=sizes.z_channels,
        resolution=sizes.resolution,
        # The original ignores resolutions that no level has.
        attention_resolutions=tuple(side for side in sizes.attn_resolutions if attends and side in sides),
        dropout=sizes.dropout,
        middle_attention=attends,
    )
    used = shapes.get("quantize.used")
    require(used is None or len(used) == 1, f"`quantize.used` has the shape {used}, expected one dimension")
    remap = RemapConfig(num_used=used[0]) if used is not None else None
    quantizer: QuantizerConfig
    if is_gumbel:
        quantizer = GumbelQuantizerConfig(
            codebook_size=stage.n_embed, codebook_dim=stage.embed_dim, kl_weight=stage.kl_weight, remap=remap
        )
    else:
        quantizer = VectorQuantizerConfig(
            codebook_size=stage.n_embed, codebook_dim=stage.embed_dim, loss_convention="original", remap=remap
        )
    return TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)


def _synthesizer(stage: SecondStage, data: Any, shapes: Shapes) -> SynthesizerConfig:
    size = stage.downsample_cond_size
    require(
        size < 0, f"`downsample_cond_size` is {size}, only conditions of the image's own size are supported"
    )
    tokenizer = _tokenizer(stage.first_stage_config, below("first_stage_model.", shapes))
    _known(stage.transformer_config.target, [TRANSFORMER])
    sizes: Transformer = read_part(stage.transformer_config.params, Transformer, "the transformer")
    codes = tokenizer.quantizer.num_codes
    require(
        sizes.vocab_size == codes and not sizes.n_unmasked,
        f"`vocab_size` is {sizes.vocab_size} and `n_unmasked` {sizes.n_unmasked}, only purely causal priors over "
        f"the {codes} codes of their first stage are supported",
    )
    conditioner = _conditioner(stage, tokenizer, sizes, data, shapes)
    permuter = stage.permuter_config or Node(target="taming.modules.transformer.permuter.Identity")
    order = ORDERS[_known(permuter.target, ORDERS)]
    window = (_side(conditioner, sizes.block_size),) * 2
    if order != "raster":
        window = (_number(permuter, "H"), _number(permuter, "W"))
    return SynthesizerConfig(
        tokenizer=tokenizer,
        conditioner=conditioner,
        prior=PriorConfig(
            codebook_size=codes,
            condition_size=conditioner.vocabulary_size,
            context_length=sizes.block_size,
            depth=sizes.n_layer,
            width=sizes.n_embd,
            num_heads=sizes.n_head,
            dropout=sizes.resid_pdrop,
            vocabulary="shared",
        ),
        window=window,
        token_order=order,
    )


def _side(conditioner: ConditionerConfig, block_size: int) -> int:
    """Side of the largest square window that the context allows."""
    if isinstance(conditioner, CoordinatesConfig | TokenizedImageConfig):
        return isqrt(max(0, block_size + 1) // 2)
    return isqrt(max(0, block_size + 1 - conditioner.num_tokens((1, 1))))


def _conditioner(
    stage: SecondStage,
    tokenizer: TokenizerConfig,
    sizes: Transformer,
    data: Any,
    shapes: Shapes,
) -> ConditionerConfig:
    given, codes = stage.cond_stage_config, tokenizer.quantizer.num_codes
    if given == "__is_first_stage__":
        return TokenizedImageConfig(image=stage.cond_stage_key, tokenizer=None, codebook_size=codes)
    if stage.unconditional or given == "__is_unconditional__":
        return UnconditionalConfig(start_token=stage.sos_token)
    if isinstance(given, str):
        given = Node(target=_known(given, ("__is_unconditional__", "__is_first_stage__")))
    match given.target:
        case "taming.modules.util.SOSProvider":
            return UnconditionalConfig(start_token=_number(given, "sos_token"))
        case "taming.modules.util.Labelator":
            return ClassLabelConfig(num_classes=_number(given, "n_classes"))
        case "taming.modules.misc.coord.CoordStage":
            return CoordinatesConfig(
                num_values=_number(given, "n_embed"),
                downsample_factor=_number(given, "down_factor"),
            )
        case _ if given.target == SCENE:
            assert tokenizer.autoencoder is not None
            full = tokenizer.autoencoder.resolution // tokenizer.downsample_factor
            key = given.params.get("conditional_key", stage.cond_stage_key)
            return _scene(str(key), sizes, data, full)
        case _:
            own = _tokenizer(given, below("cond_stage_model.", shapes))
            return TokenizedImageConfig(
                image=stage.cond_stage_key, tokenizer=own, codebook_size=own.quantizer.num_codes
            )


def _number(node: Node, key: str) -> int:
    value = node.params.get(key)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    require(is_whole, f"`{key}` of `{node.target}` is {value}, expected a whole number")
    return int(value or 0)


def _scene(key: str, sizes: Transformer, section: Any, full: int) -> SceneLayoutConfig:
    """Layouts of objects: their maximum number follows from the context length, the rest from the data section."""
    data: SceneData = read_part(value_at(section, "params") or {}, SceneData, "the training data")
    classes, ids = data.classes(value_at(section, "target"))
    boxes = _known(key, ("objects_bbox", "objects_center_points")) == "objects_bbox"
    length = sizes.block_size - full * full
    vocabulary = data.no_tokens or sizes.vocab_size
    each = 3 if boxes else 2
    crop = length % each == 2 if boxes else data.encode_crop is not False
    return SceneLayoutConfig(
        # Without the data section any token may be a class, and the flags are unknown.
        num_classes=classes or vocabulary - 1,
        max_objects=(length - 2 * crop) // each,
        vocabulary_size=vocabulary,
        # Boxes have three tokens each and a crop two, so the length shows a crop. Centres have two tokens each.
        encode_crop=crop,
        use_group=bool(data.use_group_parameter),
        use_additional=bool(data.use_additional_parameters),
        boxes=boxes,
        class_ids=ids,
    )
