"""Run files of the original: what they become, and which of their keys are named."""

import logging
import re
from pathlib import Path

import pytest
import torch

from reference import store
from vqgan.conditioning import CoordinatesConfig, UnconditionalConfig
from vqgan.config import dump_yaml, merge, parse_yaml
from vqgan.errors import ConfigError
from vqgan.prior import Prior
from vqgan.runs import resolve
from vqgan.tokenizer import Tokenizer
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.build import synthesizer_config
from vqgan.training.run import PriorRun, TokenizerRun, run_from_mapping
from vqgan.training.tokenizer_task import PerceptualConfig

SIZES = """\
double_z: False
      z_channels: 256
      resolution: 256
      in_channels: 3
      out_ch: 3
      ch: 128
      ch_mult: [ 1,1,2,2,4]  # num_down = len(ch_mult)-1
      num_res_blocks: 2
      attn_resolutions: [16]
      dropout: 0.0"""

VQGAN = f"""\
model:
  base_learning_rate: 4.5e-6
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 256
    n_embed: 1024
    ddconfig:
      {SIZES}

    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
      params:
        disc_conditional: False
        disc_in_channels: 3
        disc_start: START
        disc_weight: 0.8
        codebook_weight: 1.0

data:
  target: main.DataModuleFromConfig
  params:
    batch_size: BATCH
    num_workers: 24
    train:
      target: TRAIN
      params:
        PARAMS
    validation:
      target: taming.data.some.Validation
      params:
        size: 256
"""

IMAGENET = (
    VQGAN.replace("START", "250001")
    .replace("BATCH", "12")
    .replace("TRAIN", "taming.data.imagenet.ImageNetTrain")
    .replace("PARAMS", "config:\n          size: 256")
)
CUSTOM = (
    VQGAN.replace("START", "10000")
    .replace("BATCH", "5")
    .replace("TRAIN", "taming.data.custom.CustomTrain")
    .replace("PARAMS", "training_images_list_file: some/training.txt\n        size: 256")
)
FACESHQ = """\
model:
  base_learning_rate: 4.5e-06
  target: taming.models.cond_transformer.Net2NetTransformer
  params:
    cond_stage_key: coord
    transformer_config:
      target: taming.modules.transformer.mingpt.GPT
      params:
        vocab_size: 1024
        block_size: 512
        n_layer: 24
        n_head: 16
        n_embd: 1024
    first_stage_config:
     target: taming.models.vqgan.VQModel
     params:
      ckpt_path: logs/faceshq_vqgan/checkpoints/last.ckpt
      embed_dim: 256
      n_embed: 1024
      ddconfig: {double_z: false, z_channels: 256, resolution: 256, in_channels: 3, out_ch: 3, ch: 128,
        ch_mult: [1, 1, 2, 2, 4], num_res_blocks: 2, attn_resolutions: [16], dropout: 0.0}
      lossconfig:
        target: taming.modules.losses.DummyLoss
    cond_stage_config:
      target: taming.modules.misc.coord.CoordStage
      params:
        n_embed: 1024
        down_factor: 16
data:
  target: main.DataModuleFromConfig
  params:
    batch_size: 2
    num_workers: 8
    train:
      target: taming.data.faceshq.FacesHQTrain
      params: {size: 256, crop_size: 256, coord: true}
    validation:
      target: taming.data.faceshq.FacesHQValidation
      params: {size: 256, crop_size: 256, coord: true}
"""


@pytest.fixture
def resolved(tmp_path, caplog):
    """``resolved(text, change={}, overrides=())``: the run of a file, and what was logged."""

    def make(text, change=None, overrides=()):
        path = tmp_path / "original.yaml"
        path.write_text(dump_yaml(merge(parse_yaml(text), change or {})) if change else text)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run = resolve(path, overrides)
        return run, caplog.messages

    return make


def unread(lines):
    """The keys that are named as not read, without those whose place something else takes."""
    (line,) = [line for line in lines if "that are not read" in line]
    return set(re.findall("`([^`]*)`", line.partition(" that are not read: ")[2]))


def instead(lines, key):
    """What takes the place of a key that is not read."""
    (line,) = [line for line in lines if line.startswith(f"`{key}` of ")]
    return line.partition(" is not read: ")[2]


def loss(**params):
    return {"model": {"params": {"lossconfig": {"params": params}}}}


