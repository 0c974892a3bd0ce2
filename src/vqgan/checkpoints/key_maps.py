"""The names of weights in published checkpoints, and ours: tables, and one function that applies them.

A row maps a module (its ``weight``, ``bias`` and running statistics keep their last word) or a single tensor.
``{}`` stands for a number that is kept, ``{-}`` for the row's first number counted from the other end (of the
decoder's levels, which other families number in the order in which they run); an empty name drops a tensor that is
not needed.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from vqgan.errors import CheckpointError

TOKENIZER_KEYS = {
    "colorize": "",
    "encoder.conv_in": "encoder.input_conv",
    "encoder.down.{}.block.{}.norm1": "encoder.levels.{}.blocks.{}.norm1",
    "encoder.down.{}.block.{}.conv1": "encoder.levels.{}.blocks.{}.conv1",
    "encoder.down.{}.block.{}.norm2": "encoder.levels.{}.blocks.{}.norm2",
    "encoder.down.{}.block.{}.conv2": "encoder.levels.{}.blocks.{}.conv2",
    "encoder.down.{}.block.{}.nin_shortcut": "encoder.levels.{}.blocks.{}.shortcut",
    "encoder.down.{}.attn.{}.norm": "encoder.levels.{}.attentions.{}.norm",
    "encoder.down.{}.attn.{}.q": "encoder.levels.{}.attentions.{}.query",
    "encoder.down.{}.attn.{}.k": "encoder.levels.{}.attentions.{}.key",
    "encoder.down.{}.attn.{}.v": "encoder.levels.{}.attentions.{}.value",
    "encoder.down.{}.attn.{}.proj_out": "encoder.levels.{}.attentions.{}.projection",
    "encoder.down.{}.downsample.conv": "encoder.levels.{}.resample.conv",
    "encoder.mid.block_1.norm1": "encoder.middle.0.norm1",
    "encoder.mid.block_1.conv1": "encoder.middle.0.conv1",
    "encoder.mid.block_1.norm2": "encoder.middle.0.norm2",
    "encoder.mid.block_1.conv2": "encoder.middle.0.conv2",
    "encoder.mid.attn_1.norm": "encoder.middle.1.norm",
    "encoder.mid.attn_1.q": "encoder.middle.1.query",
    "encoder.mid.attn_1.k": "encoder.middle.1.key",
    "encoder.mid.attn_1.v": "encoder.middle.1.value",
    "encoder.mid.attn_1.proj_out": "encoder.middle.1.projection",
    "encoder.mid.block_2.norm1": "encoder.middle.2.norm1",
    "encoder.mid.block_2.conv1": "encoder.middle.2.conv1",
    "encoder.mid.block_2.norm2": "encoder.middle.2.norm2",
    "encoder.mid.block_2.conv2": "encoder.middle.2.conv2",
    "encoder.norm_out": "encoder.output_norm",
    "encoder.conv_out": "encoder.output_conv",
    "quant_conv": "to_codebook",
    "quantize.embedding": "quantizer.codebook",
    "quantize.embedding.cluster_size": "",
    "quantize.embedding.embed_avg": "",
    "quantize.embed": "quantizer.codebook",
    "quantize.proj": "quantizer.projection",
    "quantize.used": "quantizer.used",
    "post_quant_conv": "from_codebook",
    "decoder.conv_in": "decoder.input_conv",
    "decoder.mid.block_1.norm1": "decoder.middle.0.norm1",
    "decoder.mid.block_1.conv1": "decoder.middle.0.conv1",
    "decoder.mid.block_1.norm2": "decoder.middle.0.norm2",
    "decoder.mid.block_1.conv2": "decoder.middle.0.conv2",
    "decoder.mid.attn_1.norm": "decoder.middle.1.norm",
    "decoder.mid.attn_1.q": "decoder.middle.1.query",
    "decoder.mid.attn_1.k": "decoder.middle.1.key",
    "decoder.mid.attn_1.v": "decoder.middle.1.value",
    "decoder.mid.attn_1.proj_out": "decoder.middle.1.projection",
    "decoder.mid.block_2.norm1": "decoder.middle.2.norm1",
    "decoder.mid.block_2.conv1": "decoder.middle.2.conv1",
    "decoder.mid.block_2.norm2": "decoder.middle.2.norm2",
    "decoder.mid.block_2.conv2": "decoder.middle.2.conv2",
    "decoder.up.{}.block.{}.norm1": "decoder.levels.{}.blocks.{}.norm1",
    "decoder.up.{}.block.{}.conv1": "decoder.levels.{}.blocks.{}.conv1",
    "decoder.up.{}.block.{}.norm2": "decoder.levels.{}.blocks.{}.norm2",
    "decoder.up.{}.block.{}.conv2": "decoder.levels.{}.blocks.{}.conv2",
    "decoder.up.{}.block.{}.nin_shortcut": "decoder.levels.{}.blocks.{}.shortcut",
    "decoder.up.{}.attn.{}.norm": "decoder.levels.{}.attentions.{}.norm",
    "decoder.up.{}.attn.{}.q": "decoder.levels.{}.attentions.{}.query",
    "decoder.up.{}.attn.{}.k": "decoder.levels.{}.attentions.{}.key",
    "decoder.up.{}.attn.{}.v": "decoder.levels.{}.attentions.{}.value",
    "decoder.up.{}.attn.{}.proj_out": "decoder.levels.{}.attentions.{}.projection",
    "decoder.up.{}.upsample.conv": "decoder.levels.{}.resample.conv",
    "decoder.norm_out": "decoder.output_norm",
    "decoder.conv_out": "decoder.output_conv",
}
"""A first stage with the nearest-neighbour or the Gumbel quantizer."""

PRIOR_KEYS = {
    "tok_emb": "token_embedding",
    "pos_emb": "transformer.positions",
    "blocks.{}.ln1": "transformer.blocks.{}.attention_norm",
    "blocks.{}.attn.query": "transformer.blocks.{}.attention.query",
    "blocks.{}.attn.key": "transformer.blocks.{}.attention.key",
    "blocks.{}.attn.value": "transformer.blocks.{}.attention.value",
    "blocks.{}.attn.proj": "transformer.blocks.{}.attention.output",
    "blocks.{}.attn.mask": "",
    "blocks.{}.ln2": "transformer.blocks.{}.feed_forward_norm",
    "blocks.{}.mlp.{}": "transformer.blocks.{}.feed_forward.{}",
    "ln_f": "transformer.norm",
    "head": "head",
}
"""A second stage's transformer, without its prefix ``transformer.``; the causal masks are dropped."""

