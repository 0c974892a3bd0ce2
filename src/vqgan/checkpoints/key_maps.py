"""The names of weights in published checkpoints, as regular expressions that turn our names into theirs, in order.

The opposite direction is a look-up among the names of the model that the file must fit.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vqgan.errors import CheckpointError

_NOT_NEEDED = re.compile(
    r"colorize|quantize\.codebook_used|.*\.(cluster_size|embed_avg|attn\.mask)|classifier\..*"
)
"""Pictures of labels, running records of codes, causal masks, and the classifier of VGG16."""


@dataclass(frozen=True)
class KeyMap:
    """The names of one family of models.

    Attributes:
        rules: Regular expressions and what replaces them, from our names to theirs, applied one after the other.
        aliases: Rules from other published names to those that ``rules`` yields.
        from_the_end: Whether they number the levels of the decoder in the order in which they run.
    """

    rules: dict[str, str]
    aliases: dict[str, str] = field(default_factory=dict)
    from_the_end: bool = False

    def published(self, names: Iterable[str]) -> dict[str, str]:
        """Their name of each tensor of a model by ours.

        Example:
            >>> DIFFUSERS.published(["decoder.levels.0.blocks.1.shortcut.bias", "decoder.levels.1.resample.conv.bias"])
            {'decoder.levels.0.blocks.1.shortcut.bias': 'decoder.up_blocks.1.resnets.1.conv_shortcut.bias', \
'decoder.levels.1.resample.conv.bias': 'decoder.up_blocks.0.upsamplers.0.conv.bias'}
        """
        ours = list(names)
        level = re.compile(r"^decoder\.levels\.(\d+)")
        last = max((int(found[1]) for name in ours if (found := level.match(name))), default=0)
        result = {}
        for name in ours:
            theirs = name
            if self.from_the_end:
                theirs = level.sub(lambda found: f"decoder.levels.{last - int(found[1])}", name)
            result[name] = _replaced(theirs, self.rules)
        return result

    def rename(
        self, state: Mapping[str, Tensor], names: Iterable[str], *, where: str = "the checkpoint"
    ) -> dict[str, Tensor]:
        """The tensors of ``state`` under our names, in the same order; what no model needs is dropped.

        Args:
            state: Tensors by their published names, without the prefix of the part they belong to.
            names: The tensors of our model. A tensor that ``state`` lacks is not an error here.
            where: What the tensors come from, for messages.

        Raises:
            CheckpointError: If a name belongs to no tensor of the model, or two belong to one.
        """
        ours = {theirs: name for name, theirs in self.published(names).items()}
        owners: dict[str, str] = {}
        unknown = []
        for key in state:
            name = ours.get(_replaced(key, self.aliases))
            if name is None:
                unknown += [] if _NOT_NEEDED.fullmatch(key) else [key]
            elif owners.setdefault(name, key) != key:
                raise CheckpointError(
                    f"`{owners[name]}` and `{key}` are two names of one tensor",
                    hint="the file was merged from two models",
                )
        if unknown:
            shown = ", ".join(f"`{key}`" for key in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            raise CheckpointError(
                f"{len(unknown)} of {len(state)} keys of {where} are unknown for this kind of model: {shown}",
                hint="check that the configuration beside the checkpoint belongs to it",
            )
        return {name: state[key] for name, key in owners.items()}


def _replaced(name: str, rules: Mapping[str, str]) -> str:
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


_ENDS = {
    r"^to_codebook": "quant_conv",
    r"^from_codebook": "post_quant_conv",
    r"^quantizer\.codebook": "quantize.embedding",
    r"^quantizer\.projection": "quantize.proj",
    r"^quantizer\.used": "quantize.used",
    r"input_conv": "conv_in",
    r"output_conv": "conv_out",
}
"""The first and the last layer, and the layers around the codebook."""

TOKENIZER = KeyMap(
    _ENDS
    | {
        r"output_norm": "norm_out",
        r"middle\.0": "mid.block_1",
        r"middle\.1": "mid.attn_1",
        r"middle\.2": "mid.block_2",
        r"^encoder\.levels\.(\d+)\.resample": r"encoder.down.\1.downsample",
        r"^encoder\.levels": "encoder.down",
        r"^decoder\.levels\.(\d+)\.resample": r"decoder.up.\1.upsample",
        r"^decoder\.levels": "decoder.up",
        r"\.blocks\.": ".block.",
        r"shortcut": "nin_shortcut",
        r"attentions\.": "attn.",
        r"\.(q|k|v)(uery|ey|alue)\.": r".\1.",
        r"\.projection\.": ".proj_out.",
    },
    aliases={r"^quantize\.embed\.": "quantize.embedding."},
)
"""A first stage of the original with the nearest-neighbour or the Gumbel quantizer."""

LLAMAGEN = KeyMap(
    TOKENIZER.rules
    | {
        r"\.block\.": ".res.",
        r"\.(down|up)\.": ".conv_blocks.",
        r"mid\.block_1": "mid.0",
        r"mid\.attn_1": "mid.1",
        r"mid\.block_2": "mid.2",
    },
    from_the_end=True,
)
"""A tokenizer of LlamaGen."""

_FIRST_LETTERS = {r"\.(q|k|v)(uery|ey|alue)\.": r".to_\1."}

DIFFUSERS = KeyMap(
    _ENDS
    | {
        r"output_norm": "conv_norm_out",
        r"middle\.0": "mid_block.resnets.0",
        r"middle\.1": "mid_block.attentions.0",
        r"middle\.2": "mid_block.resnets.1",
        r"^encoder\.levels\.(\d+)\.resample": r"encoder.down_blocks.\1.downsamplers.0",
        r"^encoder\.levels": "encoder.down_blocks",
        r"^decoder\.levels\.(\d+)\.resample": r"decoder.up_blocks.\1.upsamplers.0",
        r"^decoder\.levels": "decoder.up_blocks",
        r"\.blocks\.": ".resnets.",
        r"shortcut": "conv_shortcut",
        r"(attentions\.\d+)\.norm\.": r"\1.group_norm.",
        r"\.projection\.": ".to_out.0.",
    }
    | _FIRST_LETTERS,
    aliases=_FIRST_LETTERS | {r"\.proj_attn\.": ".to_out.0."},
    from_the_end=True,
)
"""A ``VQModel`` of diffusers, whose attention has linear layers where ours has 1x1 convolutions; the aliases are
the names of its first versions, which early published models still have."""

PRIOR = KeyMap(
    {
        r"^token_embedding": "tok_emb",
        r"^transformer\.positions": "pos_emb",
        r"^transformer\.norm": "ln_f",
        r"^transformer\.": "",
        r"attention_norm": "ln1",
        r"feed_forward_norm": "ln2",
        r"attention\.output": "attn.proj",
        r"attention": "attn",
        r"feed_forward": "mlp",
    }
)
"""A second stage's transformer, without its prefix ``transformer.``."""

