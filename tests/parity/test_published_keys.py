import json
from functools import cache
from math import prod

import pytest
import torch

from parity import original
from reference import store
from vqgan.checkpoints.foreign import model_state
from vqgan.checkpoints.format import build_model
from vqgan.checkpoints.inference import inferred
from vqgan.checkpoints.key_maps import DISCRIMINATOR, PERCEPTUAL, TOKENIZER
from vqgan.checkpoints.original_config import translated
from vqgan.checkpoints.zoo import ENTRIES, model_config
from vqgan.config import from_mapping, merge, to_mapping
from vqgan.errors import CheckpointError
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig

PUBLISHED = json.loads((store.ROOT / "published_keys.json").read_text())
STAGES = [
    (name, prefix)
    for name, layout in PUBLISHED.items()
    for prefix in ("", "first_stage_model.", "cond_stage_model.")
    if f"{prefix}quantize.embedding.weight" in layout
]


def described(name, prefix):
    """The recorded names and shapes below a prefix, as tensors without content."""
    return original.part(
        {key: torch.empty(shape, device="meta") for key, shape in PUBLISHED[name].items()}, prefix
    )


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def test_every_published_layout_but_the_gumbel_one_has_a_first_stage_here():
    assert len(PUBLISHED) == 13
    assert {name for name, _ in STAGES} == {name for name in PUBLISHED if "gumbel" not in name}


@pytest.mark.parametrize(("name", "prefix"), STAGES)
def test_published_first_stages_have_the_names_and_shapes_of_ours(name, prefix):
    state = {
        key: value
        for key, value in described(name, prefix).items()
        if key.startswith(("enc", "dec", "qu", "post"))
    }
    codes, width = state["quantize.embedding.weight"].shape
    config = TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=state["encoder.conv_in.weight"].shape[1],
            base_channels=128,
            channel_multipliers=(1, 1, 2, 2, 4),
            num_residual_blocks=2,
            latent_channels=256,
            resolution=256,
            attention_resolutions=(16,),
        ),
        quantizer=VectorQuantizerConfig(codebook_size=codes, codebook_dim=width),
    )
    ours = build_model("tokenizer", to_mapping(config), where="it").state_dict()
    assert shapes(TOKENIZER.rename(state, ours)) == shapes(ours)


@pytest.mark.parametrize(
    ("name", "num_layers"),
    [("vqgan_f16_1024 (VQLPIPS n_layers=3)", 3), ("vqgan_f16_16384 (VQLPIPS n_layers=2)", 2)],
)
def test_published_losses_have_the_names_and_shapes_of_ours(name, num_layers):
    with torch.device("meta"):
        discriminator, perceptual = PatchDiscriminator(num_layers=num_layers), PerceptualNetwork()
    found = DISCRIMINATOR.rename(described(name, "loss.discriminator."), discriminator.state_dict())
    assert shapes(found) == shapes(discriminator.state_dict())
    found = PERCEPTUAL.rename(described(name, "loss.perceptual_loss."), perceptual.state_dict())
    assert shapes(found) == shapes(perceptual.state_dict())


LAYOUTS = {
    "vqgan_imagenet_f16_1024": "vqgan_f16_1024 (VQLPIPS n_layers=3)",
    "imagenet_vqgan": "vqgan_f16_1024 (VQLPIPS n_layers=3)",
    "faceshq_vqgan": "vqgan_f16_1024 (DummyLoss)",
    "vqgan_imagenet_f16_16384": "vqgan_f16_16384 (VQLPIPS n_layers=2)",
    "vqgan_gumbel_f8": "vqgan_gumbel_f8 (DummyLoss)",
    "sflckr": "sflckr",
    "faceshq_transformer": "faceshq",
    "drin_transformer": "drin",
    "coco_transformer": "coco",
    "ade20k_transformer": "ade20k",
    "ffhq_transformer": "ffhq/celebahq",
    "celebahq_transformer": "ffhq/celebahq",
    "cin_transformer": "cin",
    "coco_scene_30": "coco_scene",
    "coco_scene_60": "coco_scene",
    "open_images_scene": "oi_scene",
}
"""Models of the zoo whose names and shapes were recorded."""


@cache
def expected(name):
    """The names and shapes of a model of the zoo."""
    return shapes(build_model(ENTRIES[name].holds, to_mapping(model_config(name)), where=name).state_dict())


def mapped(name, layout):
    """What the model of the zoo expects, and what a recorded layout gives it."""
    found, training = model_state(described(layout, ""), model_config(name), where=name)
    return expected(name), shapes(found), shapes(training)


