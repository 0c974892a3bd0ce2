import copy
import math

import msgspec
import pytest
import torch
from torch.testing import assert_close

import tiny
from vqgan.checkpoints.format import load_model
from vqgan.errors import ConfigError
from vqgan.evaluation.psnr import structural_similarity
from vqgan.images import to_uint8
from vqgan.nn import perceptual as perceptual_module
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig
from vqgan.tokenizer.quantizers.base import codebook_usage
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.codebook import CODEBOOK, USAGE_STEPS, count_codes
from vqgan.training.engine import Engine
from vqgan.training.losses import generator_objective, pixel_loss
from vqgan.training.tokenizer_task import PerceptualConfig, TokenizerTask, TokenizerTaskConfig
from vqgan.types import Batch

PLAIN = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER)
DISCRIMINATOR = DiscriminatorConfig(base_channels=4, num_layers=1)
EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(scope="module")
def engine():
    return Engine("cpu")


def make(engine, config=PLAIN, *, seed=0, precision=torch.float64, perceptual=None, **loop):
    """A task, always with the same initial weights, in float64: then what should be equal is."""
    tokenizer = tiny.tokenizer().to(precision)
    torch.manual_seed(1)
    how = {"loop": tiny.loop(**loop), "engine": engine, "seed": seed, "perceptual": perceptual}
    task = TokenizerTask(tokenizer, config, **how)
    for module in task.state.modules.values():
        module.to(precision)
    return task


def batch(count=4, precision=torch.float64, **settings):
    return in_precision(tiny.batch(count, **settings), precision)


def in_precision(whole, precision):
    return Batch(whole.images.to(precision), whole.condition, whole.sample)


def with_discriminator(**changes):
    discriminator = msgspec.structs.replace(DISCRIMINATOR, **changes)
    return msgspec.structs.replace(PLAIN, discriminator=discriminator)


def weights(module):
    return copy.deepcopy(module.state_dict())


def changed(module, before):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_without_discriminator_and_perceptual_network_it_is_a_vq_vae(engine):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, pixels="l2", codebook_weight=0.5)
    task, data = make(engine, config), batch()
    output = copy.deepcopy(task.tokenizer)(data.images)
    before = weights(task.tokenizer)
    measured = task.train_step([data], 0)
    reconstruction = (output.images - data.images).square().mean()
    assert_close(measured["reconstruction_loss"], reconstruction.detach(), **EXACT)
    assert_close(measured["loss"], (reconstruction + 0.5 * output.quantized.loss).detach(), **EXACT)
    assert measured["adaptive_weight"] == measured["adversarial_loss"] == 0
    assert measured["learning_rate"] == pytest.approx(1e-3)
    assert "discriminator_loss" not in measured
    assert task.state.modules.keys() == {"tokenizer"}
    assert changed(task.tokenizer, before) == before.keys()


@pytest.mark.parametrize("reseed_after", [None, 1])
def test_two_micro_batches_are_one_batch(engine, reseed_after):
    config = TokenizerTaskConfig(
        optimizer=tiny.OPTIMIZER, pixels="l1+l2", hard_share=0.1, reseed_after=reseed_after
    )
    whole, parts = make(engine, config), make(engine, config)
    for step in range(2):
        data = batch(first=4 * step, seed=step)
        one, two = whole.train_step([data], step), parts.train_step(tiny.split(data, 2), step)
        for name in ("loss", "reconstruction_loss", "quantizer_loss", "gradient_norm", "usage", "perplexity"):
            assert_close(one[name], two[name], rtol=1e-10, atol=1e-10, check_dtype=False)
    # Adam makes much of rounding errors in gradients that are nearly zero.
    for name, tensors in whole.state.tensors().items():
        for key, tensor in parts.state.tensors()[name].items():
            assert_close(tensors[key], tensor, rtol=1e-6, atol=1e-8, msg=lambda m, key=key: f"{key}: {m}")