def test_the_first_stage_of_imagenet(resolved):
    run, lines = resolved(IMAGENET)
    paper = resolve("f16-tokenizer")
    assert isinstance(run, TokenizerRun)
    assert run.tokenizer.autoencoder == paper.tokenizer.autoencoder
    assert run.tokenizer.quantizer.codebook_size == 1024
    assert run.tokenizer.quantizer.loss_convention == "original"
    assert run.task.optimizer.learning_rate == pytest.approx(12 * 4.5e-6)
    assert (run.task.optimizer.betas, run.task.optimizer.weight_decay) == ((0.5, 0.9), 0.0)
    assert (run.task.optimizer.decay, run.task.optimizer.clip_norm) == ("constant", None)
    assert run.task.pixels == "l1"
    assert run.task.codebook_weight == 1.0
    assert run.task.perceptual == PerceptualConfig(weight=1.0)
    assert run.task.discriminator == DiscriminatorConfig(start=250_001, weight=0.8, reconstruction="updated")
    assert (run.data.image_size, run.data.crop, run.data.flip) == ((256, 256), "random", False)
    assert (run.training.batch_size, run.training.steps, run.training.ema_decay) == (12, 500_002, None)
    assert run.data.workers == 4
    assert "images are read by 4 processes, not by 24; give `--workers N`" in lines
    assert instead(lines, "data.params.validation") == "give held-out images by `eval_data=`"
    assert unread(lines) == {
        "model.params.lossconfig.params.disc_in_channels",
        "data.target",
    }
    assert "the length of the run is not set: 500002 steps; give `--steps N`" in lines


def test_the_first_stage_for_own_images(resolved):
    run, lines = resolved(CUSTOM)
    assert (run.data.crop, run.training.batch_size, run.task.discriminator.start) == ("center", 5, 10_000)
    assert run.task.optimizer.learning_rate == pytest.approx(5 * 4.5e-6)
    assert run.training.steps == 250_000
    assert instead(lines, "data.params.train.params.training_images_list_file") == "give this file by `data=`"


def test_the_second_stage_of_faces(resolved):
    run, lines = resolved(FACESHQ)
    assert isinstance(run, PriorRun)
    assert run.conditioner == CoordinatesConfig(num_values=1024, downsample_factor=16)
    shape = run.prior
    assert (shape.depth, shape.width, shape.num_heads, shape.dropout) == (24, 1024, 16, 0.0)
    assert shape.vocabulary == "shared"
    assert run.token_order == "raster"
    assert run.task.token_keep_probability == 1.0
    assert (run.task.optimizer.betas, run.task.optimizer.weight_decay) == ((0.9, 0.95), 0.01)
    assert run.task.optimizer.learning_rate == pytest.approx(2 * 4.5e-6)
    assert (run.data.image_size, run.data.crop) == ((256, 256), "random")
    with torch.device("meta"):
        config = synthesizer_config(run, Tokenizer(resolve("f16-tokenizer").tokenizer))
        count = sum(parameter.numel() for parameter in Prior(config.prior).parameters())
    assert count / 1e6 == pytest.approx(304.9, abs=0.1)
    assert instead(lines, "model.params.first_stage_config") == "the tokenizer is that of `tokenizer=`"
    assert unread(lines) == {"data.target", "data.params.train.params.coord"}


def test_the_loss_of_the_recorded_training(resolved):
    path = store.ROOT / "train3" / "model.yaml"
    run, _ = resolved(path.read_text(), {"data": {"params": {"batch_size": 2}}})
    discriminator = DiscriminatorConfig(weight=0.8, base_channels=16, reconstruction="updated")
    assert (run.task.discriminator, run.task.perceptual, run.task.pixels) == (discriminator, None, "l1")
    assert run.data.image_size == (64, 64)


@pytest.mark.parametrize("path", sorted(store.ROOT.glob("*/model.yaml")), ids=lambda path: path.parent.name)
def test_every_recorded_configuration_can_be_a_run(resolved, path):
    run, _ = resolved(path.read_text(), {"data": {"params": {"batch_size": 3}}})
    assert run_from_mapping(parse_yaml(dump_yaml(run)), where="here") == run
    assert run.training.batch_size == 3


def test_each_argument_of_the_loss_has_its_place(resolved):
    given = {
        "disc_loss": "vanilla",
        "disc_weight": 0.5,
        "disc_factor": 0.5,
        "disc_num_layers": 2,
        "disc_ndf": 32,
        "codebook_weight": 0.25,
        "perceptual_weight": 0.1,
    }
    run, _ = resolved(IMAGENET, loss(**given))
    assert run.task.discriminator == DiscriminatorConfig(
        loss="vanilla", weight=0.25, start=250_001, num_layers=2, base_channels=32, reconstruction="updated"
    )
    assert (run.task.codebook_weight, run.task.perceptual) == (0.25, PerceptualConfig(weight=0.1))
    run, _ = resolved(IMAGENET, loss(disc_weight=0, perceptual_weight=0))
    assert (run.task.discriminator, run.task.perceptual) == (None, None)


