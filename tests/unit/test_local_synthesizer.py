"""A synthesizer whose prior has a local span draws, completes and scores images of any size, under every condition."""

import copy

import numpy as np
import pytest
import torch

import tiny
from vqgan import load, save_model
from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    SceneLayoutConfig,
    SeveralConfig,
    TextConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.errors import ConfigError
from vqgan.evaluation import growth
from vqgan.evaluation.growth import write_rows
from vqgan.images import read_pixels, to_uint8
from vqgan.prior import LocalSpan, PriorConfig
from vqgan.sampling import SamplingSettings, fill, fill_grids
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer.memory import RESERVE
from vqgan.types import DrawnTokens

CLASSES = ClassLabelConfig(num_classes=3)
COORDINATES = CoordinatesConfig(num_values=8, downsample_factor=4)
DEPTH = TokenizedImageConfig(codebook_size=tiny.CODES, image="depth", tokenizer=tiny.tokenizer_config())
TEXT = TextConfig(max_tokens=4, merges="Ġ a Ġ b Ġ c")
SCENE = SceneLayoutConfig(
    num_classes=3, max_objects=4, vocabulary_size=16, encode_crop=False, use_group=False, use_additional=False
)


def make_config(conditioner, depth=1, **changes):
    """2x2 tokens of 4x4 pixels, and a token sees two rows above and one column beside."""
    prior = PriorConfig(
        codebook_size=tiny.CODES,
        condition_size=conditioner.vocabulary_size,
        context_length=200,
        depth=depth,
        width=8,
        num_heads=2,
        positions="rotary",
        span=LocalSpan(rows=2, columns=1),
    )
    tokenizer = tiny.tokenizer_config()
    return SynthesizerConfig(
        tokenizer=tokenizer, conditioner=conditioner, prior=prior, window=(2, 2), **changes
    )


def make(conditioner=CLASSES):
    return tiny.random_synthesizer(make_config(conditioner))


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture
def grids(model, monkeypatch):
    seen = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda indices: seen.append(indices) or decode(indices))
    return seen


@pytest.mark.parametrize("grid", [(2, 2), (1, 1), (2, 10), (11, 3)])
def test_any_size_is_drawn_and_any_part_is_completed(model, grids, grid):
    height, width = grid[0] * 4, grid[1] * 4
    size = None if grid == (2, 2) else (height, width)
    assert model.sample(2, size=size, condition={"class": 0}).shape == (2, 1, height, width)
    images, known = torch.rand(2, 1, height, width).double() * 2 - 1, torch.rand(2, *grid) < 0.5
    assert model.complete(images, known, {"class": 1}).shape == images.shape
    assert torch.equal(grids[1][known], model.tokenizer.encode(images)[known])


def test_a_higher_image_begins_as_a_lower_one(model, grids):
    for size in ((16, 12), (40, 12)):
        model.sample(1, size=size, condition={"class": 0}, seed=3)
    assert torch.equal(grids[1][:, :4], grids[0])


@pytest.mark.parametrize(
    ("conditioner", "condition"),
    [
        (CLASSES, {"class": [0, 2]}),
        (UnconditionalConfig(), None),
        (COORDINATES, None),
        (TEXT, {"text": ["a b", "c"]}),
        (DEPTH, {"depth": torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1}),
    ],
)
def test_every_condition_steers(conditioner, condition):
    model = make(conditioner)
    if condition and "depth" in condition:
        condition = {"depth": condition["depth"].double()}
    images = model.sample(2, size=(24, 20), condition=condition).clamp(-1, 1)
    assert images.shape == (2, 1, 24, 20)
    scores = model.log_probability(images, condition)
    assert scores.shape == (2, 30)
    torch.nn.init.normal_(model.prior.cell_condition.embedding.weight)
    assert not torch.equal(scores, model.log_probability(images, condition))


def test_layouts_and_other_orders_are_refused():
    with pytest.raises(ConfigError, match=r"the condition is a layout, .*\nhint: omit `prior\.span`"):
        make(SCENE)
    with pytest.raises(ConfigError, match=r"`token_order` is `spiral_in`.*\nhint: use `raster`"):
        make_config(CLASSES, token_order="spiral_in")
    for settings in ({"jacobi": 4}, {"window_stride": 2}):
        with pytest.raises(ConfigError, match=f"`{next(iter(settings))}` is for priors with full attention"):
            make().sample(1, size=(40, 40), condition={"class": 0}, **settings)