def test_the_adaptive_weight_of_micro_batches_is_that_of_their_unscaled_losses(engine):
    task, data = make(engine, with_discriminator()), batch()
    parts = tiny.split(data, 2)
    expected = []
    for part in parts:
        tokenizer, discriminator = (
            copy.deepcopy(task.state.modules[name]) for name in ("tokenizer", "discriminator")
        )
        result = tokenizer(part.images)
        _, values, _ = generator_objective(
            result.images,
            distance=lambda images, part=part: pixel_loss(part.images, images, kind="l1"),
            auxiliary=result.quantized.loss,
            last_weight=tokenizer.decoder.last_weight,
            discriminator=discriminator,
            scale=0.8,
        )
        expected.append(values["adaptive_weight"])
    assert_close(task.train_step(parts, 0)["adaptive_weight"], torch.stack(expected).mean(), **EXACT)


def test_the_discriminator_learns_from_its_own_start_and_counts_from_that_of_the_tokenizer(engine):
    task = make(engine, with_discriminator(start=2, discriminator_start=1))
    discriminator = task.state.modules["discriminator"]
    for step, (learns, felt) in enumerate([(False, False), (True, False), (True, True)]):
        before = weights(discriminator)
        measured = task.train_step([batch(seed=step)], step)
        assert bool(changed(discriminator, before)) == learns == ("discriminator_loss" in measured)
        assert bool(measured["adaptive_weight"] != 0) == felt


def test_the_discriminator_learns_from_where_it_counts_unless_told_otherwise():
    config = with_discriminator(start=1).discriminator
    assert [config.is_trained(step) for step in range(3)] == [False, True, True]


@pytest.mark.parametrize("reconstruction", ["same", "updated"])
def test_the_discriminator_sees_the_reconstruction_of_the_tokenizer_before_or_after_its_step(
    engine, reconstruction, monkeypatch
):
    task, data = make(engine, with_discriminator(reconstruction=reconstruction)), batch()
    seen = []
    real = task.adversary.add_gradients
    monkeypatch.setattr(
        task.adversary,
        "add_gradients",
        lambda images, fake, *rest: seen.append(fake) or real(images, fake, *rest),
    )
    forwards = []
    task.tokenizer.register_forward_hook(lambda *arguments: forwards.append(1))
    before = copy.deepcopy(task.tokenizer)(data.images).images
    forwards.clear()
    task.train_step([data], 0)
    assert len(forwards) == (1 if reconstruction == "same" else 2)
    after = copy.deepcopy(task.tokenizer)(data.images).images
    expected = before if reconstruction == "same" else after
    assert_close(seen[0], expected.detach(), **EXACT)
    assert not torch.equal(before, after)


def test_the_discriminators_rate_is_a_share_of_the_tokenizers(engine):
    steps = []
    for share in (1.0, 0.5):
        task = make(engine, with_discriminator(learning_rate_share=share))
        discriminator = task.state.modules["discriminator"]
        before = discriminator.layers[0].weight.detach().clone()
        task.train_step([batch()], 0)
        steps.append(discriminator.layers[0].weight.detach() - before)
    assert_close(steps[1], 0.5 * steps[0], **EXACT)


def test_the_perceptual_distance_is_added_with_its_weight(engine, monkeypatch):
    monkeypatch.setattr(perceptual_module, "STAGES", ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)))
    network = PerceptualNetwork()
    torch.manual_seed(3)
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, 0, 0.3)
    network = network.double()
    data = batch(side=16)
    plain = make(engine).train_step([data], 0)["reconstruction_loss"]
    config = TokenizerTaskConfig(
        optimizer=tiny.OPTIMIZER, perceptual=PerceptualConfig(weight=0.25, weights="x")
    )
    task = make(engine, config, perceptual=network)
    distance = network(data.images, copy.deepcopy(task.tokenizer)(data.images).images).mean().detach()
    assert distance > 0
    assert_close(task.train_step([data], 0)["reconstruction_loss"], plain + 0.25 * distance, **EXACT)