DISCRIMINATOR = KeyMap({r"^layers": "main"})
"""The patch discriminator."""

_VGG16_LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def _vgg16(theirs: str) -> dict[str, str]:
    """The rules of VGG16's convolutions, in the order of its layers; ``{}`` stands for the number of the stage."""
    return {
        rf"^stages\.{stage}\.{place}\.": f"{theirs.format(stage + 1)}.{layer}."
        for stage, layers in enumerate(_VGG16_LAYERS)
        for place, layer in enumerate(layers)
    }


PERCEPTUAL = KeyMap(
    _vgg16("net.slice{}") | {r"^heads\.(\d)": r"lin\1.model.1", r"^(shift|scale)$": r"scaling_layer.\1"}
)
"""LPIPS on VGG16."""

VGG16 = KeyMap(_vgg16("features"))
"""The published weights of VGG16, without its classifier."""

EFFICIENTNET_LITE = KeyMap(
    {
        r"^(stem|head)\.0": r"_conv_\1",
        r"^stem\.1": "_bn0",
        r"^head\.1": "_bn1",
        r"^classifier": "_fc",
        r"^blocks\.(\d+)\.(expand|depthwise|project)\.0": r"_blocks.\1._\2_conv",
        r"^blocks\.(\d+)\.expand\.1": r"_blocks.\1._bn0",
        r"^blocks\.(\d+)\.depthwise\.1": r"_blocks.\1._bn1",
        r"^blocks\.(\d+)\.project\.1": r"_blocks.\1._bn2",
    }
)
"""EfficientNet-Lite0 in PyTorch."""

_INCEPTION_BRANCHES = {
    "5b 5c 5d": "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool",
    "6a": "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3",
    "6b 6c 6d 6e": "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool",
    "7a": "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4",
    "7b 7c": "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool",
}

INCEPTION = (
    *(f"Conv2d_{layer}" for layer in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")),
    *(
        f"Mixed_{block}.branch{branch}"
        for blocks, branches in _INCEPTION_BRANCHES.items()
        for block in blocks.split()
        for branch in branches.split()
    ),
)
"""The convolutions of Inception-v3 in PyTorch, in the order in which ours run."""
