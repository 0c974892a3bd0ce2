import copy

import pytest
import torch

from reference import store
from vqgan.checkpoints.foreign import model_state
from vqgan.checkpoints.original_config import translated
from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.errors import CheckpointError
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig, RemapConfig, VectorQuantizerConfig


def config(name="net2net_class"):
    return copy.deepcopy(store.case(name).config)


def read(mapping, shapes=None):
    return translated(mapping, shapes or {}, where="`model.yaml`")


def refused(mapping):
    with pytest.raises(CheckpointError) as caught:
        read(mapping)
    return caught.value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("class", ClassLabelConfig(num_classes=10)),
        ("uncond", UnconditionalConfig(start_token=5)),
        ("coord", CoordinatesConfig(num_values=64, downsample_factor=4)),
        ("firststage", TokenizedImageConfig(codebook_size=64, image="lr")),
        (
            "scene",
            SceneLayoutConfig(
                num_classes=63,
                max_objects=4,
                vocabulary_size=64,
                encode_crop=True,
                use_group=False,
                use_additional=False,
            ),
        ),
    ],
)
def test_every_condition_has_its_counterpart(name, expected):
    model = read(config(f"net2net_{name}"))
    assert model.conditioner == expected
    assert model.prior.vocabulary == "shared"
    assert model.window == ((16, 16) if name == "coord" else (8, 8))


def test_layouts_take_what_the_data_say():
    mapping = config("net2net_scene")
    params = {"no_object_classes": 10, "no_tokens": 64, "use_group_parameter": True}
    mapping["data"] = {"params": {"train": {"params": params}}}
    conditioner = read(mapping).conditioner
    assert (conditioner.num_classes, conditioner.use_group) == (10, True)


@pytest.mark.parametrize(
    ("target", "params", "classes", "ids"),
    [
        ("annotated_objects_coco.AnnotatedObjectsCoco", {}, 171, ("1", "10", "100", "101")),
        ("annotated_objects_coco.AnnotatedObjectsCoco", {"use_stuff": False}, 499, ()),
        ("annotated_objects_coco.AnnotatedObjectsCoco", {"no_object_classes": 9}, 9, ()),
        (
            "annotated_objects_open_images.AnnotatedObjectsOpenImages",
            {
                "category_allow_list_target": "taming.data.open_images_helper."
                "top_300_classes_plus_coco_compatibility"
            },
            340,
            (),
        ),
        ("other.Boxes", {}, 499, ()),
    ],
)
def test_classes_of_layouts_are_those_of_the_data_class(target, params, classes, ids):
    mapping = config("net2net_scene")
    stages = mapping["model"]["params"]
    stages["first_stage_config"]["params"]["n_embed"] = 500
    stages["transformer_config"]["params"]["vocab_size"] = 500
    train = {"target": f"taming.data.{target}", "params": params}
    mapping["data"] = {"params": {"train": train}}
    conditioner = read(mapping).conditioner
    assert (conditioner.num_classes, conditioner.class_ids[:4]) == (classes, ids)


def test_quantizers_have_their_counterparts():
    assert isinstance(read(config("gumbelvq_tiny")).quantizer, GumbelQuantizerConfig)
    quantizer = read(config("vqmodel_tiny"), {"quantize.used": (12,)}).quantizer
    assert isinstance(quantizer, VectorQuantizerConfig)
    assert quantizer.loss_convention == "original"
    assert quantizer.remap == RemapConfig(num_used=12)


def test_sides_of_attention_that_no_level_has_are_left_out_as_in_the_original():
    mapping = config("vqmodel_tiny")
    mapping["model"]["params"]["ddconfig"]["attn_resolutions"] = [16, 7]
    assert read(mapping).autoencoder.attention_resolutions == (16,)