def test_detail_is_the_share_of_the_finest_energy_that_is_left(engine):
    task, data = make(engine), batch(2)
    levels = [
        ((images.clamp(-1, 1) + 1) * 127.5).round()
        for images in (data.images, task.tokenizer(data.images).images.detach())
    ]
    energies = [
        sum(((a[..., 2:] - 2 * a[..., 1:-1] + a[..., :-2]) ** 2).sum() for a in (each, each.mT))
        for each in levels
    ]
    assert task.evaluate([data])["detail"] == pytest.approx(float(energies[1] / energies[0]), rel=1e-3)
    flat = Batch(torch.zeros_like(data.images), data.condition, data.sample)
    assert "detail" not in task.evaluate([flat])


@pytest.mark.parametrize("quantizer", [{}, {"gradient": "rotation"}, {"kind": "gumbel"}])
def test_where_only_the_decoder_is_trained_codes_stay_bit_for_bit(engine, quantizer):
    data = batch()
    config = msgspec.structs.replace(with_discriminator(), trained="decoder")
    tokenizer = tiny.tokenizer_config()
    if quantizer.pop("kind", None):
        tokenizer = msgspec.structs.replace(
            tokenizer, quantizer=GumbelQuantizerConfig(codebook_size=16, codebook_dim=4)
        )
    else:
        tokenizer = tiny.tokenizer_config(**quantizer)
    torch.manual_seed(0)
    how = {"loop": tiny.loop(ema_decay=0.9), "engine": engine, "seed": 0}
    task = TokenizerTask(Tokenizer(tokenizer).double(), config, **how)
    task.adversary.network.double()
    before = weights(task.tokenizer)
    codes = copy.deepcopy(task.tokenizer).eval().encode(data.images)
    for step in range(3):
        assert task.train_step([data], step)["adaptive_weight"] > 0
    moved = changed(task.tokenizer, before)
    assert moved == {name for name in before if name.startswith(("decoder.", "from_codebook."))}
    for name, average in task.state.averages.items():
        assert torch.equal(average, before[name]) == (name not in moved)
    assert torch.equal(task.tokenizer.eval().encode(data.images), codes)


def test_what_changes_a_codebook_is_refused_where_only_the_decoder_is_trained():
    for name, value in (("reseed_after", 5), ("codebook_decay", 0.9)):
        with pytest.raises(ConfigError, match=f"but `{name}` = {value} changes the codebook") as caught:
            TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, trained="decoder", **{name: value})
        assert caught.value.hint == f"set `task.{name}=null`"


def make_one_code_dead(task):
    """The last code is out of reach of every latent."""
    with torch.no_grad():
        task.tokenizer.get_parameter(CODEBOOK)[-1] = 1000.0
        if task.state.averages:
            task.state.averages[CODEBOOK][-1] = 1000.0


def test_dead_codes_are_replaced_by_latents_with_average_and_moments(engine):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, reseed_after=2, reseed_until=1.0)
    task = make(engine, config, ema_decay=0.9)
    make_one_code_dead(task)
    for step in range(2):
        assert task.tokenizer.get_parameter(CODEBOOK)[-1, 0] > 900
        data = batch(seed=step)
        latents = copy.deepcopy(task.tokenizer).latents(data.images).detach()
        task.train_step([data], step)
    codebook = task.tokenizer.get_parameter(CODEBOOK).detach()
    candidates = latents.permute(0, 2, 3, 1).flatten(0, 2)
    assert (candidates == codebook[-1]).all(dim=1).any()
    assert torch.equal(task.state.averages[CODEBOOK][-1], codebook[-1])
    moments = task.state.optimizers["tokenizer"].tensors()
    for key in ("exp_avg", "exp_avg_sq"):
        assert moments[f"{CODEBOOK}|{key}"][-1].count_nonzero() == 0
        assert moments[f"{CODEBOOK}|{key}"].count_nonzero() > 0
    assert task.state.counters["unused"][-1] == 0


