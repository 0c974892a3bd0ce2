"""Conditions from the command line: trained on files, asked for by name."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vqgan
from vqgan import load, save_model
from vqgan.images import canny, save_png, to_float, to_uint8
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

LABELS = 5


@pytest.fixture(scope="module")
def given(trained, tmp_path_factory):
    """Beside the images: a map of labels for each, a table of their classes; and a tokenizer of such maps."""
    root = tmp_path_factory.mktemp("conditions")
    draw = np.random.default_rng(0)
    rows = []
    for path in sorted(trained.images.rglob("*.png")):
        place = path.relative_to(trained.images)
        (root / "maps" / place.parent).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, LABELS, (16, 16), np.uint8)).save(root / "maps" / place)
        rows.append(f"{place.as_posix()},{'night' if place.parts[0] == 'dark' else 'day'}")
    (root / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    sizes = {"base_channels": 32, "channel_multipliers": (1,), "num_residual_blocks": 1, "patch_size": 4}
    autoencoder = AutoencoderConfig(
        image_channels=LABELS, latent_channels=8, resolution=16, attention_resolutions=(), **sizes
    )
    torch.manual_seed(0)
    quantizer = VectorQuantizerConfig(codebook_size=8, codebook_dim=4)
    tokenizer = Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer))
    save_model(tokenizer, root / "labels.safetensors")
    for name, size in (("map", 16), ("large", 32)):
        Image.fromarray(draw.integers(0, LABELS, (size, size), np.uint8)).save(root / f"{name}.png")
    return root


def words(trained, given, out):
    maps, labels = given / "maps", given / "labels.csv"
    flags = ["--condition", f"segmentation={maps}", "--condition", f"class={labels}"]
    flags += ["--condition-tokenizer", f"segmentation={given / 'labels.safetensors'}", "--device", "cpu"]
    return [
        *("train", "prior", trained.prior_file, "--data", trained.images, "--out", out),
        *("--tokenizer", trained.tokenizer, "--set", "task.condition_dropout=0.3", *flags),
    ]


@pytest.fixture(scope="module")
def steered(trained, given, tmp_path_factory):
    """A prior of maps and classes, trained from Python."""
    return vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path_factory.mktemp("steered") / "run",
        tokenizer=trained.tokenizer,
        conditions={"segmentation": given / "maps", "class": given / "labels.csv"},
        condition_tokenizers={"segmentation": given / "labels.safetensors"},
        overrides=["task.condition_dropout=0.3", "training.pictures=2", "data.flip=true"],
        device="cpu",
    )


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_python_and_the_command_line_train_the_same(trained, given, steered, tmp_path, run):
    more = ["--set", "training.pictures=2", "--set", "data.flip=true"]
    result = run(*words(trained, given, tmp_path / "run"), *more)
    assert result.code == 0, result.err
    one, other = (load(folder, device="cpu") for folder in (steered, tmp_path / "run"))
    assert one.config == other.config
    assert all(torch.equal(one.state_dict()[name], other.state_dict()[name]) for name in one.state_dict())
    assert "segmentation, class, or none; takes `--guidance`" in run("info", tmp_path / "run").out
    assert list((steered / "images").glob("*.png"))


def test_the_file_holds_the_tokenizer_of_the_maps_as_it_was_given(given, steered):
    model, own = load(steered, device="cpu"), load(given / "labels.safetensors", device="cpu")
    found = model.conditioner.parts[0].tokenizer
    assert all(torch.equal(found.state_dict()[name], own.state_dict()[name]) for name in own.state_dict())
    assert model.conditioner.parts[1].config.class_names == ("day", "night")


def test_a_run_goes_on_with_its_conditions_and_with_no_others(steered, given, tmp_path):
    continued = vqgan.train(None, resume=steered, overrides=["training.steps=4"], device="cpu")
    assert continued == steered
    (given / "maps" / "dark" / "0.png").rename(given / "kept.png")
    try:
        with pytest.raises(vqgan.VqganError, match="has no `segmentation`"):
            vqgan.train(None, resume=steered, overrides=["training.steps=5"], device="cpu")
    finally:
        (given / "kept.png").rename(given / "maps" / "dark" / "0.png")
    with pytest.raises(vqgan.VqganError, match=r"`conditions=` is .*, but a resumed run takes everything"):
        vqgan.train(None, resume=steered, conditions={"class": "x.csv"}, device="cpu")


def test_a_prior_begins_with_the_conditions_of_another(steered, trained, given, tmp_path):
    out = vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path / "run",
        start_from=steered,
        conditions={"segmentation": given / "maps", "class": given / "labels.csv"},
        overrides=["training.steps=1"],
        device="cpu",
    )
    assert load(out, device="cpu").config == load(steered, device="cpu").config


def test_sampling_asks_for_all_or_some_conditions_with_guidance(steered, given, tmp_path, run):
    flags = ["--count", 1, "--condition", "class=night", "--condition", f"segmentation={given / 'map.png'}"]
    for name, more in (("plain", []), ("closer", ["--guidance", 1000]), ("later", ["--guidance", "0:1000"])):
        result = run("sample", steered, *flags, *more, "--out", tmp_path / name)
        assert result.code == 0, result.err
    plain, closer, later = (pixels(tmp_path / name / "000000.png") for name in ("plain", "closer", "later"))
    assert not np.array_equal(plain, closer)
    assert not np.array_equal(closer, later)
    text = Image.open(tmp_path / "later" / "000000.png").text
    said = [text[name] for name in ("guidance", "class", "segmentation")]
    assert said == ["0:1000", "night", str(given / "map.png")]
    assert Image.open(tmp_path / "later" / "grid.png").text["segmentation"] == str(given / "map.png")
    assert run("sample", steered, "--count", 1, "--out", tmp_path / "any").code == 0


def test_images_have_the_size_of_the_map_and_commands_equal_python(steered, given, tmp_path, run):
    flags = ["--class", "day,night", "--count", 1, "--condition", f"segmentation={given / 'large.png'}"]
    assert run("sample", steered, *flags, "--guidance", 2, "--out", tmp_path / "a").code == 0
    labels = torch.from_numpy(pixels(given / "large.png"))[None]
    drawn = load(steered, device="cpu").sample(
        2, 32, {"class": ["day", "night"], "segmentation": labels}, guidance=2.0
    )
    for number, expected in enumerate((drawn.movedim(1, -1) + 1) * 127.5):
        found = pixels(tmp_path / "a" / f"{number:06d}.png")
        assert np.abs(found - expected.clamp(0, 255).numpy()).max() <= 1.01
    assert run("sample", steered, *flags, "--guidance", 2, "--zoom", "--out", tmp_path / "b").code == 0
    assert np.array_equal(pixels(tmp_path / "a" / "000001.png"), pixels(tmp_path / "b" / "000001.png"))


def test_completion_is_steered_too(steered, trained, given, tmp_path, run):
    image = trained.images / "dark" / "0.png"
    for name, flags in (("a", ["--class", "day"]), ("b", ["--condition", "class=day", "--guidance", 1000])):
        flags += ["--condition", f"segmentation={given / 'map.png'}"]
        result = run("complete", steered, image, "--keep", "top=0.5", *flags, "--out", tmp_path / name)
        assert result.code == 0, result.err
    assert pixels(tmp_path / "a" / "0.png").shape == (16, 16, 3)
    assert not np.array_equal(pixels(tmp_path / "a" / "0.png"), pixels(tmp_path / "b" / "0.png"))


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (
            ["--condition", "segmentation=LARGE", "--size", "16x16"],
            "has 32x32 pixels, the images 16x16",
            "give a `segmentation` of that size, or `--size 32x32`",
        ),
        (
            ["--condition", "segmentatoin=MAP"],
            "`--condition segmentatoin=` was given, but this prior is steered by `segmentation`, `class`",
            "did you mean `segmentation`?",
        ),
        (
            ["--condition", "segmentation"],
            "`--condition segmentation` is given, expected a name and a value",
            "write",
        ),
        (
            ["--condition", "segmentation="],
            "`--condition segmentation=` is given, expected a name and a value",
            "write",
        ),
        (
            ["--condition", "class=0", "--condition", "class=1"],
            "`--condition` names `class` twice",
            "omit one",
        ),
        (
            ["--condition", "class=0", "--class", "1"],
            "both `--class` and `--condition class=` are given",
            "omit",
        ),
        (["--condition", "class=dawn"], "unknown class `dawn`", "known: `day`, `night`"),
        (["--guidance", "3:"], "`--guidance` is `3:`, expected one or two numbers of at least 0", "write"),
        (["--guidance", "1:2:3"], "`--guidance` is `1:2:3`, expected", "write `--guidance 3`"),
        (["--guidance", "-1"], "`--guidance` is `-1`, expected one or two numbers of at least 0", "write"),
    ],
)
def test_what_is_asked_wrongly_is_refused(steered, given, tmp_path, run, flags, message, hint):
    flags = [each.replace("LARGE", str(given / "large.png")) for each in flags]
    result = run("sample", steered, *flags, "--out", tmp_path / "out")
    assert (result.code, message in result.err) == (2, True), result.err
    assert f"hint: {hint}" in result.err
    assert not list(tmp_path.rglob("*.png"))


def test_files_that_are_no_maps_are_refused(steered, trained, given, tmp_path, run):
    for value, message in (
        (trained.images / "dark" / "0.png", "it is a picture in RGB, expected labels"),
        (tmp_path / "missing.png", "no such file or directory"),
    ):
        result = run("sample", steered, "--condition", f"segmentation={value}", "--out", tmp_path / "out")
        assert (result.code, message in result.err) == (3, True), result.err
        assert "hint: give `--condition segmentation=FILE`" in result.err


def test_messages_name_the_flags_of_conditions(steered, given, run):
    result = run("train", "prior", "--resume", steered, "--condition", f"class={given / 'labels.csv'}")
    assert (result.code, "vqgan: `--condition` is `{'class': " in result.err) == (2, True)


def test_priors_without_null_tokens_say_what_is_missing(trained, given, tmp_path, run):
    result = run("sample", trained.classes, "--class", 0, "--guidance", 2, "--out", tmp_path / "out")
    assert result.code == 2
    assert (
        "this prior cannot take `guidance`: it has not learned images without their condition" in result.err
    )
    result = run("sample", trained.prior, "--guidance", 2, "--out", tmp_path / "out")
    assert "this prior cannot take `guidance`: it has no condition to follow" in result.err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--condition", "segmentation=MAPS"], 2, "the condition `segmentation` has no tokenizer"),
        (["--condition", "image=MAPS"], 0, ""),
        (["--condition", "coordinates=MAPS"], 2, "the condition `coordinates` takes no files"),
        (
            ["--condition-tokenizer", "depth=TOKENIZER"],
            2,
            "there is a tokenizer for `depth`, which is no condition",
        ),
        (
            ["--set", "conditioner.kind=tokenized_image", "--set", "conditioner.codebook_size=16"],
            3,
            "the condition is a `tokenized_image`, but the images come without one",
        ),
        (
            ["--condition", "image=MAPS", "--set", "data.cached_codes=2", "--set", "data.resize=null"],
            2,
            "`data.cached_codes` is 2, but the condition `image` must be cut out with each crop",
        ),
        (
            ["--condition", "class=TABLE", "--set", "conditioner.kind=coordinates"],
            2,
            "missing key `num_values`",
        ),
    ],
)
def test_training_says_which_conditions_do_not_go(trained, given, tmp_path, run, flags, code, message):
    places = {
        "MAPS": given / "maps",
        "TABLE": given / "labels.csv",
        "TOKENIZER": given / "labels.safetensors",
    }
    for name, path in places.items():
        flags = [each.replace(name, str(path)) for each in flags]
    base = ["train", "prior", trained.prior_file, "--data", trained.images, "--tokenizer", trained.tokenizer]
    result = run(*base, *flags, "--set", "data.crop=random", "--out", tmp_path / "run", "--device", "cpu")
    assert (result.code, message in result.err) == (code, True), result.err
    assert (tmp_path / "run").exists() == (code == 0)


def test_a_tokenizer_with_another_factor_is_refused(trained, given, tmp_path, run):
    config = load(given / "labels.safetensors", device="cpu").config
    sizes = AutoencoderConfig(
        image_channels=LABELS,
        base_channels=32,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        latent_channels=8,
        resolution=16,
        attention_resolutions=(),
        patch_size=8,
    )
    save_model(
        Tokenizer(TokenizerConfig(autoencoder=sizes, quantizer=config.quantizer)), tmp_path / "t.safetensors"
    )
    flags = ["--condition", f"segmentation={given / 'maps'}"]
    flags += ["--condition-tokenizer", f"segmentation={tmp_path / 't.safetensors'}"]
    base = ["train", "prior", trained.prior_file, "--data", trained.images, "--tokenizer", trained.tokenizer]
    result = run(*base, *flags, "--out", tmp_path / "run")
    assert result.code == 2
    assert "the tokenizer of `segmentation` has 8 pixels per token side, that of the images 4" in result.err


def test_layouts_are_trained_on_and_asked_for(trained, tmp_path, run):
    names = [path.relative_to(trained.images).as_posix() for path in trained.images.rglob("*.png")]
    whole = {
        "images": [
            {"id": i, "file_name": name, "height": 16, "width": 16} for i, name in enumerate(sorted(names))
        ],
        "annotations": [
            {"image_id": i, "category_id": 1 + i % 2, "bbox": [0, 0, 8, 4 + i % 5]} for i in range(len(names))
        ],
        "categories": [{"id": 1, "name": "left"}, {"id": 2, "name": "right"}],
    }
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(whole), encoding="utf-8")
    base = ["train", "prior", trained.prior_file, "--data", trained.images, "--tokenizer", trained.tokenizer]
    result = run(*base, "--condition", f"layout={boxes}", "--out", tmp_path / "run", "--device", "cpu")
    assert result.code == 0, result.err
    one = {**whole, "images": whole["images"][:1], "annotations": whole["annotations"][:1]}
    layout = {"objects": [{"class_number": 0, "box": [0, 0, 0.5, 0.25]}]}
    for name, value in (("coco", one), ("plain", layout)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        flags = ["--count", 1, "--condition", f"layout={file}", "--out", tmp_path / name]
        result = run("sample", tmp_path / "run", *flags)
        assert result.code == 0, result.err
    assert np.array_equal(*(pixels(tmp_path / name / "000000.png") for name in ("coco", "plain")))
    result = run("sample", tmp_path / "run", "--condition", f"layout={boxes}", "--out", tmp_path / "out")
    assert (result.code, "has 20 images, expected one" in result.err) == (3, True)
    wrong = {"objects": [{"class_number": "left", "box": [0, 0, 0.5, 0.25]}]}
    file.write_text(json.dumps(wrong), encoding="utf-8")
    result = run("sample", tmp_path / "run", "--condition", f"layout={file}", "--out", tmp_path / "out")
    assert (result.code, "expected `int`, got `str`\nhint: write `{" in result.err) == (3, True)
    boxes.write_text(json.dumps({**whole, "annotations": []}), encoding="utf-8")
    result = run(*base, "--condition", f"layout={boxes}", "--out", tmp_path / "none")
    assert (result.code, f"no image has a box in `{boxes}`" in result.err) == (3, True)
    assert not (tmp_path / "none").exists()


def test_conditions_computed_from_the_images_go_with_others(trained, given, tmp_path, run):
    flags = ["--set", "conditioner.kind=edges", "--condition", f"class={given / 'labels.csv'}"]
    flags += ["--condition", f"segmentation={given / 'maps'}", "--set", "task.condition_dropout=0.2"]
    flags += ["--condition-tokenizer", f"segmentation={given / 'labels.safetensors'}", "--device", "cpu"]
    base = ["train", "prior", trained.prior_file, "--data", trained.images, "--tokenizer", trained.tokenizer]
    result = run(*base, *flags, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    photograph = trained.images / "light" / "0.png"
    flags = ["--class", "day", "--condition", f"edges={photograph}", "--guidance", 1]
    flags += ["--condition", f"segmentation={given / 'large.png'}"]
    result = run("sample", tmp_path / "run", "--count", 1, *flags, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    labels = torch.from_numpy(pixels(given / "large.png"))[None]  # tells the size, also of the photograph
    whole = {"class": "day", "edges": vqgan.read_images(photograph, 32), "segmentation": labels}
    drawn = to_uint8(load(tmp_path / "run", device="cpu").sample(1, 32, whole, guidance=1.0)[0])
    assert np.array_equal(pixels(tmp_path / "out" / "000000.png"), drawn.numpy())
    flags = ["--condition", f"edges={trained.images}", "--out", tmp_path / "more"]
    result = run("sample", tmp_path / "run", *flags)
    assert (result.code, f"cannot read `{trained.images}`: not a regular file" in result.err) == (3, True)


@pytest.fixture(scope="module", params=["edges", "palette", "low_resolution"])
def computed(request, trained, tmp_path_factory):
    """The kind of a condition that is computed from the images, and a prior of it."""
    folder = vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path_factory.mktemp(request.param) / "run",
        tokenizer=trained.tokenizer,
        overrides=[f"conditioner.kind={request.param}"],
        device="cpu",
    )
    return request.param, folder


def test_a_photograph_is_fitted_to_the_images(computed, tmp_path, run):
    kind, folder = computed
    draw = np.random.default_rng(1)
    blocks = draw.integers(0, 256, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    photograph = tmp_path / "photograph.png"
    Image.fromarray(blocks).save(photograph)
    model = load(folder, device="cpu")
    for size in ((16, 16), (32, 48)):
        flags = ["--size", f"{size[0]}x{size[1]}", "--condition", f"{kind}={photograph}", "--device", "cpu"]
        result = run("sample", folder, "--count", 1, *flags, "--out", tmp_path / str(size))
        assert result.code == 0, result.err
        fitted = vqgan.read_images(photograph, size, channels=model.tokenizer.image_channels)
        expected = to_uint8(model.sample(1, size, {kind: fitted})[0]).numpy()
        assert np.array_equal(pixels(tmp_path / str(size) / "000000.png"), expected.squeeze())
    flags = ["--condition", f"{kind}={photograph}", "--device", "cpu", "--out", tmp_path / "score"]
    assert run("score", folder, photograph, *flags).code == 0
    fitted = vqgan.read_images(photograph, 16, channels=model.tokenizer.image_channels)
    expected = -model.log_probability(fitted, {kind: fitted}).mean().item()
    found = json.loads((tmp_path / "score" / "photograph.json").read_text(encoding="utf-8"))
    assert (found["size"], found["mean_nats"]) == ([16, 16], pytest.approx(expected, abs=1e-4))
    result = run("sample", folder, "--out", tmp_path / "out")
    assert (result.code, f"there is no `{kind}`" in result.err) == (2, True)


def test_maps_of_edges_and_small_copies_are_taken_as_they_are(computed, tmp_path, run):
    kind, folder = computed
    model, channels = load(folder, device="cpu"), load(folder, device="cpu").tokenizer.image_channels
    photograph = torch.rand(1, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if kind == "edges":
        value = canny(photograph)
        picture = value[:, None].expand(-1, channels, -1, -1) * 2.0 - 1
    elif kind == "low_resolution":
        value = picture = to_float(to_uint8(torch.nn.functional.avg_pool2d(photograph, 4)).numpy())
    else:
        pytest.skip("a picture in the colours of a palette is a photograph")
    save_png(picture[0], tmp_path / "map.png")
    flags = ["--count", 1, "--condition", f"{kind}={tmp_path / 'map.png'}", "--device", "cpu"]
    result = run("sample", folder, *flags, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    expected = to_uint8(model.sample(1, condition={kind: value})[0]).numpy()
    assert np.array_equal(pixels(tmp_path / "out" / "000000.png"), expected.squeeze())
    if kind == "edges":
        result = run("sample", folder, *flags, "--size", "32x32", "--out", tmp_path / "more")
        assert (result.code, "has 16x16 pixels, the images 32x32" in result.err) == (2, True)
