import copy

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan import synthesizer
from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    Layout,
    SceneLayoutConfig,
    SceneObject,
    TokenizedImageConfig,
)
from vqgan.errors import ConfigError
from vqgan.prior import PriorConfig
from vqgan.sampling import plan_windows
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig

TOKENIZER = TokenizerConfig(
    autoencoder=AutoencoderConfig(
        image_channels=3,
        base_channels=32,
        channel_multipliers=(1, 1),
        num_residual_blocks=1,
        latent_channels=32,
        resolution=8,
        attention_resolutions=(),
    ),
    quantizer=VectorQuantizerConfig(codebook_size=16, codebook_dim=4),
)
CLASSES = ClassLabelConfig(num_classes=3, class_names=("cat", "dog", "fox"))
COORDINATES = CoordinatesConfig(num_values=8, downsample_factor=2)
SHARED = TokenizedImageConfig(codebook_size=16)
DEPTH = TokenizedImageConfig(
    codebook_size=16,
    image="depth",
    tokenizer=msgspec.structs.replace(
        TOKENIZER, autoencoder=msgspec.structs.replace(TOKENIZER.autoencoder, image_channels=1)
    ),
)
SCENE = SceneLayoutConfig(
    num_classes=3,
    max_objects=4,
    vocabulary_size=16,
    encode_crop=False,
    use_group=False,
    use_additional=False,
)


def make_config(conditioner=CLASSES, window=(4, 4), **changes):
    sizes = {
        "codebook_size": 16,
        "condition_size": conditioner.vocabulary_size,
        "context_length": 31,
        "depth": 1,
        "width": 8,
        "num_heads": 2,
    }
    return SynthesizerConfig(
        tokenizer=TOKENIZER,
        conditioner=conditioner,
        prior=PriorConfig(**{**sizes, **changes}),
        window=window,
    )


def make(conditioner=CLASSES):
    return tiny.random_synthesizer(make_config(conditioner))


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture
def grids(model, monkeypatch):
    """The grids that reach the decoder."""
    seen = []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda indices: seen.append(indices) or decode(indices))
    return seen