DISCRIMINATOR_KEYS = {"main.{}": "layers.{}"}
"""The patch discriminator."""

PERCEPTUAL_KEYS = {
    "scaling_layer.shift": "shift",
    "scaling_layer.scale": "scale",
    "net.slice1.0": "stages.0.0",
    "net.slice1.2": "stages.0.1",
    "net.slice2.5": "stages.1.0",
    "net.slice2.7": "stages.1.1",
    "net.slice3.10": "stages.2.0",
    "net.slice3.12": "stages.2.1",
    "net.slice3.14": "stages.2.2",
    "net.slice4.17": "stages.3.0",
    "net.slice4.19": "stages.3.1",
    "net.slice4.21": "stages.3.2",
    "net.slice5.24": "stages.4.0",
    "net.slice5.26": "stages.4.1",
    "net.slice5.28": "stages.4.2",
    "lin0.model.1": "heads.0",
    "lin1.model.1": "heads.1",
    "lin2.model.1": "heads.2",
    "lin3.model.1": "heads.3",
    "lin4.model.1": "heads.4",
}
"""LPIPS on VGG16."""

VGG16_KEYS = {
    "features.0": "stages.0.0",
    "features.2": "stages.0.1",
    "features.5": "stages.1.0",
    "features.7": "stages.1.1",
    "features.10": "stages.2.0",
    "features.12": "stages.2.1",
    "features.14": "stages.2.2",
    "features.17": "stages.3.0",
    "features.19": "stages.3.1",
    "features.21": "stages.3.2",
    "features.24": "stages.4.0",
    "features.26": "stages.4.1",
    "features.28": "stages.4.2",
}
"""The published weights of VGG16, without its classifier."""


