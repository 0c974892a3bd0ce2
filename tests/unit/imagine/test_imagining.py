"""Pictures from words: the whole chain, with a tiny tokenizer and a tiny judge."""

import copy

import pytest
import torch

import networks
import tiny
from vqgan.conditioning import ClassLabelConfig
from vqgan.errors import ConfigError, DataError
from vqgan.images import read_pixels
from vqgan.imagine import (
    CutOutConfig,
    ImagineConfig,
    Imagining,
    LatentsConfig,
    MixtureConfig,
    Motion,
    PixelsConfig,
    Prompt,
    Request,
    imagine,
    open_judge,
    parse_story,
    random_codes,
)
from vqgan.imagine.run import Results, draw
from vqgan.imagine.variables import Variables
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig

KINDS = (LatentsConfig(), MixtureConfig(), PixelsConfig())
CUTS = CutOutConfig(count=3)
STILL = CutOutConfig(count=1, share=0.0, noise=0.0, erased=(0, 0), power=0.0)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    opened = open_judge(networks.save_judge("CLIPModel", tmp_path_factory.mktemp("judge")), device="cpu")
    opened.model.double()
    return opened


@pytest.fixture(scope="module")
def tokenizer():
    model = tiny.tokenizer(channels=3).double().eval()
    torch.nn.init.normal_(model.quantizer.codebook.weight)
    return model


@pytest.fixture(scope="module")
def synthesizer():
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(channels=3),
        conditioner=ClassLabelConfig(num_classes=3),
        prior=PriorConfig(
            codebook_size=16, condition_size=3, context_length=16, depth=1, width=16, num_heads=2
        ),
        window=(4, 4),
    )
    return tiny.random_synthesizer(config)


def begun(
    model, judge, text="red", *, count=2, side=16, seed=0, start=None, condition=None, memory=None, **settings
):
    config = ImagineConfig(**{"steps": 4, "cut_outs": CUTS, **settings})
    if start is None:
        start = random_codes(
            getattr(model, "tokenizer", model), (side // 4, side // 4), count=count, seed=seed
        )
    story = parse_story(text) if isinstance(text, str) else text
    return Imagining(
        model, judge, request=Request([story], start, seed, condition), config=config, memory=memory
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_pictures_come_closer_to_what_is_asked(tokenizer, judge, kind):
    rate = 0.1 if kind is KINDS[2] else 0.5
    reports = []
    config = ImagineConfig(steps=20, cut_outs=STILL, variables=kind, learning_rate=rate)
    images = imagine(
        tokenizer, "red", judge, size=16, count=2, config=config, seed=3, on_progress=reports.append
    )
    start = tokenizer.decode(random_codes(tokenizer, (4, 4), count=2, seed=3)).clamp(-1, 1)
    first, last = (judge.similarity(each, ["red"]) for each in (start, images))
    assert (last > first).all(), (first, last)
    assert images.shape == (2, 3, 16, 16)
    assert images.abs().max() <= 1
    assert [each.step for each in reports] == list(range(1, 21))


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: type(kind).__name__)
def test_the_gradient_of_the_whole_chain_equals_finite_differences(tokenizer, judge, kind):
    tokenizer = copy.deepcopy(tokenizer)
    with torch.no_grad():  # no value is beyond black or white, where gradients are not those of the loss
        for parameter in tokenizer.decoder.output_conv.parameters():
            parameter *= 0.1
    imagining = begun(tokenizer, judge, "red | car:-0.5", variables=kind, keep_start=0.3)
    numbers = imagining._numbers
    with torch.no_grad():
        numbers += 0.01 * torch.randn(
            numbers.shape, generator=torch.Generator().manual_seed(0), dtype=numbers.dtype
        )
        if kind is KINDS[2]:
            numbers *= 0.9  # nothing is clamped
    gradient, _ = imagining.gradient()
    step = 1e-5 * torch.randn(numbers.shape, generator=torch.Generator().manual_seed(1), dtype=numbers.dtype)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            numbers += sign * step
        losses.append(imagining.gradient()[1]["loss"] * len(numbers))
        with torch.no_grad():
            numbers -= sign * step
    torch.testing.assert_close(
        torch.tensor((losses[0] - losses[1]) / 2).double(), (gradient * step).sum(), rtol=1e-4, atol=1e-12
    )


def test_latents_get_the_gradient_of_their_codes(tokenizer, judge):
    imagining = begun(tokenizer, judge)
    gradient, _ = imagining.gradient()
    vectors = (
        tokenizer.quantizer.lookup(imagining._variables.indices(imagining._numbers)).detach().requires_grad_()
    )
    pixels = tokenizer.decode_latents(vectors)
    leaf = pixels.detach().clamp(-1, 1).requires_grad_()
    imagining._judged(leaf)
    beyond = leaf.grad * (pixels.detach() - leaf.detach()) < 0
    pixels.backward(leaf.grad.masked_fill(beyond, 0))
    torch.testing.assert_close(gradient, vectors.grad, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_the_gradient_does_not_depend_on_how_many_cut_outs_pass_at_once(tokenizer, judge, kind):
    found = []
    for chunk in (1, 8, 32):
        imagining = begun(tokenizer, judge, variables=kind, cut_outs=CutOutConfig(count=32))
        imagining._chunk = chunk
        found.append(imagining.gradient()[0])
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0], rtol=0, atol=1e-6 * float(found[0].abs().max()))


