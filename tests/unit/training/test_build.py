import logging

import msgspec
import pytest
import torch

import tiny
from examples import DEPTH_TOKENIZER
from vqgan.checkpoints.format import digest_of, save_model
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.conditioning import (
    ClassLabelConfig,
    EdgesConfig,
    SeveralConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.config import to_mapping
from vqgan.errors import CheckpointError, ConfigError, DataError
from vqgan.nn import perceptual as perceptual_module
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.prior import LocalSpan
from vqgan.training.build import build_prior_task, build_tokenizer_task, load_tokenizer
from vqgan.training.conditions import conditioned
from vqgan.training.engine import Engine
from vqgan.training.run import run_from_mapping
from vqgan.training.started import started_synthesizer
from vqgan.training.tokenizer_task import PerceptualConfig

NAMES = ("cat", "dog", "fox")


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu")


@pytest.fixture
def file(tmp_path):
    """A tokenizer with another codebook than the run's."""
    path = tmp_path / "first" / "tokenizer.safetensors"
    path.parent.mkdir()
    save_model(tiny.tokenizer(seed=3, normalize=True), path)
    return path


@pytest.fixture
def prior_file(tmp_path):
    path = tmp_path / "prior.safetensors"
    save_model(tiny.synthesizer(seed=3), path)
    return path


def patch_discriminator(seed=7, layers=1):
    torch.manual_seed(seed)
    return PatchDiscriminator(image_channels=1, base_channels=4, num_layers=layers)


def assert_equal(module, state):
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def tokenizer_task(engine, run=None, *, seed=0, start_from=None):
    return build_tokenizer_task(run or tiny.tokenizer_run(), engine, seed=seed, start_from=start_from)


def prior_task(engine, run=None, *, names=NAMES, tokenizer=None, start_from=None):
    return build_prior_task(
        run or tiny.prior_run(), engine, seed=0, tokenizer=tokenizer, start_from=start_from, class_names=names
    )


def test_fresh_weights_follow_from_the_seed(engine):
    one, same, other = (tokenizer_task(engine, seed=seed)[1].state.tensors()["model"] for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    for name in ("tokenizer.to_codebook.weight", "discriminator.layers.0.weight"):
        assert not torch.equal(one[name], other[name])


def test_a_run_from_a_file_takes_its_model_and_says_so(engine, file, caplog):
    with caplog.at_level(logging.INFO):
        run, task = tokenizer_task(engine, start_from=file)
    assert run.tokenizer == tiny.tokenizer_config(normalize=True)
    assert_equal(task.tokenizer, tiny.tokenizer(seed=3, normalize=True).state_dict())
    assert f"the model is that of `{file}`, not that of the run's configuration" in caplog.text
    planned = tiny.tokenizer_run().task
    recovering = {"start": 0, "discriminator_start": None, "recover_steps": 1, "ramp_steps": 1}
    discriminator = msgspec.structs.replace(planned.discriminator, **recovering)
    assert run.task == msgspec.structs.replace(planned, discriminator=discriminator)
    assert f"`{file}` holds no discriminator: a new one is trained alone first" in caplog.text
    assert [task.adversary.is_alone(0), tokenizer_task(engine, run)[1].adversary.is_alone(0)] == [True, True]


def test_a_discriminator_in_the_file_goes_on(engine, file):
    save_model(tiny.tokenizer(), file, training={"discriminator": ({}, patch_discriminator())})
    assert_equal(
        tokenizer_task(engine, start_from=file)[1].state.modules["discriminator"],
        patch_discriminator().state_dict(),
    )
    assert tokenizer_task(engine, start_from=file)[0].task == tiny.tokenizer_run().task


def test_a_run_from_a_run_takes_the_discriminator_of_its_newest_step(engine, file):
    folder = RunFolder(file.parent)
    state = {f"discriminator.{name}": tensor for name, tensor in patch_discriminator().state_dict().items()}
    folder.commit(5, {"model": {"tokenizer.x": torch.zeros(1), **state}, "optimizer": {}}, {})
    _, task = tokenizer_task(engine, start_from=file.parent)
    assert_equal(task.state.modules["discriminator"], patch_discriminator().state_dict())


def test_a_discriminator_of_other_sizes_is_refused(engine, file):
    save_model(tiny.tokenizer(), file, training={"discriminator": ({}, patch_discriminator(layers=2))})
    with pytest.raises(CheckpointError, match=r"does not fit the discriminator of `task\.discriminator`"):
        tokenizer_task(engine, start_from=file)


def test_a_perceptual_network_in_the_file_is_used_and_remembered(engine, file, monkeypatch):
    monkeypatch.setattr(perceptual_module, "STAGES", ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)))
    network = PerceptualNetwork()
    network.load_state_dict({name: torch.rand(tensor.shape) for name, tensor in network.state_dict().items()})
    save_model(tiny.tokenizer(), file, training={"perceptual": ({}, network)})
    plain = tiny.tokenizer_run()
    run = msgspec.structs.replace(
        plain,
        task=msgspec.structs.replace(plain.task, perceptual=PerceptualConfig(weight=0.5)),
        data=msgspec.structs.replace(plain.data, image_size=(16, 16)),
    )
    run, task = tokenizer_task(engine, run, start_from=file)
    assert_equal(task.perceptual, network.state_dict())
    digest = digest_of(network.state_dict())[:12]
    assert run.task.perceptual == PerceptualConfig(weight=0.5, weights=str(file.resolve()), digest=digest)
    _, resumed = tokenizer_task(engine, run)
    assert_equal(resumed.perceptual, network.state_dict())