def test_a_loss_that_cannot_train_leaves_pixels_and_quantizer(resolved):
    dummy = {"model": {"params": {"lossconfig": {"target": "taming.modules.losses.DummyLoss"}}}}
    run, lines = resolved(IMAGENET, dummy)
    assert (run.task.discriminator, run.task.perceptual, run.task.pixels) == (None, None, "l1")
    assert "the loss is a placeholder that cannot train: only pixels and quantizer count here" in lines


def test_a_tokenizer_of_label_maps_trains_with_the_binary_loss(resolved):
    loss = {
        "target": "taming.modules.losses.segmentation.BCELossWithQuant",
        "params": {"codebook_weight": 0.5},
    }
    params = {"n_labels": 183, "ddconfig": {"in_channels": 183, "out_ch": 183}, "lossconfig": loss}
    change = {"model": {"target": "taming.models.vqgan.VQSegmentationModel", "params": params}}
    task = resolved(IMAGENET, change)[0].task
    assert (task.pixels, task.codebook_weight) == ("binary", 0.5)
    assert (task.discriminator, task.perceptual) == (None, None)


def test_the_learning_rate_is_that_of_the_whole_batch(resolved, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    trainer = {"lightning": {"trainer": {"accumulate_grad_batches": 3, "max_steps": 77, "gpus": "0,1"}}}
    run, lines = resolved(IMAGENET, trainer)
    assert (run.training.batch_size, run.training.accumulate, run.training.steps) == (72, 3, 77)
    assert run.task.optimizer.learning_rate == pytest.approx(72 * 4.5e-6)
    rate = "learning rate 0.000324 = 3 accumulated x 2 processes x 12 images x 4.5e-06; "
    assert f"{rate}another batch size does not change it" in lines
    assert instead(lines, "lightning.trainer.gpus") == "give `device=`"


def test_order_corruption_and_start_token_of_a_second_stage(resolved):
    change = {
        "model": {
            "params": {
                "pkeep": 0.9,
                "sos_token": 3,
                "cond_stage_config": "__is_unconditional__",
                "transformer_config": {"params": {"block_size": 256, "resid_pdrop": 0.1, "embd_pdrop": 0.2}},
                "permuter_config": {
                    "target": "taming.modules.transformer.permuter.SpiralOut",
                    "params": {"H": 16, "W": 16},
                },
            }
        }
    }
    run, lines = resolved(FACESHQ, change)
    assert run.token_order == "spiral_out"
    assert run.task.token_keep_probability == 0.9
    assert run.conditioner == UnconditionalConfig(start_token=3)
    assert run.prior.dropout == 0.1
    dropout = "model.params.transformer_config.params.embd_pdrop"
    assert instead(lines, dropout) == "there is one dropout, `prior.dropout`"


def test_what_is_not_known_is_named_once_with_its_branch(resolved):
    change = {
        "model": {"project\x1b[2J": "8k", "params": {"ddconfig": {"use_linear": True}}},
        "extra": {"a": 1, "b": {"c": 2}},
        "data": {"params": {"train": {"target": "cutlit.Sflckr"}}},
    }
    _, lines = resolved(CUSTOM, change)
    assert "the images' class `cutlit.Sflckr` is unknown: random crops" in lines
    assert unread(lines) == {
        "model.project\\x1b[2J",
        "model.params.ddconfig.use_linear",
        "model.params.lossconfig.params.disc_in_channels",
        "data.target",
        "extra",
    }


def test_the_images_are_cut_as_the_file_says(resolved):
    def data(target, **params):
        change = {"data": {"params": {"train": {"target": f"taming.data.{target}", "params": params}}}}
        run, lines = resolved(IMAGENET, change)
        return run.data, lines

    assert data("imagenet.ImageNetTrainWithDepth")[0].flip
    assert data("imagenet.ImageNetTrain", config={"random_crop": False})[0].crop == "center"
    scene = "annotated_objects_coco.AnnotatedObjectsCoco"
    cut, _ = data(scene, target_image_size=128, crop_method="random-1d", random_flip=True)
    assert (cut.image_size, cut.crop, cut.flip) == ((128, 128), "random", True)
    cut, _ = data("coco.CocoImagesAndCaptionsTrain", config={"size": 296, "crop_size": 256})
    assert (cut.image_size, cut.resize) == ((256, 256), 296)


def test_overrides_change_the_run_that_came_out(resolved):
    run, lines = resolved(
        IMAGENET, overrides=["training.steps=9", "task.discriminator.start=4", "data.workers=0"]
    )
    assert (run.training.steps, run.task.discriminator.start, run.data.workers) == (9, 4, 0)
    assert not [line for line in lines if "--steps" in line or "--workers" in line]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"target": "os.system"}}, "unknown class `os.system`"),
        (
            {"model": {"params": {"lossconfig": {"target": "os.system"}}}},
            "names the unsupported loss `os.system`",
        ),
        ({"model": {"base_learning_rate": "fast"}}, "expected `float | null`, got `str`"),
        ({"model": {"base_learning_rate": -1}}, "`learning_rate` is -12.0, expected a number above 0"),
        ({"data": {"params": {"batch_size": 0}}}, "`batch_size` is 0, expected at least 1"),
        (loss(disc_loss="soft"), "unknown word `soft`"),
        (loss(disc_start=-1), "`start` is -1, expected at least 0"),
        ({"data": {"params": {"train": {"params": {"config": {"size": "big"}}}}}}, "got `str`"),
        (
            {"lightning": {"trainer": {"accumulate_grad_batches": 0}}},
            "`accumulate` is 0, expected at least 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(resolved, change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolved(IMAGENET, change)


def without(*path):
    """The file of the original for ImageNet without one of its keys."""
    mapping = parse_yaml(IMAGENET)
    place = mapping
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return dump_yaml(mapping)


def test_a_learning_rate_that_is_not_said_is_the_originals_or_the_one_that_is_set(resolved):
    text = without("model", "base_learning_rate")
    run, lines = resolved(text)
    assert run.task.optimizer.learning_rate == pytest.approx(12 * 4.5e-6)
    assert len([line for line in lines if "4.5e-06 (`base_learning_rate` is not set)" in line]) == 1
    for change in ({}, {"model": {"base_learning_rate": -1}}):
        run, lines = resolved(text, change, overrides=["task.optimizer.learning_rate=1e-3"])
        assert run.task.optimizer.learning_rate == 1e-3
        assert not [line for line in lines if "learning rate" in line]


def test_a_loss_that_is_not_said_is_the_originals_and_its_pixels_count_as_they_say(resolved):
    run, lines = resolved(without("model", "params", "lossconfig"))
    assert (run.task.discriminator.start, run.task.discriminator.weight, run.task.pixels) == (
        10_000,
        0.8,
        "l1",
    )
    assert run.task.perceptual == PerceptualConfig()
    assert (
        "the loss is not set: pixels, perceptual network, a discriminator of weight 0.8 from step 10000"
        in lines
    )
    run, lines = resolved(IMAGENET, loss(pixel_loss="l2"))
    assert run.task.pixels == "l2"


def test_what_refers_to_another_key_is_that_or_named(resolved):
    change = {"model": {"base_learning_rate": "${rate}"}, "rate": 1e-6}
    run, _ = resolved(IMAGENET, change)
    assert run.task.optimizer.learning_rate == pytest.approx(12e-6)
    with pytest.raises(
        ConfigError, match=re.escape("got `str`; `${oc.env:RATE}` does not exist in the file")
    ):
        resolved(IMAGENET, {"model": {"base_learning_rate": "${oc.env:RATE}"}})


@pytest.mark.parametrize("data", [{}, {"data": {"params": {"num_workers": 1}}}])
def test_a_configuration_of_the_model_alone_trains_on_small_batches_of_its_size(resolved, data):
    run, lines = resolved((store.ROOT / "train3" / "model.yaml").read_text(), data)
    assert (run.training.batch_size, run.data.image_size, run.data.crop) == (4, (64, 64), "random")
    assert "the batch size is not set: 4 images; `data.params.batch_size` would set it" in lines


def test_a_section_without_keys_is_one_that_is_absent(resolved):
    run, lines = resolved(IMAGENET, {"data": {"params": None}})
    assert (run.training.batch_size, run.data.crop) == (4, "random")
    assert "data.params" in unread(lines)


def test_of_what_is_refused_no_key_is_named(resolved, caplog):
    for change in ({"target": "os.system"}, {"params": {"disc_start": -1}}):
        with pytest.raises(ConfigError):
            resolved(IMAGENET, {"model": {"params": {"lossconfig": change}}})
        assert not [line for line in caplog.messages if "not read" in line]


def test_the_classes_are_those_of_the_images(resolved):
    _, lines = resolved((store.ROOT / "net2net_class" / "model.yaml").read_text())
    assert "`n_classes` = 10 is not used: the classes are those of the images" in lines


def test_the_halved_prior_has_the_size_that_its_page_names():
    run = resolve("half-prior")
    first = resolve("f16-tokenizer")
    with torch.device("meta"):
        prior = Prior(synthesizer_config(run, Tokenizer(first.tokenizer)).prior)
    assert (run.prior.depth, run.prior.width, run.prior.num_heads) == (12, 832, 16)
    assert isinstance(run.conditioner, UnconditionalConfig)
    assert (prior.config.codebook_size, prior.config.context_length) == (1024, 256)
    millions = sum(parameter.numel() for parameter in prior.parameters()) / 1e6
    page = Path(__file__).parents[3] / "docs" / "guides" / "which-preset.md"
    assert f"| `half-prior` | {millions:.0f} M |" in page.read_text(encoding="utf-8")
