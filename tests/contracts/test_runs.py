"""Every named run, and how a request becomes a run: preset < YAML < overrides."""

import msgspec
import pytest
import torch

import tiny
from vqgan.checkpoints.load import load
from vqgan.checkpoints.zoo import model_config
from vqgan.classifier import Classifier, ClassifierConfig
from vqgan.conditioning import ClassLabelConfig, UnconditionalConfig
from vqgan.config import dump_yaml, parse_yaml, to_mapping
from vqgan.data import FolderConfig, IdxConfig
from vqgan.denoiser import Denoiser, DenoiserConfig
from vqgan.errors import ConfigError, DataError
from vqgan.images import save_png
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.presets import PRESETS
from vqgan.runs import resolve, train
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.build import synthesizer_config
from vqgan.training.run import (
    ClassifierRun,
    DenoiserRun,
    PriorRun,
    TokenizerRun,
    refuse_changes,
    run_from_mapping,
)

TOKENIZERS = [name for name in PRESETS if isinstance(resolve(name), TokenizerRun)]
CLASSIFIERS = [name for name in PRESETS if isinstance(resolve(name), ClassifierRun)]
DENOISERS = [name for name in PRESETS if isinstance(resolve(name), DenoiserRun)]
PRIORS = [name for name in PRESETS if isinstance(resolve(name), PriorRun)]

FIRST_STAGES = {"half-prior": "f16-tokenizer"}
"""Priors on the tokenizer of another name."""