def test_a_tokenizer_can_be_taken_from_a_priors_file(prior_file):
    assert_equal(load_tokenizer(prior_file), tiny.synthesizer(seed=3).tokenizer.state_dict())


@pytest.mark.parametrize(
    "given", [ClassLabelConfig(), ClassLabelConfig(num_classes=10), ClassLabelConfig(class_names=NAMES)]
)
def test_classes_are_filled_in_from_the_data(engine, file, given):
    run, task = prior_task(
        engine, msgspec.structs.replace(tiny.prior_run(), conditioner=given), tokenizer=file
    )
    assert run.conditioner == ClassLabelConfig(num_classes=3, class_names=NAMES)
    assert task.synthesizer.config.conditioner == run.conditioner
    assert task.synthesizer.config.tokenizer == tiny.tokenizer_config(normalize=True)
    assert task.synthesizer.config.window == (2, 2)
    assert task.synthesizer.config.prior.context_length == 4
    assert_equal(task.synthesizer.tokenizer, tiny.tokenizer(seed=3, normalize=True).state_dict())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "the condition is a class, but the images have none\nhint: put the images of each class into"),
        (("a", "b"), "the images have the classes `a`, `b`, the prior's are `cat`, `dog`, `fox`"),
        (tuple("abcdefgh"), "the images have the classes `a`, `b`, `c`, `d`, `e` and 3 more, the prior"),
    ],
)
def test_images_without_the_classes_are_refused(engine, file, names, message):
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=ClassLabelConfig(class_names=NAMES))
    with pytest.raises(DataError, match=message):
        prior_task(engine, run, names=names, tokenizer=file)


def test_classes_of_the_images_do_no_harm_where_nothing_asks_for_them(engine, file):
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=UnconditionalConfig())
    assert prior_task(engine, run, tokenizer=file)[0] == run


def test_a_prior_from_a_file_takes_the_whole_model(engine, prior_file):
    run, task = prior_task(engine, start_from=prior_file)
    assert_equal(task.synthesizer, tiny.synthesizer(seed=3).state_dict())
    assert run.conditioner == ClassLabelConfig(num_classes=3)
    assert (run.prior.depth, run.prior.width, run.prior.dropout) == (1, 16, 0.2)
    _, resumed = prior_task(engine, run, start_from=prior_file)  # as a run that goes on does
    assert_equal(resumed.synthesizer, task.synthesizer.state_dict())


def saved(path, **changes):
    """The file of a prior with random weights."""
    model = tiny.random_synthesizer(replace(tiny.synthesizer_config(), **changes)).float()
    save_model(model, path)
    return model


def replace(config, *, shape=None, **changes):
    return msgspec.structs.replace(
        config, prior=msgspec.structs.replace(config.prior, **(shape or {})), **changes
    )