def _both_halves(rows: Mapping[str, str]) -> dict[str, str]:
    """Rows of the encoder and, with "up" for "down" and levels from the other end, of the decoder."""
    both = {f"encoder.{theirs}": f"encoder.{ours}" for theirs, ours in rows.items()}
    for theirs, ours in rows.items():
        both[f"decoder.{theirs.replace('down', 'up')}"] = "decoder." + ours.replace("levels.{}", "levels.{-}")
    return both


_AROUND_THE_CODEBOOK = {
    "quant_conv": "to_codebook",
    "quantize.embedding": "quantizer.codebook",
    "post_quant_conv": "from_codebook",
}

DIFFUSERS_KEYS = _AROUND_THE_CODEBOOK | _both_halves(
    {
        "conv_in": "input_conv",
        "down_blocks.{}.resnets.{}.norm1": "levels.{}.blocks.{}.norm1",
        "down_blocks.{}.resnets.{}.conv1": "levels.{}.blocks.{}.conv1",
        "down_blocks.{}.resnets.{}.norm2": "levels.{}.blocks.{}.norm2",
        "down_blocks.{}.resnets.{}.conv2": "levels.{}.blocks.{}.conv2",
        "down_blocks.{}.resnets.{}.conv_shortcut": "levels.{}.blocks.{}.shortcut",
        "down_blocks.{}.attentions.{}.group_norm": "levels.{}.attentions.{}.norm",
        "down_blocks.{}.attentions.{}.to_q": "levels.{}.attentions.{}.query",
        "down_blocks.{}.attentions.{}.to_k": "levels.{}.attentions.{}.key",
        "down_blocks.{}.attentions.{}.to_v": "levels.{}.attentions.{}.value",
        "down_blocks.{}.attentions.{}.to_out.0": "levels.{}.attentions.{}.projection",
        "down_blocks.{}.downsamplers.0.conv": "levels.{}.resample.conv",
        "mid_block.resnets.0.norm1": "middle.0.norm1",
        "mid_block.resnets.0.conv1": "middle.0.conv1",
        "mid_block.resnets.0.norm2": "middle.0.norm2",
        "mid_block.resnets.0.conv2": "middle.0.conv2",
        "mid_block.attentions.0.group_norm": "middle.1.norm",
        "mid_block.attentions.0.to_q": "middle.1.query",
        "mid_block.attentions.0.to_k": "middle.1.key",
        "mid_block.attentions.0.to_v": "middle.1.value",
        "mid_block.attentions.0.to_out.0": "middle.1.projection",
        "mid_block.resnets.1.norm1": "middle.2.norm1",
        "mid_block.resnets.1.conv1": "middle.2.conv1",
        "mid_block.resnets.1.norm2": "middle.2.norm2",
        "mid_block.resnets.1.conv2": "middle.2.conv2",
        "conv_norm_out": "output_norm",
        "conv_out": "output_conv",
    }
)
"""A ``VQModel`` of diffusers; its attention has linear layers where ours has 1x1 convolutions."""

_OLD_WORDS = {".to_q": ".query", ".to_k": ".key", ".to_v": ".value", ".to_out.0": ".proj_attn"}

OLD_DIFFUSERS_KEYS = {
    theirs.removesuffix(word) + old: ours
    for theirs, ours in DIFFUSERS_KEYS.items()
    for word, old in _OLD_WORDS.items()
    if theirs.endswith(word)
}
"""Attention as diffusers named it at first; early published models still do."""