def changed(name, path, value):
    mapping = config(name)
    place = mapping["model"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return mapping


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("vqmodel_tiny", ["target"], "os.system", "unknown class `os.system`"),
        (
            "net2net_class",
            ["params", "transformer_config", "target"],
            "os.system",
            "unknown class `os.system`",
        ),
        (
            "net2net_class",
            ["params", "first_stage_config", "target"],
            "os.system",
            "unknown class `os.system`",
        ),
        (
            "net2net_class",
            ["params", "cond_stage_config", "target"],
            "os.system",
            "unknown class `os.system`",
        ),
        (
            "net2net_class",
            ["params", "cond_stage_config"],
            "__is_it__",
            "unknown class `__is_it__`",
        ),
        (
            "net2net_permuter",
            ["params", "permuter_config", "target"],
            "os.system",
            "unknown class `os.system`",
        ),
        (
            "net2net_permuter",
            ["params", "permuter_config", "params", "H"],
            "8",
            "`H` of .* is 8, expected a whole",
        ),
        ("net2net_class", ["params", "transformer_config", "params", "vocab_size"], 65, "`vocab_size` is 65"),
        ("net2net_class", ["params", "transformer_config", "params", "n_unmasked"], 3, "`n_unmasked` 3"),
        (
            "vqmodel_tiny",
            ["params", "ddconfig", "double_z"],
            True,
            "`double_z` is True, only False is supported",
        ),
        ("vqmodel_tiny", ["params", "ddconfig", "out_ch"], 4, "`out_ch` is 4, only 3 is supported"),
        (
            "vqmodel_tiny",
            ["params", "ddconfig", "attn_type"],
            "linear",
            "`attn_type` is linear, only vanilla is supported",
        ),
        (
            "vqmodel_tiny",
            ["params", "ddconfig", "ch"],
            48.5,
            "cannot be built: `ddconfig.ch` of the first stage: expected `int`",
        ),
        (
            "vqmodel_tiny",
            ["params", "ddconfig", "ch"],
            48,
            "describes a model that cannot be built: `base_channels` is 48",
        ),
        ("vqmodel_tiny", ["params"], 3, "cannot be built: `params` of the model: expected a mapping"),
    ],
)
def test_what_no_published_model_has_is_refused(name, path, value, message):
    with pytest.raises(CheckpointError, match=message):
        read(changed(name, path, value))


def test_a_missing_key_is_named():
    mapping = config("vqmodel_tiny")
    del mapping["model"]["params"]["n_embed"]
    assert "cannot be built: the first stage: missing key `n_embed`" in refused(mapping).message
    assert "the file that was published with the checkpoint" in refused(mapping).hint


def test_no_key_is_lost():
    case = store.case("net2net_permuter")
    model = read(case.config)
    state, _ = model_state(case.state, model, where="x")
    assert len(state) == sum(not key.endswith((".mask", "_shuffle_idx")) for key in case.state)
    with pytest.raises(CheckpointError, match="holds unknown parts: `other`"):
        model_state({**case.state, "other.weight": torch.zeros(1)}, model, where="x")
    shuffled = {**case.state, "permuter.forward_shuffle_idx": torch.arange(64)}
    with pytest.raises(CheckpointError, match="holds a different order of tokens than `spiral_out`"):
        model_state(shuffled, model, where="x")


def test_what_only_training_needs_is_set_apart():
    case = store.case("train3")
    state, training = model_state(case.state, read(case.config), where="x")
    assert {key.split(".")[1] for key in training} == {"discriminator"}
    assert len(state) + len(training) == len(case.state)


def test_the_picture_of_labels_is_not_needed():
    colours = torch.zeros(3, 7, 1, 1)
    case = store.case("vqmodel_tiny")
    state, _ = model_state({**case.state, "colorize": colours}, read(case.config), where="x")
    assert len(state) == len(case.state)
    for name, part in (("class", "first_stage_model"), ("firststage", "cond_stage_model")):
        case = store.case(f"net2net_{name}")
        plain, _ = model_state(case.state, read(case.config), where="x")
        coloured, _ = model_state({**case.state, f"{part}.colorize": colours}, read(case.config), where="x")
        assert coloured.keys() == plain.keys()


def test_a_first_stage_used_twice_is_one_and_no_condition_is_dropped():
    case = store.case("net2net_firststage")
    key = "cond_stage_model.encoder.conv_in.weight"
    other = {**case.state, key: torch.zeros_like(case.state[key])}
    with pytest.raises(CheckpointError, match=r"differs from the image's at `encoder.input_conv.weight`"):
        model_state(other, read(case.config), where="x")
    case = store.case("net2net_class")
    with pytest.raises(CheckpointError, match="holds unknown parts: `cond_stage_model`"):
        model_state({**case.state, key: torch.zeros(1)}, read(case.config), where="x")


def test_a_shared_first_stage_comes_before_unconditional_as_in_the_original():
    mapping = changed("net2net_firststage", ["params", "unconditional"], True)
    assert read(mapping).conditioner == TokenizedImageConfig(codebook_size=64, image="lr")


@pytest.mark.parametrize("value", ["${x}", [1]])
def test_a_data_part_that_says_something_else_is_refused(value):
    mapping = config("net2net_scene")
    mapping["data"] = {"params": {"train": {"params": {"no_object_classes": value}}}}
    assert "`no_object_classes` of the training data: expected `int | null`" in refused(mapping).message
    mapping["data"]["params"]["train"]["params"] = {"no_object_classes": None, "no_tokens": None}
    assert read(mapping).conditioner.num_classes == 63


def test_conditions_of_another_size_are_refused():
    mapping = changed("net2net_firststage", ["params", "downsample_cond_size"], 128)
    assert "`downsample_cond_size` is 128" in refused(mapping).message


def test_used_codes_of_an_odd_shape_are_refused():
    with pytest.raises(CheckpointError, match=r"`quantize\.used` has the shape \(\)"):
        read(config("vqmodel_tiny"), {"quantize.used": ()})