@pytest.mark.parametrize(
    "conditioner", [TEXT, SeveralConfig(conditioners=(CLASSES, TEXT))], ids=["text", "both"]
)
def test_words_are_attended_to_in_every_layer_alike_however_the_grid_is_read(conditioner):
    torch.manual_seed(0)
    model = Synthesizer(make_config(conditioner, depth=2)).double().eval()
    for parameter in model.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    said = {"class": 1, "text": ["a b c", "c b"]} if conditioner is not TEXT else {"text": ["a b c", "c b"]}
    tokens = model.conditioner.tokens(said, 2, (5, 4))
    drawn = fill_grids(
        model.prior,
        tokens,
        torch.zeros(2, 5, 4, dtype=torch.int64),
        torch.zeros(2, 5, 4, dtype=torch.bool),
        window=(5, 4),
        lengths=model.conditioner.lengths,
        settings=SamplingSettings(temperature=0.0),
        memory=2**30,
    )
    logits = model.prior(drawn.flatten(1), tokens, (5, 4))
    assert torch.equal(logits.argmax(dim=2).view_as(drawn), drawn)
    scores = [
        model.prior.log_probability(drawn.flatten(1), tokens.roll(shift, dims=1), (5, 4)) for shift in (0, 1)
    ]
    assert not torch.allclose(*scores)  # the order of the words matters
    model.prior.log_probability(drawn.flatten(1), tokens, (5, 4)).sum().backward()
    for block in model.prior.transformer.blocks:
        assert all(
            each.grad.abs().max() > 0 for each in block.cross_attention.parameters() if each.grad.numel() > 8
        )
    images, known = torch.rand(2, 1, 20, 16).double() * 2 - 1, torch.rand(2, 5, 4) < 0.5
    assert torch.isfinite(model.complete(images, known, said, refine=1)).all()


def test_only_a_prior_of_texts_has_cross_attention():
    names = ["".join(make(each).prior.state_dict()) for each in (CLASSES, TEXT)]
    assert ["cross" in each for each in names] == [False, True]


def test_little_memory_draws_the_same_images_in_smaller_batches(model):
    known, batches = torch.zeros(5, 6, 7, dtype=torch.bool), []
    given = (model.prior, torch.zeros(5, 1, dtype=torch.int64), known.long(), known)
    found = []
    for memory in (2**30, 2**23 + 40_000):
        seen = []
        found.append(
            fill_grids(
                *given,
                window=(6, 7),
                lengths=(1,),
                settings=SamplingSettings(seed=1),
                memory=memory,
                on_progress=lambda progress, seen=seen: seen.append(progress),
            )
        )
        assert all(isinstance(each, DrawnTokens) for each in seen)
        assert (seen[-1].step, seen[-1].total) == (5 * 42, 5 * 42)
        batches.append(len({each.images for each in seen}))
    assert torch.equal(*found)
    assert batches[0] == 1 < batches[1]


def test_a_text_takes_its_share_of_the_memory(model):
    known, settings = torch.zeros(1, 6, 7, dtype=torch.bool), SamplingSettings()
    none, some, all_of_it = (
        fill._plan(model.prior, lengths, known, (6, 7), settings, "raster", 2**24)[1]
        for lengths in ((1,), (1, 64), (1, 10**6))
    )
    assert none > some > all_of_it == 0


def test_progress_shows_what_each_new_token_saw(model):
    seen = []
    model.sample(1, size=(16, 16), condition={"class": 0}, on_progress=seen.append)
    boxes = [box for each in seen for box in each.windows]
    assert len(boxes) == 16
    assert boxes[0] == (0, 0, 1, 2)
    assert boxes[-1] == (1, 2, 3, 2)
    assert [each.step for each in seen] == sorted({each.step for each in seen})


def test_a_saved_one_draws_the_same(model, tmp_path):
    path, single = tmp_path / "prior.safetensors", copy.deepcopy(model).float()
    save_model(single, path)
    again = load(path, device="cpu")
    drawn = [each.sample(1, size=(16, 16), condition={"class": 0}) for each in (single, again)]
    assert torch.equal(*drawn)


def test_rows_of_an_image_that_is_never_whole_are_its_rows(model):
    settings = SamplingSettings(seed=4, top_k=9)
    image = model.sample(1, size=(80, 48), condition={"class": 1}, seed=4, top_k=9)
    whole = list(model.sample_rows((80, 48), {"class": 1}, settings))
    assert len(whole) == 1
    assert torch.equal(whole[0], image)
    bands = list(model.sample_rows((80, 48), {"class": 1}, settings, memory=RESERVE + 700_000))
    assert len(bands) > 2
    torch.testing.assert_close(torch.cat(bands, dim=2), image)
    assert not any(band.requires_grad for band in bands)


def test_a_large_picture_grows_band_by_band_without_being_whole(model, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "MAX_PAGE_SIDE", 32)
    settings, size = SamplingSettings(seed=4), (80, 48)
    whole = to_uint8(model.sample(1, size=size, condition={"class": 1}, seed=4)[0]).numpy()
    bands = model.sample_rows(size, {"class": 1}, settings, memory=RESERVE + 700_000)
    path = tmp_path / "sky.png"
    results = write_rows(bands, path, size, channels=1, info={"seed": "4"}, frames=5)
    frames = sorted((tmp_path / "frames").glob("frame-*.png"))
    assert results == [
        path,
        path.with_suffix(".html"),
        *(frames[0].with_name(f"growth.{kind}") for kind in ("png", "html")),
    ]
    assert np.abs(read_pixels(path, 1).astype(int) - whole).max() <= 1
    assert len(frames) == 5
    # 80x48 pixels become 32x19: two of five rows, and of 19 columns 48 parts.
    fine = read_pixels(path, 1)[:, :, 0].repeat(2, axis=0).repeat(19, axis=1)
    expected = np.rint(fine.reshape(32, 5, 19, 48).mean(axis=(1, 3)))
    for number, frame in enumerate(frames, start=1):
        shown, rows = read_pixels(frame, 1)[:, :, 0], 32 * number // 5
        assert np.array_equal(shown[:rows], expected[:rows])
        assert len(np.unique(shown[rows:])) <= 2