@pytest.mark.parametrize("names", [("a", "b"), ("x", "y", "z"), tuple("abcde")])
@pytest.mark.parametrize(
    "shape",
    [{}, {"positions": "rotary"}, {"positions": "rotary", "span": LocalSpan(rows=2, columns=2)}],
)
def test_a_class_prior_moves_to_other_classes_and_keeps_all_but_their_vectors(
    engine, prior_file, names, shape, caplog
):
    model = saved(prior_file, shape=shape, conditioner=ClassLabelConfig(num_classes=3, class_names=NAMES))
    with caplog.at_level(logging.WARNING):
        run, task = prior_task(engine, names=names, start_from=prior_file)
    assert (
        f"was steered by `class_label` of 3 values, this one by `class_label` of {len(names)} values: its"
        in caplog.text
    )
    assert run.conditioner == ClassLabelConfig(num_classes=len(names), class_names=names)
    stored = model.state_dict()
    table = "prior.cell_condition.embedding.weight" if "span" in shape else "prior.token_embedding.weight"
    for name, tensor in task.synthesizer.state_dict().items():
        if name != table:
            assert torch.equal(tensor, stored[name]), name
    vectors, codes = task.synthesizer.get_parameter(table), 0 if "span" in shape else 16
    assert len(vectors) == codes + len(names)
    assert torch.equal(vectors[:codes], stored[table][:codes])
    assert vectors[codes:].std() < 0.1 < stored[table].std()
    caplog.clear()
    save_model(task.synthesizer, prior_file)
    _, resumed = prior_task(engine, run, names=names, start_from=prior_file)  # as a run that goes on does
    assert_equal(resumed.synthesizer, task.synthesizer.state_dict())
    assert "anew" not in caplog.text


def test_files_beside_the_images_bring_a_condition_that_the_prior_did_not_have(prior_file):
    run = msgspec.structs.replace(tiny.prior_run(), conditioner=UnconditionalConfig())
    run = msgspec.structs.replace(
        run, data=msgspec.structs.replace(run.data, conditions={"class": "labels.csv"})
    )
    saved(prior_file, conditioner=UnconditionalConfig(), shape={"condition_size": 1})
    assert conditioned(run, {}, tokenizer=None, start_from=prior_file).conditioner == ClassLabelConfig()
    saved(prior_file)
    own = ClassLabelConfig(num_classes=3)
    assert conditioned(run, {}, tokenizer=None, start_from=prior_file).conditioner == own


def test_where_only_the_classes_change_other_conditions_keep_their_tokenizers(prior_file):
    maps = TokenizedImageConfig(codebook_size=8, tokenizer=DEPTH_TOKENIZER)
    config = SeveralConfig(conditioners=(ClassLabelConfig(num_classes=3, class_names=NAMES), maps))
    shape = {"condition_size": 11, "context_length": 3 + config.num_tokens((2, 2))}
    model = saved(prior_file, conditioner=config, shape=shape)
    run, names = msgspec.structs.replace(tiny.prior_run(), conditioner=config), {"class": ("a", "b")}
    moved = started_synthesizer(run, prior_file, names=names, images=None, seed=0, tokenizers={})
    assert moved.config.conditioner.conditioners == (
        ClassLabelConfig(num_classes=2, class_names=("a", "b")),
        maps,
    )
    assert model.conditioner.state_dict()
    assert_equal(moved.conditioner, model.conditioner.state_dict())


@pytest.mark.parametrize("positions", ["learned", "relative_bias"])
def test_a_prior_moves_to_another_condition_and_keeps_what_belongs_to_the_image(
    engine, prior_file, positions, caplog
):
    model, wanted = saved(prior_file, shape={"positions": positions}), EdgesConfig()
    run = dropping(msgspec.structs.replace(tiny.prior_run(), conditioner=wanted))
    with caplog.at_level(logging.WARNING):
        run, task = prior_task(engine, run, names=(), start_from=prior_file)
    config, old = task.synthesizer.config, model.config
    assert (run.conditioner, config.has_null_tokens) == (wanted, True)
    assert config.prior.context_length == old.prior.context_length - 1 + wanted.num_tokens((2, 2))
    new, stored = task.synthesizer.prior, model.prior
    assert torch.equal(new.token_embedding.weight[:16], stored.token_embedding.weight[:16])
    assert_equal(new.head, stored.head.state_dict())
    if positions == "learned":
        places = [each.transformer.positions[0, -4:] for each in (new, stored)]
        assert torch.equal(*places)
        assert not new.transformer.positions[0, :-4].any()
    else:
        tables = [each.transformer.blocks[0].attention.bias for each in (new, stored)]
        offsets = torch.tensor([[[0, 0], [1, 0], [1, -1], [0, 1]]])
        assert torch.equal(*(table(offsets) for table in tables))
    task.train_step([tiny.batch(2)], 0)


def test_a_prior_from_a_file_refuses_other_sizes(engine, prior_file):
    run = tiny.prior_run()
    large = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, image_size=(8, 16)))
    with pytest.raises(ConfigError, match=r"have a token grid of \(2, 4\), the prior reads \(2, 2\)"):
        prior_task(engine, large, start_from=prior_file)


