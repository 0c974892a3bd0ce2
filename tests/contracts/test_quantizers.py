"""What every quantizer promises."""

import typing

import msgspec
import pytest
import torch
from torch.testing import assert_close

import tiny
from examples import example
from vqgan.checkpoints.format import load_model, save_model
from vqgan.cli.main import main
from vqgan.config import from_mapping, to_mapping
from vqgan.errors import CheckpointError, ConfigError
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers import QuantizerConfig, RemapConfig, build_quantizer
from vqgan.training.engine import Engine
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig

MEMBERS = typing.get_args(QuantizerConfig) or (QuantizerConfig,)


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__struct_config__.tag)
def config(request, tmp_path):
    return example(request.param, tmp_path)


@pytest.fixture
def quantizer(config):
    torch.manual_seed(0)
    return build_quantizer(config).eval()


@pytest.fixture
def latents(config):
    return torch.randn(2, config.codebook_dim, 3, 5, generator=torch.Generator().manual_seed(1))


def test_its_configuration_names_its_kind_and_survives_plain_mappings(config):
    mapping = to_mapping(config)
    assert mapping["kind"] == type(config).__struct_config__.tag
    assert from_mapping(mapping, QuantizerConfig) == config


def test_encoding_is_repeatable_and_within_the_codebook(quantizer, latents):
    indices = quantizer.encode(latents)
    assert indices.shape == (2, 3, 5)
    assert indices.dtype == torch.int64
    assert indices.min() >= 0
    assert indices.max() < quantizer.codebook_size
    assert torch.equal(indices, quantizer.encode(latents))


def test_lookup_inverts_forward(quantizer, latents):
    result = quantizer(latents)
    assert torch.equal(result.indices, quantizer.encode(latents))
    assert_close(quantizer.lookup(result.indices), result.quantized)


def test_lookup_gives_the_codebook_vectors(quantizer):
    vectors = quantizer.codebook_vectors()
    assert vectors.shape == (quantizer.codebook_size, quantizer.codebook_dim)
    looked_up = quantizer.lookup(torch.arange(quantizer.codebook_size).view(1, 1, -1))
    assert torch.equal(looked_up[0, :, 0].T, vectors)


def test_gradients_reach_the_latents_and_the_codebook(quantizer, latents):
    latents.requires_grad_()
    result = quantizer(latents)
    (result.quantized.sum() + result.loss).backward()
    assert latents.grad.abs().sum() > 0
    assert sum(p.grad.abs().sum() for p in quantizer.parameters() if p.grad is not None) > 0


def test_reseeding_replaces_the_dead_vectors_alone(quantizer, latents):
    if not quantizer.can_reseed:
        pytest.skip("it says so")
    before = quantizer.codebook_vectors().detach().clone()
    dead = torch.arange(quantizer.codebook_size) % 3 == 0
    quantizer.reseed(latents, dead, torch.Generator().manual_seed(0))
    changed = (quantizer.codebook_vectors() != before).any(dim=1)
    assert torch.equal(changed, dead)


def test_a_quantizer_that_cannot_reseed_says_so(config, latents):
    remapped = build_quantizer(msgspec.structs.replace(config, remap=RemapConfig(num_used=3)))
    for quantizer in (build_quantizer(config), remapped):
        if not quantizer.can_reseed:
            dead = torch.ones(quantizer.codebook_size, dtype=torch.bool)
            with pytest.raises(ConfigError, match="cannot be re-seeded") as caught:
                quantizer.reseed(latents, dead, torch.Generator())
            assert "task.reseed_after=null" in caught.value.hint
    assert not remapped.can_reseed


USED = (9, 2, 14, 5, 0)


def remapped(config, unknown):
    """Five of the 16 codes, in an order of their own, with the weights of ``build_quantizer(config)``."""
    torch.manual_seed(0)
    whole = build_quantizer(config).eval()
    few = build_quantizer(msgspec.structs.replace(config, remap=RemapConfig(num_used=5, unknown=unknown)))
    few.load_state_dict({**whole.state_dict(), "used": torch.tensor(USED)})
    return whole, few.eval()


@pytest.mark.parametrize(("unknown", "size"), [("random", 5), ("extra", 6), (3, 5)])
def test_a_remapped_codebook_is_as_large_as_its_indices(config, latents, unknown, size):
    whole, few = remapped(config, unknown)
    vectors, rows = whole.codebook_vectors(), [*USED, USED[0]][:size]
    assert few.config.num_codes == few.codebook_size == size
    assert torch.equal(few.codebook_vectors(), vectors[rows])
    indices = few.encode(latents)
    assert indices.min() >= 0
    assert indices.max() < size
    assert torch.equal(indices, few.encode(latents))
    assert torch.equal(few(latents).indices, indices)
    assert few.lookup(indices).shape == latents.shape
    mapping = to_mapping(few.config)
    assert from_mapping(mapping, QuantizerConfig) == few.config