LLAMAGEN_KEYS = (
    _AROUND_THE_CODEBOOK
    | {"quantize.codebook_used": ""}
    | _both_halves(
        {
            "conv_in": "input_conv",
            "conv_blocks.{}.res.{}.norm1": "levels.{}.blocks.{}.norm1",
            "conv_blocks.{}.res.{}.conv1": "levels.{}.blocks.{}.conv1",
            "conv_blocks.{}.res.{}.norm2": "levels.{}.blocks.{}.norm2",
            "conv_blocks.{}.res.{}.conv2": "levels.{}.blocks.{}.conv2",
            "conv_blocks.{}.res.{}.nin_shortcut": "levels.{}.blocks.{}.shortcut",
            "conv_blocks.{}.attn.{}.norm": "levels.{}.attentions.{}.norm",
            "conv_blocks.{}.attn.{}.q": "levels.{}.attentions.{}.query",
            "conv_blocks.{}.attn.{}.k": "levels.{}.attentions.{}.key",
            "conv_blocks.{}.attn.{}.v": "levels.{}.attentions.{}.value",
            "conv_blocks.{}.attn.{}.proj_out": "levels.{}.attentions.{}.projection",
            "conv_blocks.{}.downsample.conv": "levels.{}.resample.conv",
            "mid.{}.norm1": "middle.{}.norm1",
            "mid.{}.conv1": "middle.{}.conv1",
            "mid.{}.norm2": "middle.{}.norm2",
            "mid.{}.conv2": "middle.{}.conv2",
            "mid.1.norm": "middle.1.norm",
            "mid.1.q": "middle.1.query",
            "mid.1.k": "middle.1.key",
            "mid.1.v": "middle.1.value",
            "mid.1.proj_out": "middle.1.projection",
            "norm_out": "output_norm",
            "conv_out": "output_conv",
        }
    )
)
"""A tokenizer of LlamaGen; its running record of used codes is dropped."""


def rename(
    state: Mapping[str, Tensor],
    table: Mapping[str, str],
    *,
    num_levels: int = 0,
    where: str = "the checkpoint",
) -> dict[str, Tensor]:
    """The tensors of ``state`` under our names, in the same order.

    Args:
        state: Tensors by their published names, without the prefix of the part they belong to.
        table: One of the tables of this file.
        num_levels: How many levels ``{-}`` counts; only tables with it need the number.
        where: What the tensors come from, for messages.

    Raises:
        CheckpointError: If a name is in no row of the table, or two lead to the same.

    Example:
        >>> import torch
        >>> list(rename({"main.3.bias": torch.zeros(1)}, DISCRIMINATOR_KEYS))
        ['layers.3.bias']
    """
    renamed = {key: _renamed(key, table, num_levels) for key in state}
    unknown = [key for key, name in renamed.items() if name is None]
    if unknown:
        shown = ", ".join(f"`{key}`" for key in unknown[:5]) + (", …" if len(unknown) > 5 else "")
        raise CheckpointError(
            f"{len(unknown)} of {len(state)} keys of {where} are not known for this kind of model: {shown}",
            hint="check that the configuration beside the checkpoint belongs to it",
        )
    owners: dict[str, str] = {}
    for key, name in renamed.items():
        if name and owners.setdefault(name, key) != key:
            raise CheckpointError(
                f"`{owners[name]}` and `{key}` are two names of one tensor",
                hint="the file was put together from two models",
            )
    return {name: state[key] for name, key in owners.items()}


def inverse(table: Mapping[str, str]) -> dict[str, str]:
    """The table that leads back; rows that drop a tensor have no way back.

    Example:
        >>> inverse({"up.{}.res.{}": "levels.{-}.blocks.{}", "mask": ""})
        {'levels.{}.blocks.{}': 'up.{-}.res.{}'}
    """
    back = {}
    for theirs, ours in table.items():
        if ours:
            back[ours.replace("{-}", "{}")] = theirs.replace("{}", "{-}", 1) if "{-}" in ours else theirs
    return back


def _renamed(key: str, table: Mapping[str, str], num_levels: int) -> str | None:
    module, _, leaf = key.rpartition(".")
    for name, suffix in ((key, ""), (module, f".{leaf}")):
        for row, ours in table.items():
            found = re.fullmatch(re.escape(row).replace(r"\{\}", "([0-9]{1,9})"), name)
            if found is not None:
                numbers = list(found.groups())
                if "{-}" in ours:
                    numbers[0] = str(num_levels - 1 - int(numbers[0]))
                return ours.replace("{-}", "{}").format(*numbers) + suffix
    return None