def test_a_prior_needs_a_tokenizer_exactly_when_it_begins_anew(engine, file, prior_file):
    with pytest.raises(
        ConfigError, match="a prior is trained on a tokenizer's codes\nhint: give `tokenizer="
    ):
        prior_task(engine)
    with pytest.raises(ConfigError, match="brings its tokenizer along"):
        prior_task(engine, tokenizer=file, start_from=prior_file)
    with pytest.raises(CheckpointError, match="holds a tokenizer, expected a prior"):
        prior_task(engine, start_from=file)


def test_a_prior_from_a_file_has_the_dropout_of_the_run_and_says_whose_sizes_it_has(
    engine, prior_file, caplog
):
    run = tiny.prior_run()
    run = msgspec.structs.replace(run, prior=msgspec.structs.replace(run.prior, dropout=0.3, depth=2))
    with caplog.at_level(logging.INFO):
        recorded, task = prior_task(engine, run, start_from=prior_file)
    assert task.prior.config.dropout == recorded.prior.dropout == 0.3
    assert recorded.prior.depth == 1
    assert f"the model is that of `{prior_file}`" in caplog.text


def test_the_order_of_the_tokens_is_that_of_the_run_and_from_a_file_that_of_the_file(
    engine, file, prior_file, caplog
):
    run = msgspec.structs.replace(tiny.prior_run(), token_order="spiral_out")
    begun, task = prior_task(engine, run, tokenizer=file)
    assert task.synthesizer.config.token_order == begun.token_order == "spiral_out"
    shape = msgspec.structs.replace(run.prior, dropout=0.1)
    with caplog.at_level(logging.INFO):
        recorded, task = prior_task(engine, msgspec.structs.replace(run, prior=shape), start_from=prior_file)
    assert task.synthesizer.config.token_order == recorded.token_order == "raster"
    assert f"the model is that of `{prior_file}`, not that of the run's configuration" in caplog.text
    with pytest.raises(ConfigError, match="`token_order` is `zigzag`, expected a known order"):
        msgspec.structs.replace(run, token_order="zigzag")


def test_context_is_made_of_whole_cells_and_compared_with_what_the_tokenizer_sees(engine, file, caplog):
    def begin(context):
        data = msgspec.structs.replace(tiny.prior_run().data, context=context)
        return prior_task(engine, msgspec.structs.replace(tiny.prior_run(), data=data), tokenizer=file)

    with pytest.raises(ConfigError) as caught:
        begin(6)
    assert (
        caught.value.message
        == "`data.context` is 6, expected a multiple of the tokenizer's downsample factor 4"
    )
    assert caught.value.hint == "the next are 4 and 8"
    with caplog.at_level(logging.INFO):
        begin(8)
    assert "crops come with 8 pixels of context; the tokenizer's convolutions see 32" in caplog.text


@pytest.mark.parametrize("changes", [{"context": 4}, {"cached_codes": 4, "resize": None}])
def test_a_tokenizer_has_neither_context_nor_cached_codes(changes):
    run = to_mapping(tiny.tokenizer_run())
    with pytest.raises(ConfigError, match=rf"`data\.{next(iter(changes))}` is 4, expected 0"):
        run_from_mapping({**run, "data": {**run["data"], **changes}}, where="it")


def dropping(run, share=0.5):
    return msgspec.structs.replace(run, task=msgspec.structs.replace(run.task, condition_dropout=share))


def test_a_prior_that_learns_to_do_without_its_condition_has_a_null_token(engine, file):
    config = prior_task(engine, dropping(tiny.prior_run()), tokenizer=file)[1].synthesizer.config
    assert (config.prior.condition_size, config.has_null_tokens) == (4, True)
    config = prior_task(engine, tokenizer=file)[1].synthesizer.config
    assert (config.prior.condition_size, config.has_null_tokens) == (3, False)


def test_a_prior_from_a_file_without_null_tokens_cannot_begin_to_hide_its_condition(engine, prior_file):
    with pytest.raises(
        ConfigError, match=r"`task.condition_dropout` is 0.5, but the prior of .* no null tokens"
    ):
        prior_task(engine, dropping(tiny.prior_run()), names=("0", "1", "2"), start_from=prior_file)


def test_where_there_is_no_condition_there_is_nothing_to_hide():
    with pytest.raises(
        ConfigError, match=r"`task.condition_dropout` is 0.5, but there is no condition to hide"
    ):
        msgspec.structs.replace(dropping(tiny.prior_run()), conditioner=UnconditionalConfig())