def test_little_memory_computes_layers_again_and_changes_nothing(tokenizer, judge, monkeypatch):
    from vqgan.tokenizer import gradient

    calls = []
    real = gradient.checkpoint
    monkeypatch.setattr(
        gradient, "checkpoint", lambda *args, **more: calls.append(args) or real(*args, **more)
    )
    whole, few = begun(tokenizer, judge).gradient()[0], len(calls)
    monkeypatch.setattr(gradient, "gradient_memory", lambda *_, **__: (1 << 60, gradient.RESERVE + 1))
    torch.testing.assert_close(begun(tokenizer, judge).gradient()[0], whole, rtol=0, atol=0)
    assert len(calls) > 2 * few + 3


def test_too_little_memory_names_a_size_that_fits(tokenizer, judge):
    with pytest.raises(ConfigError, match="256x256 takes") as error:
        begun(tokenizer, judge, side=256, count=1, memory=100_000_000)
    rows, columns = (int(each) for each in error.value.hint.split()[3].split("x"))
    assert 0 < rows < 256
    assert rows % 4 == columns % 4 == 0
    begun(tokenizer, judge, side=rows, count=1, memory=100_000_000).step()


def test_each_picture_of_a_batch_is_that_of_its_own_seed(tokenizer, judge):
    both = begun(tokenizer, judge, count=2)
    alone = begun(tokenizer, judge, count=1, seed=1)
    for _ in range(4):
        both.step()
        alone.step()
    torch.testing.assert_close(both.images()[1:], alone.images(), rtol=0, atol=1e-9)
    torch.testing.assert_close(both.similarity[1:], alone.similarity, rtol=0, atol=1e-9)


def test_each_picture_of_a_batch_may_have_its_own_prompts(tokenizer, judge):
    texts, config = ["red ^ car", "blue:-1 ^ tree"], ImagineConfig(steps=4, cut_outs=CUTS)
    together = imagine(tokenizer, texts, judge, size=16, config=config, seed=7)
    for number, text in enumerate(texts):
        alone = imagine(tokenizer, text, judge, size=16, config=config, seed=7 + number)
        torch.testing.assert_close(together[number : number + 1], alone, rtol=0, atol=1e-9)
    with pytest.raises(ConfigError, match="2 stories of"):
        imagine(tokenizer, ["red", "red | blue"], judge, size=16)
    with pytest.raises(ConfigError, match="for 3 pictures"):
        imagine(tokenizer, ["red", "blue"], judge, size=16, count=3)


def test_the_own_embedding_is_a_fixed_point(tokenizer, judge):
    start = tiny.images(1, channels=3, side=32).double()
    prompt = Prompt("itself", image=start[0])
    imagining = begun(
        tokenizer,
        judge,
        ((prompt,),),
        start=start,
        variables=PixelsConfig(),
        cut_outs=STILL,
        learning_rate=1e-3,
    )
    for _ in range(4):
        imagining.step()
        assert float(imagining.similarity) > 1 - 1e-4
    torch.testing.assert_close(
        judge.similarity(imagining.images(), ["red"]), judge.similarity(start, ["red"]), atol=0.05, rtol=0
    )


