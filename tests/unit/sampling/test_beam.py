"""Continuations of each image, of which a judge chooses after each block of rows."""

import msgspec
import pytest
import torch

import tiny
import vqgan
from vqgan.conditioning import ClassLabelConfig
from vqgan.errors import ConfigError
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.sampling import GridNoise, SamplingSettings, fill
from vqgan.sampling.settings import choose_tokens
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig, VectorQuantizerConfig

ROWS, COLUMNS, CODES = 4, 2, 6


def config(**changes):
    """Pixels are tokens: code c is the grey of c; 4x2 tokens of three classes."""
    parts = {
        "tokenizer": TokenizerConfig(
            autoencoder=None, quantizer=VectorQuantizerConfig(codebook_size=CODES, codebook_dim=1)
        ),
        "conditioner": ClassLabelConfig(num_classes=3),
        "prior": PriorConfig(
            codebook_size=CODES,
            condition_size=4,
            context_length=ROWS * COLUMNS,
            depth=2,
            width=8,
            num_heads=2,
        ),
        "window": (ROWS, COLUMNS),
    }
    return SynthesizerConfig(**{**parts, **changes})


def build(**changes):
    model = tiny.random_synthesizer(config(**changes))
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer.quantizer.codebook.weight.data = torch.linspace(-1, 1, CODES).double()[:, None]
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def codes_of(images):
    return ((images[:, 0] + 1) / 2 * (CODES - 1)).round().long()


def fours(images):
    """Counts the pixels of code 4; grey, which stands below what is drawn, is no code."""
    return ((images[:, 0] - (2 * 4 / (CODES - 1) - 1)).abs() < 1e-6).double().sum(dim=(1, 2))


def by_hand(model, classes, seed, width, rows, guidance=0.0, judge=fours):
    """The rule as one reads it: no cache, no batch; of each block every continuation is drawn from the same start."""
    drawn = []
    for number, label in enumerate(classes):
        settings = SamplingSettings(seed=seed + number, guidance=guidance)
        grid = torch.zeros(1, ROWS, COLUMNS, dtype=torch.int64)
        for top in range(0, ROWS, rows):
            tried = []
            for continuation in range(width):
                noise = GridNoise(
                    seed=seed + number,
                    count=1,
                    grid=(ROWS, COLUMNS),
                    codebook_size=CODES,
                    device=grid.device,
                    purpose=-continuation,
                )
                own, bottom = grid.clone(), min(ROWS, top + rows)
                for cell in range(top * COLUMNS, bottom * COLUMNS):
                    branches = [label, 3] if guidance else [label]
                    logits = [
                        model.prior(own.flatten(1), torch.tensor([[each]]))[:, cell] for each in branches
                    ]
                    where = divmod(cell, COLUMNS)
                    chosen = choose_tokens(
                        torch.cat(logits), settings, noise.at(*where), place=cell, of=ROWS * COLUMNS
                    )
                    own[0, where[0], where[1]] = chosen[0]
                shown = torch.zeros(1, 1, ROWS, COLUMNS, dtype=torch.float64)
                shown[:, :, :bottom] = model.tokenizer.decode(own)[:, :, :bottom]
                tried.append((float(judge(shown)), -continuation, own))
            grid = max(tried, key=lambda each: each[:2])[2]
        drawn.append(grid)
    return torch.cat(drawn)