def test_re_seeding_draws_from_the_runs_seed_and_the_step(engine):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, reseed_after=1, reseed_until=1.0)

    def codebook(seed, step):
        task = make(engine, config, seed=seed)
        make_one_code_dead(task)
        torch.manual_seed(step)  # whatever chance has been before
        task.train_step([batch()], step)
        return task.tokenizer.get_parameter(CODEBOOK).detach()

    assert torch.equal(codebook(0, 3), codebook(0, 3))
    assert not torch.equal(codebook(0, 3), codebook(1, 3))
    assert not torch.equal(codebook(0, 3), codebook(0, 4))


def test_towards_the_end_no_code_is_replaced_any_more(engine):
    config = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, reseed_after=1, reseed_until=0.5)
    for step, replaced in ((1, True), (2, False)):
        task = make(engine, config)
        assert task.loop.steps == 4
        make_one_code_dead(task)
        task.train_step([batch()], step)
        assert bool(task.tokenizer.get_parameter(CODEBOOK)[-1, 0] < 900) == replaced


def test_without_re_seeding_dead_codes_stay(engine):
    task = make(engine)
    make_one_code_dead(task)
    for step in range(3):
        task.train_step([batch(seed=step)], step)
    assert task.tokenizer.get_parameter(CODEBOOK)[-1, 0] > 900


@pytest.mark.parametrize("reconstruction", ["same", "updated"])
def test_an_image_that_is_not_finite_touches_nothing_and_is_noticed(engine, reconstruction):
    config = msgspec.structs.replace(with_discriminator(reconstruction=reconstruction), reseed_after=1)
    task, data = make(engine, config, ema_decay=0.9), batch()
    task.train_step([data], 0)
    before = copy.deepcopy(task.state.tensors())
    assert task.state.skipped == 0
    data.images[0, 0, 0, 0] = math.nan
    measured = task.train_step([data], 1)
    assert measured["loss"].isnan()
    assert task.state.skipped == 1
    for file, tensors in task.state.tensors().items():
        assert all(torch.equal(tensors[name], tensor) for name, tensor in before[file].items())


def test_the_average_follows_the_tokenizer(engine):
    task = make(engine, ema_decay=0.9)
    before = task.state.averages["to_codebook.weight"].clone()
    task.train_step([batch()], 0)
    expected = 0.1 * before + 0.9 * task.tokenizer.to_codebook.weight.detach()
    assert_close(task.state.averages["to_codebook.weight"], expected, **EXACT)


def test_held_out_metrics_and_pictures_are_those_of_the_averaged_weights(engine):
    task, data = make(engine, ema_decay=0.9), batch(2)
    task.train_step([batch(seed=3)], 0)
    averaged = tiny.tokenizer().double().eval()
    averaged.load_state_dict(task.state.averages)
    with torch.no_grad():
        output = averaged(data.images)
    levels = [((images.clamp(-1, 1) + 1) * 127.5).round() for images in (data.images, output.images)]
    error = (levels[0] - levels[1]).square().mean()
    held_out = task.evaluate([data])
    assert held_out["psnr"] == pytest.approx(10 * math.log10(255**2 / float(error)), abs=1e-2)
    assert held_out["usage"] == len(output.quantized.indices.unique()) / tiny.CODES
    pictures = task.pictures(data, lambda progress: None)["reconstructions"]
    assert_close(pictures, torch.cat([data.images, output.images]), **EXACT)
    assert task.tokenizer.training
    assert task.evaluate([]) == {}


def test_ssim_and_the_perceptual_distance_are_means_over_held_out_images(engine):
    def distance(images, others):
        return (images - others).abs().amax(dim=(1, 2, 3))

    config = msgspec.structs.replace(PLAIN, perceptual=PerceptualConfig(weights="x"))
    task, data = make(engine, config, perceptual=distance), batch(4, side=16)
    with torch.no_grad():
        images = task.tokenizer.eval()(data.images).images
    held_out = task.evaluate([Batch(part, {}, data.sample[:2]) for part in data.images.split(2)])
    levels = [to_uint8(each).movedim(3, 1).double() for each in (data.images, images)]
    assert held_out["ssim"] == pytest.approx(float(structural_similarity(*levels).mean()), abs=1e-5)
    assert held_out["perceptual"] == pytest.approx(float(distance(data.images, images).mean()))
    # 8 pixels do not hold SSIM's window.
    assert make(engine).evaluate([batch(2)]).keys() == {"psnr", "detail", "usage", "perplexity"}


