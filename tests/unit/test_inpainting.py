"""Kept pixels come back as they are, what a hole held plays no part, and its border fades."""

import msgspec
import pytest
import torch

import tiny
from vqgan import inpaint, inpainting
from vqgan.conditioning import UnconditionalConfig
from vqgan.errors import ConfigError
from vqgan.inpainting import fill_holes, known_tokens, least_likely
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.synthesizer import SynthesizerConfig
from vqgan.tokenizer import TokenizerConfig


def make(**changes):
    """4x4 pixels a token; a token sees two rows above and two columns beside."""
    torch.manual_seed(0)
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=1,
        context_length=200,
        depth=1,
        width=8,
        num_heads=2,
        positions="rotary",
        span=LocalSpan(rows=2, columns=2),
    )
    tokenizer = tiny.tokenizer_config()
    config = SynthesizerConfig(
        tokenizer=tokenizer, conditioner=UnconditionalConfig(), prior=prior, window=(2, 2)
    )
    return tiny.random_synthesizer(msgspec.structs.replace(config, **changes))


@pytest.fixture(scope="module")
def model():
    return make()


def picture(count=2):
    return torch.rand(count, 1, 32, 40, generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def mask(count=2):
    """A hole of 9x11 pixels, and in the second image one pixel more."""
    kept = torch.ones(count, 32, 40, dtype=torch.bool)
    kept[:, 10:19, 15:26] = False
    kept[1:, 31, 0] = False
    return kept


def test_kept_pixels_come_back_exactly(model):
    images, kept = picture(), mask()
    found = inpaint(model, images, kept, seed=3)
    keeps = kept[:, None]
    assert torch.equal(found[keeps], images[keeps])
    assert not torch.equal(found[~keeps], images[~keeps])
    assert not torch.equal(found[~keeps], inpaint(model, images, kept, seed=4)[~keeps])
    decoded = inpaint(model, images, kept, seed=3, paste=False, margin=0)
    assert not torch.equal(decoded[keeps], images[keeps])
    deep = torch.zeros_like(keeps)
    deep[:, :, 14:15, 19:22] = True  # at least 5 pixels from what is kept: a token has 4
    assert torch.equal(found[deep], decoded[deep])
    assert not torch.equal(found[~keeps], decoded[~keeps])


def test_what_the_hole_held_plays_no_part(model):
    images, kept = picture(), mask()
    other = torch.where(kept[:, None], images, -images.flip(3))
    assert not torch.equal(other, images)
    for paste in (True, False):
        found, again = (inpaint(model, each, kept, paste=paste, refine=1) for each in (images, other))
        assert torch.equal(found, again)


@pytest.mark.parametrize("margin", [0, 1, 2])
def test_tokens_within_the_margin_are_drawn_too(model, margin, monkeypatch):
    seen = []
    complete = model.complete
    monkeypatch.setattr(
        model,
        "complete",
        lambda images, known, *rest, **more: seen.append(known) or complete(images, known, *rest, **more),
    )
    inpaint(model, picture(1), mask(1), margin=margin)
    rows, columns = slice(2 - margin, 5 + margin), slice(3 - margin, 7 + margin)
    expected = torch.ones(1, 8, 10, dtype=torch.bool)
    expected[:, rows, columns] = False
    assert torch.equal(seen[0], expected)
    if margin < 2:
        inpaint(model, picture(1), mask(1), paste=margin == 0)  # the defaults
        assert torch.equal(seen[1], expected)


def test_the_step_at_the_border_of_a_hole_fades_out_inside():
    kept = torch.ones(1, 9, 30, dtype=torch.bool)
    kept[:, :, 10:] = False
    found = inpainting._pasted(torch.full((1, 1, 9, 30), 0.5), torch.zeros(1, 1, 9, 30), kept, 4)
    assert found[0, 0, 4, :10].tolist() == [0.5] * 10
    steps = 0.5 * torch.tensor([0.8, 0.6, 0.4, 0.2])
    torch.testing.assert_close(found[0, 0, 4, 10:14], steps)
    assert not found[0, 0, :, 14:].any()


def test_a_hole_is_filled_from_around():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 48, 64)
    kept = torch.ones(1, 48, 64, dtype=torch.bool)
    kept[:, 10:30, 20:40] = False
    damaged = torch.where(kept[:, None], ramp, torch.nan)
    filled = fill_holes(damaged, kept)
    assert torch.equal(filled[kept[:, None].expand_as(filled)], ramp[kept[:, None].expand_as(filled)])
    assert float((filled - ramp).abs().max()) < 0.2  # the hole is 0.63 wide
    assert float((fill_holes(damaged, kept & (kept.cumsum(2) < 21)) - filled).abs().max()) > 0.2
    assert not fill_holes(damaged, torch.zeros_like(kept)).any()


def test_pixels_that_are_tokens_need_no_margin():
    quantizer = msgspec.structs.replace(tiny.tokenizer_config().quantizer, codebook_dim=1)
    model = make(tokenizer=TokenizerConfig(autoencoder=None, quantizer=quantizer))
    images, kept = picture(1)[:, :, :6, :7].contiguous(), torch.ones(1, 6, 7, dtype=torch.bool)
    kept[:, 2, 3] = False
    found, plain = inpaint(model, images, kept, paste=False), model.reconstruct(images)
    assert torch.equal(found[kept[:, None]], plain[kept[:, None]])


def test_the_least_likely_tokens_are_masked_out(model):
    images = picture()
    scores = model.log_probability(images).detach().view(2, 8, 10)
    kept = least_likely(model, images, 0.05)
    cells = known_tokens(kept, 4, 0)
    assert torch.equal(kept, cells.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert (~cells).flatten(1).sum(1).tolist() == [4, 4]
    for each, known in zip(scores, cells, strict=True):
        assert float(each[~known].max()) < float(each[known].min())
    assert not least_likely(model, images, 1.0).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -1}, "`margin` is -1, expected a whole number of at least 0\nhint: it counts tokens"),
        (
            {"refine": 1, "guidance": 2.0},
            "`refine` is not possible with `guidance`\nhint: omit one of the two",
        ),
        ({"refine": -1}, "`refine` is -1, expected a whole number of at least 0\nhint: it counts sweeps"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_what_cannot_be_done_is_named(model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        inpaint(model, picture(), **{"kept": mask(), **arguments})


@pytest.mark.parametrize("share", [0.0, 1.1, -0.5])
def test_a_share_outside_its_range_is_named(model, share):
    with pytest.raises(ConfigError, match=f"`share` is {share}, expected 0 < share <= 1\nhint: 0.05 draws"):
        least_likely(model, picture(), share)


def test_sweeps_on_a_grid_beyond_the_window_are_refused():
    model = tiny.synthesizer().eval()
    images, known = tiny.images(1, side=16), torch.zeros(1, 4, 4, dtype=torch.bool)
    message = "`refine` works on grids that the prior sees whole, 2 x 2 tokens: .*\nhint: complete a part of that size"
    with pytest.raises(ConfigError, match=message):
        model.complete(images, known, {"class": 0}, refine=1)