@pytest.mark.parametrize(("width", "rows", "guidance"), [(3, 1, 0.0), (2, 3, 0.0), (3, 2, 1.5)])
def test_the_best_continuation_of_each_block_goes_on(model, width, rows, guidance):
    classes = [0, 2]
    beam = vqgan.Beam(fours, width, rows)
    drawn = model.sample(2, condition={"class": classes}, seed=5, guidance=guidance, beam=beam)
    assert torch.equal(codes_of(drawn), by_hand(model, classes, 5, width, rows, guidance))
    assert not torch.equal(drawn, model.sample(2, condition={"class": classes}, seed=5, guidance=guidance))
    blocks = -(-ROWS // rows)
    assert (len(beam.seconds), len(beam.kept), len(beam.all)) == (blocks, blocks * 2, blocks * 2 * width)
    assert min(beam.seconds) > 0
    for block in range(blocks):
        scores = torch.tensor(beam.all).view(blocks, width, 2)[block]
        assert beam.kept[2 * block : 2 * block + 2] == scores.amax(dim=0).tolist()
    assert beam.kept[-2:] == fours(drawn).tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_same_continuations_go_on():
    one, other = (
        build().to(device).sample(2, condition={"class": [0, 2]}, seed=5, beam=vqgan.Beam(fours, 3, 1)).cpu()
        for device in ("cpu", "cuda")
    )
    assert torch.equal(codes_of(one), codes_of(other))


def test_one_continuation_draws_as_without_a_judge_whatever_it_says(model):
    plain = model.sample(4, condition={"class": 1}, seed=3)
    assert torch.equal(plain, model.sample(4, condition={"class": 1}, seed=3, beam=vqgan.Beam(fours, 1)))
    # The first of equal continuations goes on: it has the noise that is used without a beam.
    same = vqgan.Beam(lambda images: images.new_zeros(len(images)), 3, 1)
    assert torch.equal(plain, model.sample(4, condition={"class": 1}, seed=3, beam=same))


def test_more_continuations_have_better_scores(model):
    scores = [
        float(fours(model.sample(16, condition={"class": 0}, beam=vqgan.Beam(fours, width, 1))).mean())
        for width in (1, 4, 32)
    ]
    assert scores[0] + 1 < scores[1]
    assert scores[1] + 1 < scores[2] <= ROWS * COLUMNS


def test_images_are_those_of_their_seeds_in_any_batch_and_memory(model, monkeypatch):
    classes, seen = [0, 1, 2, 0, 1], []
    whole = model.sample(5, condition={"class": classes}, seed=9, beam=vqgan.Beam(fours, 3, 1))
    monkeypatch.setattr(fill, "_plan", lambda *given: seen.append(given[-1]) or (None, 2))
    beam = vqgan.Beam(lambda images: seen.append(len(images)) or fours(images), 3, 1)
    frugal = model.sample(5, condition={"class": classes}, seed=9, beam=beam, memory=6 * 10**8)
    assert torch.equal(frugal, whole)
    # Half of the memory is for the judge's images; each image that is drawn takes that of three.
    assert seen == [10**8] + [6] * 2 * ROWS + [3] * ROWS
    single = model.sample(1, condition={"class": 2}, seed=11, beam=vqgan.Beam(fours, 3, 1))
    assert torch.equal(single, whole[2:3])


def test_each_image_may_have_a_judge_of_its_own(model):
    judges = [fours, lambda images: -fours(images)]
    drawn = model.sample(2, condition={"class": 0}, seed=5, beam=vqgan.Beam(judges, 8, 1))
    for number, judge in enumerate(judges):
        alone = model.sample(1, condition={"class": 0}, seed=5 + number, beam=vqgan.Beam(judge, 8, 1))
        assert torch.equal(drawn[number : number + 1], alone)
    assert fours(drawn)[0] > 3
    assert fours(drawn)[1] == 0


def test_a_judge_sees_the_drawn_rows_above_grey_in_the_final_size():
    model = tiny.random_synthesizer(tiny.synthesizer_config())
    seen = []
    drawn = model.sample(
        2,
        condition={"class": 0},
        beam=vqgan.Beam(lambda images: seen.append(images) or images.sum((1, 2, 3)), 2, 1),
    )
    assert [images.shape for images in seen] == [(4, 1, 8, 8)] * 2
    assert (seen[0][:, :, 4:] == 0).all()
    assert (seen[0][:, :, :4] != 0).any()
    assert all(any(torch.allclose(each, one) for one in seen[1]) for each in drawn)


def test_every_second_row_may_be_drawn_backwards():
    model = build(token_order="alternate")
    plain, best = (
        fours(model.sample(8, condition={"class": 0}, beam=vqgan.Beam(fours, width, 1))).mean()
        for width in (1, 16)
    )
    assert best > plain + 2


def local():
    span = LocalSpan(rows=1, columns=1)
    return build(prior=msgspec.structs.replace(config().prior, span=span, positions="relative_bias"))


@pytest.mark.parametrize(
    ("make", "settings", "says"),
    [
        (local, {}, "full attention, the span of this prior is local"),
        (lambda: build(token_order="z_curve"), {}, "row after row, this prior's order is `z_curve`"),
        (
            build,
            {"size": (ROWS + 1, COLUMNS)},
            "images that the prior sees whole, on larger ones its window slides",
        ),
        (build, {"jacobi": 2}, "tokens that are drawn one by one, `jacobi` guesses them"),
        (build, {"temperature": 0.0}, "chance, at `temperature` 0 all continuations are the same"),
    ],
)
def test_what_cannot_be_drawn_with_a_beam_is_refused(make, settings, says):
    model = make()
    with pytest.raises(ConfigError, match=f"a beam needs {says}\nhint: keep the best of many images instead"):
        model.sample(2, condition={"class": 0}, beam=vqgan.Beam(fours, 2), **settings)


def test_numbers_and_judges_that_do_not_fit_are_refused(model):
    with pytest.raises(ConfigError, match="the beam's `width` is 0, expected a whole number of at least 1"):
        vqgan.Beam(fours, 0)
    with pytest.raises(ConfigError, match="the beam's `rows` is 0, expected"):
        vqgan.Beam(fours, 2, 0)
    with pytest.raises(
        ConfigError, match="there are 3 judges for 2 images\nhint: give one for all, or one for each"
    ):
        model.sample(2, condition={"class": 0}, beam=vqgan.Beam([fours] * 3, 2))
    with pytest.raises(ConfigError, match="for 4 images, expected a number for each"):
        model.sample(2, condition={"class": 0}, beam=vqgan.Beam(lambda images: images, 2))