def refused(*arguments, **keywords):
    with pytest.raises(ConfigError) as caught:
        resolve(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_its_yaml(name):
    run = resolve(name)
    assert run_from_mapping(parse_yaml(dump_yaml(run)), where="here") == run
    assert PRESETS[name].path.read_text().startswith(f"# {PRESETS[name].summary}\n")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizers_preset_can_be_built_for_its_images(name):
    run = resolve(name)
    with torch.device("meta"):
        tokenizer = Tokenizer(run.tokenizer)
        images = torch.empty(2, run.tokenizer.image_channels, *run.data.image_size)
        assert tokenizer.decode_latents(tokenizer.latents(images)).shape == images.shape
        config = run.task.discriminator
        if config is not None:
            discriminator = PatchDiscriminator(
                image_channels=images.shape[1],
                base_channels=config.base_channels,
                num_layers=config.num_layers,
            )
            assert discriminator(images).shape[:2] == (2, 1)


@pytest.mark.parametrize("name", PRIORS)
def test_a_priors_preset_can_be_built_on_the_tokenizer_of_its_name(name):
    run, tokenizer = resolve(name), resolve(FIRST_STAGES.get(name, name.replace("-prior", "-tokenizer")))
    assert run.data.image_size == tokenizer.data.image_size
    with torch.device("meta"):
        synthesizer = Synthesizer(synthesizer_config(run, Tokenizer(tokenizer.tokenizer)))
    grid = synthesizer.tokenizer.grid_size(run.data.image_size)
    assert synthesizer.config.window == grid


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifiers_preset_can_be_built_for_its_images(name):
    run = resolve(name)
    with torch.device("meta"):
        config = ClassifierConfig(
            encoder=run.encoder, image_size=run.data.image_size, class_names=("cat", "dog")
        )
        assert Classifier(config).output.out_features == 2


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoisers_preset_can_be_built_for_its_images(name):
    run = resolve(name)
    with torch.device("meta"):
        images = torch.empty(1, run.encoder.image_channels, *run.data.image_size)
        assert Denoiser(DenoiserConfig(encoder=run.encoder))(images).shape == images.shape


def test_overrides_win_over_the_file_and_the_file_over_its_preset(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "preset: digits-prior\ntraining: {steps: 7, batch_size: 8}\ntask: {optimizer: {learning_rate: 1e-4}}\n"
    )
    run = resolve(path, ["training.steps=9"])
    preset = resolve("digits-prior")
    assert (run.training.steps, run.training.batch_size) == (9, 8)
    assert run.task.optimizer.learning_rate == 1e-4
    assert run.prior == preset.prior
    assert run.training.ema_decay == preset.training.ema_decay


def test_a_file_may_say_everything_itself(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(dump_yaml(tiny.tokenizer_run()))
    assert resolve(str(path)) == tiny.tokenizer_run()
    path.write_text("training: {steps: 7}")
    assert refused(path).endswith(
        "has no `kind`\nhint: write `kind: tokenizer`, `prior`, `classifier` or `denoiser`, or `preset: NAME`"
    )


def test_a_run_itself_can_be_changed_too():
    assert resolve(tiny.prior_run(), ["training.steps=9"]).training.steps == 9


def test_another_kind_drops_the_fields_of_the_old_one():
    run = resolve("digits-prior", ["conditioner.kind=unconditional"])
    assert run.conditioner == UnconditionalConfig()
    run = resolve("demo-prior", ["conditioner.kind=class_label"])
    assert run.conditioner == ClassLabelConfig()
    run = resolve("demo-prior", ["conditioner.num_classes=3", "conditioner.kind=class_label"])
    assert run.conditioner == ClassLabelConfig(num_classes=3)


def test_parts_can_be_taken_away():
    assert resolve("demo-tokenizer", ["task.discriminator=null"]).task.discriminator is None


@pytest.mark.parametrize(
    ("request_", "overrides", "message"),
    [
        (
            "digit-prior",
            (),
            "unknown preset `digit-prior`, and no YAML file of that name\nhint: did you mean `digits-prior`?; "
            "`vqgan presets` lists them",
        ),
        (
            "digits-prior",
            ["training.stepz=3"],
            "`training` of preset `digits-prior`: unknown key `stepz`\nhint: did you mean `steps`?",
        ),
        ("digits-prior", ["training.steps"], "override `training.steps` is not of the form `key=value`"),
        (None, (), "no run was given"),
        ("absent.yaml", (), "cannot read `absent.yaml`: no such file or directory"),
    ],
)
def test_mistakes_are_named_with_what_was_probably_meant(request_, overrides, message):
    assert refused(request_, overrides).startswith(message)


def test_an_unknown_preset_in_a_file_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("preset: demo\n")
    assert refused(path).startswith("unknown preset `demo`")


def test_data_given_apart_replaces_that_of_the_run():
    run = resolve("digits-prior", data="some/folder", eval_data=IdxConfig(path="x"))
    assert run.data.source == FolderConfig(path="some/folder")
    assert run.data.eval_source == IdxConfig(path="x")
    assert resolve(run) == run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "task.optimizer.learning_rate=0.5",
            "`task.optimizer.learning_rate` is 0.5, but the run began with 0.001",
        ),
        ("training.batch_size=8", "`training.batch_size` is 8, but the run began with 4"),
        (
            "task.discriminator=null",
            "`task.discriminator` is None, but the run began with {'loss': 'hinge', ",
        ),
        ("training.steps=3", "`training.steps` is 3, but the run began with 4"),
    ],
)
def test_a_resumed_run_may_not_differ_and_both_values_are_named(override, message):
    run = tiny.tokenizer_run()
    with pytest.raises(ConfigError) as caught:
        refuse_changes(run, resolve(run, [override]))
    assert message in caught.value.message