def test_noise_is_a_prompt_of_its_seed(tokenizer, judge):
    seven, again, eight = (
        begun(tokenizer, judge, f"red | noise#{seed}:0.5")._targets[0][0] for seed in (7, 7, 8)
    )
    torch.testing.assert_close(seven, again, rtol=0, atol=0)
    torch.testing.assert_close(seven[0], judge.embed_text(["red"])[0])
    torch.testing.assert_close(seven.norm(dim=1), torch.ones(2).double())
    assert seven[1] @ eight[1] < 0.9


def test_a_stop_ends_the_pull_and_a_negative_weight_drives_away(tokenizer, judge):
    stopped = begun(tokenizer, judge, "red:1:10")
    assert stopped.gradient()[0].abs().max() == 0
    towards, away = (
        begun(tokenizer, judge, text, variables=PixelsConfig()).gradient()[0] for text in ("red", "red:-1")
    )
    torch.testing.assert_close(towards, -away, rtol=1e-9, atol=1e-15)


def test_chapters_follow_each_other(tokenizer, judge):
    imagining = begun(tokenizer, judge, "red ^ car | blue", steps=5)
    seen = []
    for _ in range(5):
        imagining.step()
        seen.append([each.text for each in imagining.prompts])
    assert seen == [["red"]] * 3 + [["car", "blue"]] * 2
    assert imagining.similarity.shape == (2, 2)


def test_a_start_holds_and_an_average_is_smoother(tokenizer, judge):
    free, held = (
        begun(tokenizer, judge, keep_start=weight, variables=PixelsConfig()) for weight in (0.0, 1e4)
    )
    smooth = begun(tokenizer, judge, average=0.9, variables=PixelsConfig())
    begin = free.images()
    for each in (free, held, smooth):
        for _ in range(4):
            each.step()
    moved = [float((each.images() - begin).abs().mean()) for each in (free, held, smooth)]
    assert moved[1] < 0.8 * moved[0]
    assert moved[2] < 0.6 * moved[0]


def test_the_prior_judges_with_the_gradient_of_its_own_probabilities(synthesizer, judge):
    imagining = begun(synthesizer, judge, prior_weight=1.0, condition={"class": [0, 2]})
    indices = imagining._variables.indices(imagining._numbers)
    shares = torch.nn.functional.one_hot(indices, 16).double().requires_grad_()
    found = imagining._prior(shares, indices)
    images = synthesizer.tokenizer.decode(indices)
    tokens, condition = indices.flatten(1), torch.tensor([[0], [2]])
    expected = -synthesizer.prior.log_probability(tokens, condition).mean(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert images.shape == (2, 3, 16, 16)
    # By hand: the last token is read by nothing, so that its gradient is that of its own probability.
    found.sum().backward()
    logits = synthesizer.prior(tokens, condition)
    torch.testing.assert_close(
        shares.grad[:, 3, 3], -logits[:, 15].log_softmax(dim=-1) / 16, rtol=1e-4, atol=1e-5
    )
    # The first one is read by all others.
    assert (shares.grad[:, 0, 0] + logits[:, 0].log_softmax(dim=-1) / 16).abs().max() > 1e-3


def test_with_the_prior_codes_become_likelier(synthesizer, judge):
    likely = []
    for weight in (1e-9, 5.0):
        imagining = begun(
            synthesizer,
            judge,
            steps=30,
            prior_weight=weight or 1e-9,
            condition={"class": 1},
            learning_rate=0.2,
        )
        values = [imagining.step()["prior"] / weight for _ in range(12)]
        likely.append(values[-1])
    assert likely[1] < likely[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": None}, "class"),
        ({"condition": {"class": 0}, "side": 32}, "sees 16x16 at once"),
    ],
)
def test_a_prior_that_cannot_judge_says_so(synthesizer, judge, settings, message):
    with pytest.raises(ConfigError, match=message):
        begun(synthesizer, judge, prior_weight=1.0, **settings)


def test_a_tokenizer_has_no_prior_and_grey_ones_do_not_fit(tokenizer, judge):
    with pytest.raises(ConfigError, match="no prior"):
        begun(tokenizer, judge, prior_weight=1.0)
    with pytest.raises(ConfigError, match="1 channels"):
        begun(tiny.tokenizer().eval(), judge)
    with pytest.raises(ConfigError, match="pixels have no codes"):
        ImagineConfig(variables=PixelsConfig(), prior_weight=1.0)