def test_every_published_layout_belongs_to_a_model_of_the_zoo():
    assert set(LAYOUTS.values()) == set(PUBLISHED)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_published_layouts_map_to_models_of_the_zoo_one_to_one(name, layout):
    wanted, found, training = mapped(name, layout)
    assert found == wanted
    # Nothing is lost on the way: every number that was published is there, but for the causal masks.
    published = {key: shape for key, shape in PUBLISHED[layout].items() if not key.endswith(".attn.mask")}
    numbers = sum(prod(shape) for part in (found, training) for shape in part.values())
    assert numbers == sum(prod(shape) for shape in published.values())


@pytest.mark.parametrize("layout", ["vqgan_f16_1024 (DummyLoss)", "cin"])
def test_a_key_too_many_or_too_few_shows(layout, monkeypatch):
    name = next(name for name, own in LAYOUTS.items() if own == layout)
    keys = PUBLISHED[layout]
    dropped = next(key for key in keys if key.endswith("decoder.conv_out.bias"))
    monkeypatch.setitem(PUBLISHED, layout, {key: shape for key, shape in keys.items() if key != dropped})
    wanted, found, _ = mapped(name, layout)
    assert len(wanted) == len(found) + 1
    monkeypatch.setitem(PUBLISHED, layout, keys | {dropped.replace("conv_out", "conv_new"): [3]})
    with pytest.raises(CheckpointError, match="conv_new"):
        mapped(name, layout)


def asked_for(name):
    """What of a model of the zoo its tensors do not show, as a user would say it."""
    config = model_config(name)
    if isinstance(config, TokenizerConfig):
        return {}
    condition = to_mapping(config.conditioner)
    return {
        "prior": {"num_heads": config.prior.num_heads, "dropout": config.prior.dropout},
        "conditioner": condition,
    }


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_published_layouts_tell_their_configurations(name, layout):
    known, state = asked_for(name), described(layout, "")
    if known:
        own = {"kind"} if any(key.startswith("cond_stage_model.") for key in state) else set()
        with pytest.raises(
            CheckpointError, match="`prior.num_heads`" if own else "`prior.num_heads` and `cond"
        ):
            inferred(state, {}, where="it")
        needed = {"kind", "num_classes"}
        told = {
            "prior": known["prior"],
            "conditioner": {k: v for k, v in known["conditioner"].items() if k in needed},
        }
    else:
        told = {}
    model = translated(inferred(state, told, where="it"), shapes(state), where="it")
    whole = from_mapping(merge(to_mapping(model), known), type(model), where="it")
    assert whole == model_config(name)
    if not known:
        assert model == whole


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (
            {"quantize.embed.weight": (4, 4)},
            "the quantizer: of `quantize.embedding` and `quantize.embed` both",
        ),
        (
            {"quantize.embedding.weight": None},
            r"the quantizer: .* neither exists \(an `AutoencoderKL` has no codes",
        ),
        (
            {"encoder.conv_in.weight": None},
            "the channels of the images: `encoder.conv_in.weight` is missing",
        ),
        (
            {"encoder.down.1.block.0.conv1.weight": (129, 128, 3, 3)},
            "the multipliers: a level is 129 channels wide",
        ),
        (
            {"encoder.conv_out.weight": (4,)},
            "the width of the latents: `encoder.conv_out.weight` has the shape",
        ),
    ],
)
def test_what_the_tensors_do_not_tell_is_named(changed, what):
    state = described("vqgan_f16_1024 (DummyLoss)", "")
    state |= {key: torch.empty(shape, device="meta") for key, shape in changed.items() if shape}
    with pytest.raises(CheckpointError, match=f"its tensors do not show {what}"):
        inferred({key: t for key, t in state.items() if changed.get(key, ()) is not None}, {}, where="it")


def test_a_permutation_that_is_no_order_is_named(reference):
    state = reference("net2net_permuter").state
    known = {"prior": {"num_heads": 4}, "conditioner": {"kind": "unconditional"}}
    assert inferred(state, known, where="it")["params"]["permuter_config"]["target"].endswith(".SpiralOut")
    with pytest.raises(CheckpointError, match="do not show `token_order`"):
        inferred({**state, "permuter.forward_shuffle_idx": torch.arange(63)}, known, where="it")


def test_attention_that_is_not_there_is_none():
    state = described("vqgan_f16_1024 (DummyLoss)", "")
    bare = {key: tensor for key, tensor in state.items() if "attn_1" not in key and ".attn." not in key}
    model = translated(inferred(bare, {}, where="it"), shapes(bare), where="it")
    assert (model.autoencoder.attention_resolutions, model.autoencoder.middle_attention) == ((), False)
    found, _ = model_state(bare, model, where="it")
    assert shapes(found) == shapes(build_model("tokenizer", to_mapping(model), where="it").state_dict())