@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_file_holds_the_averaged_weights_if_there_are_any(engine, tmp_path, decay):
    task = make(engine, precision=torch.float32, ema_decay=decay)
    task.train_step([batch(precision=torch.float32)], 0)
    task.state.export(tmp_path / "tokenizer.safetensors", 1, task.state.tensors())
    model, header = load_model(tmp_path / "tokenizer.safetensors")
    assert (header.step, header.weights) == (1, "ema" if decay else "raw")
    expected = task.state.averages if decay else task.tokenizer.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_half_precision_computes_and_weights_stay_fp32():
    task = make(Engine("cpu", "bf16"), with_discriminator(), precision=torch.float32)
    measured = task.train_step([batch(2, precision=torch.float32)], 0)
    assert all(value.isfinite().all() for value in measured.values())
    assert {parameter.dtype for parameter in task.tokenizer.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (TokenizerTaskConfig, {"hard_share": 1.0}, "`hard_share` is 1.0"),
        (TokenizerTaskConfig, {"codebook_weight": -1.0}, "`codebook_weight` is -1.0"),
        (TokenizerTaskConfig, {"reseed_after": 0}, "`reseed_after` is 0, expected at least 1, or none"),
        (TokenizerTaskConfig, {"reseed_until": 1.5}, "`reseed_until` is 1.5, expected 0 to 1"),
        (DiscriminatorConfig, {"start": -1}, "`start` is -1"),
        (
            DiscriminatorConfig,
            {"start": 2, "discriminator_start": 3},
            "`discriminator_start` is 3, expected 0 to `start` = 2",
        ),
        (DiscriminatorConfig, {"weight": 0.0}, "`weight` is 0.0, expected a number above 0"),
        (DiscriminatorConfig, {"learning_rate_share": -1.0}, "`learning_rate_share` is -1.0"),
        (DiscriminatorConfig, {"num_layers": 0}, "`num_layers` is 0"),
        (PerceptualConfig, {"weight": 0.0}, "`weight` is 0.0"),
    ],
)
def test_impossible_settings_are_refused(kind, changes, message):
    with pytest.raises(ConfigError, match=message):
        kind(**({"optimizer": tiny.OPTIMIZER} if kind is TokenizerTaskConfig else {}), **changes)


def counters(codebook_size):
    unused = torch.zeros(codebook_size, dtype=torch.int64)
    return {"unused": unused, "unseen": torch.full_like(unused, USAGE_STEPS)}


def count(counters, *counts):
    return count_codes(counters, torch.tensor(counts))


def test_perplexity_is_that_of_the_step_and_usage_that_of_the_last_steps():
    codes = counters(4)
    first = count(codes, 3, 1, 0, 0)
    assert first["usage"] == 0.5
    assert first["perplexity"] == codebook_usage(torch.tensor([3, 1, 0, 0]))[1]
    second = count(codes, 0, 0, 2, 0)
    assert second["usage"] == 0.75
    assert float(second["perplexity"]) == pytest.approx(1)


def test_a_code_that_did_not_occur_for_long_no_longer_counts_as_used():
    codes = counters(2)
    count(codes, 1, 1)
    for _ in range(USAGE_STEPS - 1):
        assert count(codes, 1, 0)["usage"] == 1
    assert count(codes, 1, 0)["usage"] == 0.5


def test_codes_die_after_the_given_steps_and_being_re_seeded_gives_them_new_time():
    codes = counters(3)
    count(codes, 1, 1, 0)
    count(codes, 1, 0, 0)
    assert codes["unused"].tolist() == [0, 1, 2]
    codes["unused"][2] = 0  # re-seeded, which is not being used
    assert float(count(codes, 1, 0, 0)["usage"]) == pytest.approx(2 / 3)
    assert codes["unused"].tolist() == [0, 2, 1]