def test_a_shift_of_whole_pixels_is_exact_and_mirrors_the_border(tokenizer):
    images = tiny.images(1, channels=3, side=8)
    moved = Motion(shift=(1, -2), every=1).moved(images)
    torch.testing.assert_close(moved[:, :, :-2, 1:], images[:, :, 2:, :-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[:, :, :-2, 0], images[:, :, 2:, 0], atol=1e-5, rtol=0)
    turned = Motion(turn=9.0, every=10).moved(images)
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    zoomed = Motion(zoom=2.0, every=1).moved(images)
    smooth = torch.nn.functional.interpolate(images, scale_factor=2.0, mode="bilinear")[:, :, 4:12, 4:12]
    torch.testing.assert_close(zoomed, smooth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "nadam", "rmsprop"])
@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: type(kind).__name__)
def test_a_stopped_run_goes_on_to_the_same_bits(tokenizer, judge, tmp_path, optimizer, kind):
    settings = {
        "steps": 7,
        "optimizer": optimizer,
        "variables": kind,
        "average": 0.5,
        "keep_start": 0.1,
        "motion": Motion(zoom=1.01, every=3),
    }
    results = [
        Results(tmp_path / name, ("a", "b"), every=2, text={"prompts": "red"}) for name in ("one", "two")
    ]
    whole = draw(begun(tokenizer, judge, **settings), results[0])

    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        draw(begun(tokenizer, judge, **settings), results[1], on_progress=stop)
    steps = []
    again = draw(
        begun(tokenizer, judge, **settings),
        results[1],
        resume=True,
        on_progress=lambda each: steps.append(each.step),
    )
    assert steps == [5, 6, 7]
    assert [path.relative_to(tmp_path / "one") for path in whole] == [
        path.relative_to(tmp_path / "two") for path in again
    ]
    for name in sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png")):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    assert (tmp_path / "two/report.html").read_text() == (tmp_path / "one/report.html").read_text()
    frames = sorted((tmp_path / "one/a-frames").glob("frame-*.png"))
    assert len(frames) == 5  # steps 0, 2, 4, 6 and 7
    assert (read_pixels(frames[-1], 3) == read_pixels(whole[0], 3)).all()


def test_each_frame_is_decoded_once(tokenizer, judge, tmp_path, monkeypatch):
    calls, real = [], Imagining.images
    monkeypatch.setattr(Imagining, "images", lambda self: calls.append(self.done) or real(self))
    draw(begun(tokenizer, judge, steps=4), Results(tmp_path, ("a", "b"), every=2))
    assert calls == [0, 2, 4]


@pytest.mark.parametrize("damage", ["cut", "emptied"])
def test_a_damaged_frame_is_told(tokenizer, judge, tmp_path, damage):
    results = Results(tmp_path, ("a",), every=1)
    draw(begun(tokenizer, judge, steps=2, count=1), results)
    frame = tmp_path / "frames/frame-0001.png"
    frame.write_bytes(frame.read_bytes()[:-40] if damage == "cut" else b"")
    with pytest.raises(DataError, match=r"frame-0001\.png|missing or damaged"):
        draw(begun(tokenizer, judge, steps=2, count=1), results, resume=True)


def test_half_precision_keeps_gradients_however_small(tokenizer, judge):
    half = copy.deepcopy(tokenizer).half()
    found = [begun(each, judge, "red:1e-4", side=64).gradient()[0].flatten() for each in (tokenizer, half)]
    assert torch.nn.functional.cosine_similarity(found[0], found[1].double(), dim=0) > 0.99


def test_neighbouring_codes_are_as_far_apart_as_they_are(tokenizer):
    model = tiny.tokenizer(channels=3).eval()
    model.quantizer.codebook.weight.data = 100 + torch.arange(64.0)[:, None].expand(64, 4) / 64
    variables = Variables(LatentsConfig(), model, 1 << 30)
    torch.testing.assert_close(variables._apart, torch.tensor(4 / 64**2), rtol=1e-3, atol=0)


def test_a_run_goes_on_only_under_the_same_settings(tokenizer, judge, tmp_path):
    draw(begun(tokenizer, judge, steps=1), Results(tmp_path, ("a", "b"), text={"prompts": "red"}))
    with pytest.raises(ConfigError, match=r"`prompts` is car, but .* begun with red"):
        draw(begun(tokenizer, judge), Results(tmp_path, ("a", "b"), text={"prompts": "car"}), resume=True)