def test_a_resumed_run_may_read_elsewhere_and_otherwise_and_go_on_longer():
    run = tiny.tokenizer_run(IdxConfig(path="a"))
    changed = resolve(run, ["data.workers=3", "training.steps=5"], data="elsewhere", eval_data="folder:x")
    refuse_changes(run, changed)
    with pytest.raises(ConfigError, match=r"`data\.flip` is False"):
        refuse_changes(run, msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, flip=False)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected exactly one of `out=` and `resume=`"),
        ({"out": "a", "resume": "b"}, "expected exactly one of `out=` and `resume=`"),
        ({"out": "OUT"}, 'no images were given\nhint: give `data="FOLDER"`'),
        ({"out": "OUT", "data": "DATA", "seed": -1}, "`seed` is -1, expected 0 to 2^63 - 1"),
        ({"out": "OUT", "data": "DATA", "tokenizer": "x"}, "a tokenizer is not trained on a tokenizer"),
        (
            {"out": "OUT", "data": "DATA", "overrides": ["data.image_size=[6, 8]"]},
            "images of 6x8 pixels do not fit the tokenizer",
        ),
        (
            {"out": "OUT", "data": "DATA", "overrides": ["task.discriminator.num_layers=4"]},
            "images of 8 x 8 pixels are too small for the discriminator: it needs 48 a side",
        ),
        (
            {"out": "OUT", "data": "DATA", "overrides": ["task.perceptual={}"]},
            "images of 8 x 8 pixels and 1 channels do not fit the perceptual loss",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(tmp_path, arguments, message):
    source = tiny.data(tmp_path / "data")
    given = {**arguments, **({"data": source} if "data" in arguments else {})}
    if given.get("out") == "OUT":
        given["out"] = tmp_path / "run"
    with pytest.raises(ConfigError) as caught:
        train(tiny.tokenizer_run(), device="cpu", **given)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert to_mapping(tiny.tokenizer_run())["data"]["source"] is None


def test_held_out_images_of_other_classes_are_refused_where_classes_matter(tmp_path):
    source = tiny.data(tmp_path / "data")
    for name in ("0", "1", "other"):
        save_png(torch.zeros(1, 8, 8), tmp_path / "folder" / name / "a.png")
    request = {"data": source, "eval_data": tmp_path / "folder", "device": "cpu"}
    with pytest.raises(DataError, match="the held-out images have other classes than the training images"):
        train(tiny.prior_run(), out=tmp_path / "prior", tokenizer=tmp_path / "x", **request)
    assert not (tmp_path / "prior").exists()
    train(tiny.tokenizer_run(steps=1), out=tmp_path / "tokenizer", **request)


def test_a_class_is_asked_for_by_one_word_and_the_names_come_from_the_folders(tmp_path):
    for name in ("cat", "dog"):
        for index in range(4):
            save_png(torch.zeros(1, 8, 8), tmp_path / "data" / name / f"{index}.png")
    data = {"data": tmp_path / "data", "device": "cpu"}
    train(tiny.tokenizer_run(steps=1), out=tmp_path / "tokenizer", **data)
    run = msgspec.structs.replace(tiny.prior_run(steps=1), conditioner=UnconditionalConfig())
    override = ["conditioner.kind=class_label"]
    train(run, out=tmp_path / "prior", tokenizer=tmp_path / "tokenizer", overrides=override, **data)
    expected = ClassLabelConfig(num_classes=2, class_names=("cat", "dog"))
    assert resolve(tmp_path / "prior" / "config.yaml").conditioner == expected
    synthesizer = load(tmp_path / "prior", device="cpu")
    assert synthesizer.config.conditioner == expected
    assert synthesizer.sample(1, condition={"class": "dog"}).shape == (1, 1, 8, 8)


def test_fields_that_were_renamed_are_still_read_by_their_old_names(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("preset: demo-tokenizer\ntask: {adversary: {start: 2800, weight: 0.3}}\n")
    discriminator = resolve(path, ["task.adversary.num_layers=1"]).task.discriminator
    assert (discriminator.start, discriminator.weight, discriminator.num_layers) == (2800, 0.3, 1)
    assert discriminator.base_channels == resolve("demo-tokenizer").task.discriminator.base_channels
    path.write_text(dump_yaml(tiny.tokenizer_run()).replace("  discriminator:\n", "  adversary:\n"))
    assert resolve(path) == tiny.tokenizer_run()
    path.write_text("preset: demo-tokenizer\ntask: {adversary: {start: 1}, discriminator: {start: 3000}}\n")
    assert refused(path).startswith(f"`task` of `{path}`: unknown key `adversary`")


def test_a_run_folder_from_before_a_renaming_is_resumed(tmp_path):
    source = tiny.data(tmp_path / "data")
    out = train(tiny.tokenizer_run(), data=source, out=tmp_path / "run", device="cpu")
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("  discriminator:\n", "  adversary:\n"))
    assert "adversary" in config.read_text()
    train(None, resume=out, overrides=["training.steps=5"], device="cpu")
    assert "adversary" not in config.read_text()


def test_the_papers_tokenizer_is_the_published_one_with_the_papers_loss():
    published = model_config("vqgan_imagenet_f16_1024")
    quantizer = msgspec.structs.replace(published.quantizer, loss_convention="paper")
    assert resolve("f16-tokenizer").tokenizer == msgspec.structs.replace(published, quantizer=quantizer)