def test_a_remap_that_keeps_all_codes_changes_nothing(config, latents):
    torch.manual_seed(0)
    whole = build_quantizer(config).eval()
    same = build_quantizer(msgspec.structs.replace(config, remap=RemapConfig(num_used=16))).eval()
    same.load_state_dict({**whole.state_dict(), "used": torch.arange(16)})
    result, expected = same(latents), whole(latents)
    assert torch.equal(result.indices, expected.indices)
    assert_close(result.quantized, expected.quantized)
    assert_close(result.loss, expected.loss)


def test_the_codes_in_use_are_a_tensor_of_the_file_and_nothing_else_is_added(config):
    whole, few = remapped(config, "random")
    assert set(few.state_dict()) == {*whole.state_dict(), "used"}
    assert few.state_dict()["used"].dtype == torch.int64
    assert few.to(torch.bfloat16).used.tolist() == list(USED)


@pytest.mark.parametrize("used", [[0, 1, 2, 3, 16], [-1, 1, 2, 3, 4], [0, 1, 2, 3, 3]])
def test_codes_in_use_that_the_table_has_not_are_refused(config, used):
    _, few = remapped(config, "random")
    with pytest.raises(CheckpointError, match="expected different ones from 0 to 15") as caught:
        few.load_state_dict({**few.state_dict(), "used": torch.tensor(used)})
    assert "damaged" in caught.value.hint


def test_no_more_codes_can_be_in_use_than_there_are(config):
    with pytest.raises(ConfigError, match=r"`remap.num_used` is 17, expected at most the 16 codes"):
        msgspec.structs.replace(config, remap=RemapConfig(num_used=17))


@pytest.fixture(params=[None, RemapConfig(num_used=5, unknown="extra")], ids=["whole", "remapped"])
def tokenizer(request, config):
    torch.manual_seed(0)
    quantizer = msgspec.structs.replace(config, remap=request.param)
    return Tokenizer(msgspec.structs.replace(tiny.tokenizer_config(), quantizer=quantizer))


def task(tokenizer, **settings):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, **settings)
    return TokenizerTask(tokenizer, config, loop=tiny.loop(ema_decay=0.9), engine=Engine("cpu"), seed=0)


def test_a_tokenizer_with_it_is_trained_and_measured(tokenizer):
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    training = task(tokenizer)
    measured = training.train_step([tiny.batch(4)], 0)
    assert measured["loss"].isfinite()
    assert measured["quantizer_loss"].isfinite()
    changed = {
        name for name, tensor in tokenizer.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {name for name, _ in tokenizer.named_parameters()}
    numbers = [training.evaluate([tiny.batch(4)]) for _ in range(2)]
    assert numbers[0] == numbers[1]
    assert 0 < numbers[0]["usage"] <= 1


def test_re_seeding_is_done_or_refused_before_training_begins(tokenizer):
    if tokenizer.quantizer.can_reseed:
        training = task(tokenizer, reseed_after=1, reseed_until=1.0)
        training.train_step([tiny.batch(1)], 0)
        assert training.state.counters["unused"].max() == 0
    else:
        with pytest.raises(ConfigError, match="`reseed_after` is 7, but the codes of this") as caught:
            task(tokenizer, reseed_after=7)
        assert caught.value.hint == 'leave it out: `overrides=["task.reseed_after=null"]`'


def test_a_file_brings_it_back_and_info_tells_its_codes(tokenizer, tmp_path, capsys):
    if tokenizer.quantizer.remap is not None:
        tokenizer.quantizer.used.copy_(torch.tensor(USED))
    path = tmp_path / "tokenizer.safetensors"
    save_model(tokenizer, path)
    loaded, _ = load_model(path)
    images = tiny.images(3)
    codes = loaded.encode(images)
    assert loaded.config == tokenizer.config
    assert torch.equal(codes, tokenizer.eval().encode(images))
    assert torch.equal(loaded.decode(codes), tokenizer.decode(codes))
    assert main(["info", str(path)]) == 0
    assert f"codebook    {tokenizer.quantizer.codebook_size} codes, " in capsys.readouterr().out


def test_a_prior_predicts_the_indices_that_are_seen_from_outside(tokenizer):
    size, whole = tokenizer.codebook_size, tiny.synthesizer_config()
    sizes = msgspec.structs.replace(whole.prior, codebook_size=size)
    config = msgspec.structs.replace(whole, tokenizer=tokenizer.config, prior=sizes)
    images = Synthesizer(config).eval().sample(2, condition={"class": [0, 1]})
    assert images.shape == (2, 1, 8, 8)
    with pytest.raises(ConfigError, match=f"expected the tokenizer's {size}"):
        msgspec.structs.replace(
            whole, tokenizer=tokenizer.config, prior=msgspec.structs.replace(sizes, codebook_size=size + 1)
        )
    with pytest.raises(ConfigError, match=f"the codebook has 0 to {size - 1}"):
        tokenizer.decode(torch.full((1, 2, 2), size))