def pictures(count=2, size=(8, 8)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_samples_have_the_size_of_the_window_unless_told(model, grids):
    window, named, low, large = (
        model.sample(2, size=size, condition={"class": 0}) for size in (None, 8, (4, 8), (12, 10))
    )
    assert torch.equal(window, named)
    assert [tuple(each.shape) for each in (window, low, large)] == [
        (2, 3, 8, 8),
        (2, 3, 4, 8),
        (2, 3, 12, 10),
    ]
    assert torch.equal(grids[2], grids[0][:, :2])  # fewer rows are the first of the window


def test_image_i_is_the_image_of_seed_plus_i(model):
    batch = model.sample(3, condition={"class": ["cat", "dog", 2]}, seed=5)
    last = model.sample(1, condition={"class": "fox"}, seed=7)
    torch.testing.assert_close(last, batch[2:])
    assert torch.equal(batch, model.sample(3, condition={"class": [0, 1, 2]}, seed=5))


def test_the_condition_steers_the_prior(model, grids):
    for name in ("cat", "dog", "cat"):
        model.sample(2, condition={"class": name})
    assert not torch.equal(grids[0], grids[1])
    assert torch.equal(grids[0], grids[2])


def test_settings_reach_the_draw(model, grids):
    for settings in ({}, {"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}, {"temperature": 50.0}):
        model.sample(1, condition={"class": 1}, **settings)
    plain, greedy, top_k, top_p, hot = grids
    assert torch.equal(greedy, top_k)
    assert torch.equal(greedy, top_p)
    assert not torch.equal(plain, greedy)
    assert not torch.equal(plain, hot)


def test_the_windows_stride_reaches_the_plan(model, grids):
    for stride in (1, 2):
        reports = []
        drawing = {"window_stride": stride, "seed": 3, "on_progress": reports.append}
        model.sample(1, (16, 16), {"class": 1}, **drawing)
        model.complete(pictures(1, (16, 16)), torch.zeros(1, 8, 8, dtype=torch.bool), {"class": 1}, **drawing)
        found = [report.values["token_passes"] for report in reports if report.step == report.total]
        planned = plan_windows(np.zeros((8, 8), dtype=bool), (4, 4), condition=1, stride=stride)
        assert found == [planned.passes] * 2
    exact, completed, strided, again = grids
    assert torch.equal(exact, completed)
    assert torch.equal(strided, again)
    assert not torch.equal(exact, strided)


@pytest.mark.parametrize("size", [(8, 8), (12, 14)])
def test_complete_keeps_the_known_tokens(model, grids, size):
    images = pictures(size=size)
    indices = model.tokenizer.encode(images.double())
    known = torch.rand(indices.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    completed = model.complete(images, known, {"class": [0, 1]}, seed=3)
    assert completed.shape == images.shape
    assert torch.equal(grids[0][known], indices[known])
    assert not torch.equal(grids[0], indices)


def test_complete_with_everything_known_reconstructs(model):
    images = pictures()
    known = torch.ones(2, 4, 4, dtype=torch.bool)
    assert torch.equal(model.complete(images, known, {"class": 0}), model.reconstruct(images))


def test_reconstruct_is_decode_after_encode(model):
    images = pictures(size=(6, 10)).double()
    with torch.no_grad():
        expected = model.tokenizer.decode(model.tokenizer.encode(images))
    assert torch.equal(model.reconstruct(images), expected)


def test_log_probability_keeps_to_the_memory(model):
    images = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(ConfigError, match="not even row by row"):
        model.log_probability(images, {"class": 0}, memory=1000)


@pytest.mark.parametrize("size", [(8, 8), (4, 8)])
def test_log_probability_is_that_of_the_images_tokens(model, size):
    images = pictures(size=size)
    found = model.log_probability(images, {"class": [2, 0]})
    tokens = model.tokenizer.encode(images.double()).flatten(1)
    expected = model.prior.log_probability(tokens, torch.tensor([[2], [0]]))
    torch.testing.assert_close(found, expected)
    assert found.requires_grad


def test_coordinates_are_those_of_the_whole_picture_unless_given():
    model = make(COORDINATES)
    assert model.sample(1, size=(8, 12)).shape == (1, 3, 8, 12)
    whole = {"coordinates": torch.arange(64).view(1, 1, 8, 8) / 64}
    lower = {"coordinates": 0.5 + torch.arange(64).view(1, 1, 8, 8) / 128}
    assert torch.equal(model.sample(2), model.sample(2, condition=whole))
    assert not torch.equal(model.sample(2), model.sample(2, condition=lower))


@pytest.mark.parametrize("size", [(8, 8), (8, 12)])
def test_a_picture_through_the_models_own_tokenizer_steers_the_prior(size):
    model, (first, second) = make(SHARED), pictures(size=size)[:, None]
    found = model.sample(2, size=size, condition={"image": first})
    assert found.shape == (2, 3, *size)
    assert torch.equal(found, model.sample(2, size=size, condition={"image": first}))
    assert not torch.equal(found, model.sample(2, size=size, condition={"image": second}))
    completed = model.complete(
        first, torch.ones(1, *(side // 2 for side in size), dtype=torch.bool), {"image": second}
    )
    assert torch.equal(completed, model.reconstruct(first))


def test_a_shared_tokenizer_is_stored_once_and_follows_the_model():
    model = make(SHARED)
    assert not [name for name in model.state_dict() if name.startswith("conditioner")]
    condition = {"image": pictures(1)}
    expected = model.sample(1, condition=condition)
    assert torch.equal(copy.deepcopy(model).sample(1, condition=condition), expected)
    assert model.float().sample(1, condition=condition).dtype == torch.float32
    other = Synthesizer(make_config(SHARED)).double().eval()
    other.load_state_dict(model.double().state_dict())
    assert torch.equal(
        other.conditioner.tokens(condition, 1, (4, 4)), model.tokenizer.encode(condition["image"]).flatten(1)
    )


def test_a_depth_map_has_a_tokenizer_of_its_own():
    model = make(DEPTH)
    depth = pictures()[:, :1]
    tokens = model.tokenizer.encode(pictures()).flatten(1)
    codes = model.conditioner.tokenizer.encode(depth).flatten(1)
    expected = model.prior.log_probability(tokens, codes)
    torch.testing.assert_close(model.log_probability(pictures(), {"depth": depth}), expected)
    assert {name.split(".")[0] for name in model.state_dict()} == {"tokenizer", "conditioner", "prior"}
    with pytest.raises(
        ConfigError, match="does not know the condition `image`\nhint: it is steered by: `depth`"
    ):
        model.sample(1, condition={"image": depth})


@pytest.mark.parametrize("size", [(8, 8), (4, 8), (12, 8)])
def test_a_layout_steers_the_prior(size):
    model = make(SCENE)
    for embedding in (module for module in model.prior.modules() if isinstance(module, torch.nn.Embedding)):
        torch.nn.init.normal_(
            embedding.weight
        )  # fresh ones are so small that the condition decides next to nothing
    left, right = (Layout(objects=(SceneObject(class_number=1, box=(x, 0.0, 0.5, 1.0)),)) for x in (0.0, 0.5))
    first = model.sample(2, size=size, condition={"layout": left})
    assert first.shape == (2, 3, *size)
    assert not torch.equal(first, model.sample(2, size=size, condition={"layout": right}))


def test_a_shared_tokenizer_has_as_many_codes_as_the_condition():
    with pytest.raises(ConfigError, match=r"`conditioner\.codebook_size` is 8, expected its tokenizer's 16"):
        Synthesizer(make_config(TokenizedImageConfig(codebook_size=8)))


def test_progress_is_reported(model):
    reports = []
    model.sample(1, condition={"class": 0}, on_progress=reports.append)
    assert [(report.phase, report.step, report.total) for report in reports][-1] == ("sample", 16, 16)


def test_sampling_keeps_no_gradient(model):
    assert not model.sample(1, condition={"class": 0}).requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": (4, 0)}, "`window` is 4 x 0, expected at least 1 x 1"),
        ({"codebook_size": 8}, "`prior.codebook_size` is 8, expected the tokenizer's 16"),
        ({"condition_size": 5}, "`prior.condition_size` is 5, expected the conditioner's 3, or 4"),
        (
            {"context_length": 15},
            "`prior.context_length` is 15, expected at least 16 for the window 4 x 4 and its condition",
        ),
        ({"conditioner": COORDINATES, "context_length": 30}, "expected at least 31 for the window"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "`count` is 0, expected a whole number of at least 1"),
        ({"size": (9, 8)}, "must be multiples of 2"),
        ({"size": (8, 6)}, "a grid of 4 x 3 tokens is too small .*\nhint: use at least a width of 8 pixels"),
        ({"condition": None}, "the condition `class` is missing"),
        ({"condition": {"class": "cow"}}, "unknown class `cow`"),
        (
            {"condition": {"class": 0, "depth": 1}},
            "does not know the condition `depth`\nhint: it is steered by: `class`",
        ),
        ({"seed": -1}, "`seed` is -1"),
        ({"top_k": 0}, "`top_k` is 0"),
    ],
)
def test_what_cannot_be_sampled_is_named(model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        model.sample(**{"count": 1, "condition": {"class": 0}, **arguments})


def test_spatial_conditions_need_the_whole_window():
    with pytest.raises(ConfigError, match="hint: use at least 8 x 8 pixels and crop the result"):
        make(COORDINATES).sample(1, size=(4, 8))


@pytest.mark.parametrize(
    ("size", "arguments", "message"),
    [
        ((8, 6), {}, "a grid of 4 x 3 tokens is too small"),
        ((9, 8), {}, "must be multiples of 2"),
        ((8, 8), {"jacobi": 1}, "`jacobi` is 1, expected at least 2"),
        ((8, 12), {"jacobi": 4}, "`jacobi` works on grids that the prior sees whole"),
        ((8, 12), {"window_stride": 0}, "`window_stride` is 0, expected at least 1"),
        ((8, 12), {"window_stride": 3}, "`window_stride` is 3, expected 1 to 2 on this grid"),
        (
            (8, 8),
            {"window_stride": 2},
            "`window_stride` works on grids larger than .* 4 x 4 tokens\nhint: omit",
        ),
        ((8, 8), {"memory": 1000}, "images of 8x8 pixels do not fit in"),
        ((8, 8), {"seed": -1}, "`seed` is -1"),
        ((8, 8), {"condition": {"class": "cow"}}, "unknown class `cow`"),
    ],
)
def test_what_cannot_be_completed_is_named_before_images_are_encoded(
    model, monkeypatch, size, arguments, message
):
    monkeypatch.setattr(model.tokenizer, "latents", lambda *_: pytest.fail("an image was encoded"))
    images = pictures(size=size)
    known = torch.zeros(2, size[0] // 2, size[1] // 2, dtype=torch.bool)
    with pytest.raises(ConfigError, match=message):
        model.complete(images, known, **{"condition": {"class": 0}, **arguments})


def test_what_cannot_be_completed_within_the_memory_is_named_before_images_are_encoded(model, monkeypatch):
    refused = ConfigError("too little")

    def refuse(*_, is_held):
        raise refused

    monkeypatch.setattr(synthesizer, "check_decoding", refuse)
    monkeypatch.setattr(synthesizer, "encode_within", lambda *_: pytest.fail("an image was encoded"))
    with pytest.raises(ConfigError, match="too little"):
        model.complete(pictures(), torch.zeros(2, 4, 4, dtype=torch.bool), {"class": 0})


def test_a_mask_on_pixels_is_refused(model):
    with pytest.raises(
        ConfigError, match=r"of the shape \(2, 8, 8\), expected torch.bool \(2, 4, 4\)\nhint: it is"
    ):
        model.complete(pictures(), torch.ones(2, 8, 8, dtype=torch.bool), {"class": 0})


def test_images_beyond_the_window_are_scored_window_by_window(model):
    images = pictures(size=(8, 12))
    found = model.log_probability(images, {"class": 0}).view(2, 4, 6)
    tokens = model.tokenizer.encode(images)
    last = model.prior.log_probability(tokens[:, :, 2:].flatten(1), torch.tensor([[0], [0]])).view(2, 4, 4)
    torch.testing.assert_close(found[:, :, 4:], last[:, :, 2:])
    assert found.requires_grad


@pytest.mark.parametrize(
    ("grid", "is_spatial", "expected"),
    [
        ((4, 4), True, (4, 4)),
        ((9, 5), True, (4, 4)),
        ((3, 4), False, (3, 4)),
        ((2, 9), False, (2, 4)),
    ],
)
def test_usable_window_keeps_every_token_at_a_learned_place(grid, is_spatial, expected):
    assert make(COORDINATES if is_spatial else CLASSES).usable_window(grid) == expected


@pytest.mark.parametrize(
    ("grid", "is_spatial", "least"),
    [
        ((4, 3), False, "a width of 8"),
        ((9, 3), False, "a width of 8"),
        ((3, 4), True, "8 x 8"),
        ((4, 3), True, "8 x 8"),
    ],
)
def test_grids_without_a_window_are_refused(grid, is_spatial, least):
    message = (
        f"a grid of {grid[0]} x {grid[1]} tokens is too small for a prior trained on 4 x 4\n"
        f"hint: use at least {least} pixels and crop the result"
    )
    with pytest.raises(ConfigError, match=message):
        make(COORDINATES if is_spatial else CLASSES).usable_window(grid)


@pytest.mark.parametrize("grid", [(4, 5), (8, 8), (3, 4), (4, 3)])
@pytest.mark.parametrize("is_spatial", [True, False])
def test_another_order_than_raster_has_one_size(grid, is_spatial):
    conditioner = COORDINATES if is_spatial else CLASSES
    config = msgspec.structs.replace(make_config(conditioner), token_order="z_curve")
    model = Synthesizer(config)
    assert model.usable_window((4, 4)) == (4, 4)
    message = (
        f"4 x 4 tokens in the order `z_curve` cannot work on {grid[0]} x {grid[1]}\nhint: use 8 x 8 pixels"
    )
    with pytest.raises(ConfigError, match=message):
        model.usable_window(grid)
