"""From photographs to the conditions that steer training and sampling, by the command line."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import networks
import vqgan
from vqgan import save_model
from vqgan.data.poses import PoseFile
from vqgan.data.transforms import fit_pose
from vqgan.images import read_map
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return networks.save("segformer", tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph of 16x32 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    coarse = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    Image.fromarray(coarse).resize((32, 16)).save(path, quality=95)
    return path


def prior(trained, out, kind, **settings):
    """A run that is steered by what is computed from its images."""
    overrides = [
        f"conditioner.kind={kind}",
        *(f"conditioner.{name}={value}" for name, value in settings.items()),
    ]
    run = {"data": trained.images, "out": out, "tokenizer": trained.tokenizer, "overrides": overrides}
    return vqgan.train(trained.prior_file, device="cpu", **run)


def drawn(run, model, kind, file, out):
    """The image that a command draws by a condition."""
    result = run(
        "sample", model, "--count", 1, "--size", "16x32", "--condition", f"{kind}={file}", "--out", out
    )
    assert result.code == 0, result.err
    return vqgan.read_images(out / "000000.png")


def test_labels_of_photographs_train_a_prior_and_steer_its_samples(trained, folder, photo, tmp_path, run):
    flags = ["--model", folder, "--labels", "ade20k", "--device", "cpu"]
    result = run("extract", "segmentation", trained.images, "--out", tmp_path / "maps", *flags)
    assert result.code == 0, result.err
    assert len(result.paths) == 20
    assert (tmp_path / "maps" / "dark" / "0.png") in result.paths
    sizes = AutoencoderConfig(
        image_channels=151,
        base_channels=32,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        latent_channels=8,
        resolution=16,
        attention_resolutions=(),
        patch_size=4,
    )
    torch.manual_seed(0)
    codes = VectorQuantizerConfig(codebook_size=8, codebook_dim=4)
    save_model(
        Tokenizer(TokenizerConfig(autoencoder=sizes, quantizer=codes)), tmp_path / "labels.safetensors"
    )
    model = vqgan.train(
        trained.prior_file,
        data=trained.images,
        out=tmp_path / "run",
        tokenizer=trained.tokenizer,
        conditions={"segmentation": tmp_path / "maps"},
        condition_tokenizers={"segmentation": tmp_path / "labels.safetensors"},
        device="cpu",
    )
    result = run("extract", "segmentation", photo, "--out", tmp_path / "one", *flags)
    assert result.paths == [tmp_path / "one" / "photo.png"]
    with Image.open(result.paths[0]) as picture:
        assert (picture.mode, picture.size, picture.text["labels"]) == ("P", (32, 16), "ade20k")
    found = read_map(result.paths[0], 1, 151)
    expected = vqgan.extract(
        "segmentation", vqgan.read_images(photo), model=folder, labels="ade20k", device="cpu"
    )
    assert (found == expected[0].numpy()).all()
    assert set(np.unique(found)) <= {1, 2, 3, 4}
    assert drawn(run, model, "segmentation", result.paths[0], tmp_path / "new").shape == (1, 3, 16, 32)


def test_depth_is_a_grey_picture_of_16_bits_of_the_asked_size(photo, tmp_path, run):
    folder = networks.save("depth_anything", tmp_path / "network")
    flags = ["--model", folder, "--size", "24x40", "--device", "cpu"]
    result = run("extract", "depth", photo, "--out", tmp_path / "out", *flags)
    assert result.code == 0, result.err
    with Image.open(tmp_path / "out" / "photo.png") as picture:
        values = np.asarray(picture)
    assert (values.dtype, values.shape, values.min(), values.max()) == (np.uint16, (24, 40), 0, 65535)


@pytest.fixture(scope="module")
def pose_flags(tmp_path_factory):
    """What chooses the networks of a pose."""
    folders = {name: networks.save(name, tmp_path_factory.mktemp(name)) for name in ("vitpose", "yolos")}
    return ["--model", folders["vitpose"], "--detector", folders["yolos"], "--device", "cpu"]


def test_people_of_photographs_train_a_prior_and_steer_its_samples(trained, photo, pose_flags, tmp_path, run):
    result = run("extract", "pose", trained.images, "--out", tmp_path / "poses", *pose_flags)
    assert result.code == 0, result.err
    assert len(result.paths) == 21
    assert result.paths[-1] == tmp_path / "poses" / "people.json"
    people = PoseFile(str(result.paths[-1]))
    for key in people.keys:
        drawing = vqgan.read_images(tmp_path / "poses" / f"{key}.png")
        assert abs(drawing - fit_pose(people.read(key), (16, 16))).max() < 0.02
    assert any(len(people.read(key).people) for key in people.keys)
    settings = {"data": trained.images, "tokenizer": trained.tokenizer, "device": "cpu"}
    for given in (result.paths[-1], tmp_path / "poses"):
        model = vqgan.train(
            trained.prior_file, out=tmp_path / f"by-{given.stem}", conditions={"pose": given}, **settings
        )
    result = run("extract", "pose", photo, "--out", tmp_path / "one", *pose_flags)
    assert result.paths == [tmp_path / "one" / "photo.png", tmp_path / "one" / "people.json"]
    images = [drawn(run, model, "pose", path, tmp_path / f"new-{path.stem}") for path in result.paths]
    assert torch.equal(*images)
    assert images[0].shape == (1, 3, 16, 32)


def test_a_photograph_without_people_is_named_and_its_pose_black(
    photo, pose_flags, tmp_path, run, monkeypatch
):
    monkeypatch.setattr("vqgan.extraction.poses.LIKELY", 2.0)
    result = run("extract", "pose", photo, "--out", tmp_path, *pose_flags)
    assert result.code == 0
    assert f"no person was found in `{photo}`" in result.err
    assert vqgan.read_images(tmp_path / "photo.png").max() == -1
    assert len(PoseFile(str(tmp_path / "people.json")).read("photo").people) == 0
    assert run("extract", "pose", photo, "--out", tmp_path, *pose_flags).code == 0
    (tmp_path / "people.json").write_text("{}")
    result = run("extract", "pose", photo, "--out", tmp_path, *pose_flags)
    assert (result.code, "would replace a file that vqgan did not write" in result.err) == (2, True)


def test_networks_that_find_no_poses_have_their_exit_codes(folder, photo, pose_flags, tmp_path, run):
    words = ["extract", "pose", photo, "--out", tmp_path / "out", *pose_flags]
    for flag, task in (("--model", "pose"), ("--detector", "detector")):
        result = run(*words, flag, folder)
        assert result.code == 5
        assert f"cannot be used for `{task}`: it is a SegformerForSemanticSegmentation" in result.err
    result = run("extract", "depth", photo, "--detector", folder, "--out", tmp_path / "out")
    assert (result.code, "`depth` has no `--detector`\nhint: omit it" in result.err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("edges", {"low": 0.05, "high": 0.1}),
        ("low_resolution", {"factor": 2}),
        ("palette", {"num_colours": 4}),
    ],
)
def test_a_map_by_a_run_steers_it_as_the_photograph_does(kind, settings, trained, photo, tmp_path, run):
    model = prior(trained, tmp_path / "run", kind, **settings)
    result = run("extract", kind, photo, "--model", model, "--out", tmp_path / "maps")
    assert result.code == 0, result.err
    by_map = drawn(run, model, kind, tmp_path / "maps" / "photo.png", tmp_path / "by-map")
    by_photo = drawn(run, model, kind, photo, tmp_path / "by-photo")
    assert torch.equal(by_map, by_photo)
    pixels = vqgan.read_images(tmp_path / "maps" / "photo.png")[0]
    if kind == "low_resolution":
        assert pixels.shape == (3, 8, 16)
    else:
        colours = pixels.flatten(1).unique(dim=1).shape[1]
        assert 1 < colours <= (2 if kind == "edges" else 4)


def test_the_palette_of_a_photograph_of_any_size_has_that_size(trained, photo, tmp_path):
    model = prior(trained, tmp_path / "run", "palette", num_colours=4)
    whole = vqgan.read_images(photo)
    for height, width in ((1, 1), (15, 31)):
        found = vqgan.extract("palette", whole[..., :height, :width], model)
        assert found.shape == (1, 3, height, width)
        assert found.flatten(2).unique(dim=2).shape[2] <= 4
    full = vqgan.extract("palette", whole, model)
    assert torch.equal(vqgan.extract("palette", whole[..., :8], model), full[..., :8])


def test_a_run_that_is_steered_by_something_else_is_refused(trained, photo, tmp_path, run):
    for model in (trained.classes, trained.tokenizer):
        result = run("extract", "palette", photo, "--model", model, "--out", tmp_path)
        assert result.code == 2
        assert "is not steered by `palette`\nhint: name a run with `palette`: `--model`" in result.err


def test_unreadable_photographs_are_named_and_skipped(photo, tmp_path, run):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = run("extract", "edges", tmp_path / "broken.jpg", photo, "--out", tmp_path / "out")
    assert result.code == 0
    assert "skipped" in result.err
    assert result.paths == [tmp_path / "out" / "photo.png"]
    assert run("extract", "edges", tmp_path / "broken.jpg", "--out", tmp_path / "out").code == 3


def test_a_photograph_that_a_network_refuses_is_named_and_the_others_go_on(photo, tmp_path, run):
    folder = networks.save("dpt", tmp_path / "network")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    # The network has places for a square.
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "keep_aspect_ratio": True}))
    square = tmp_path / "square one.png"
    Image.new("L", (40, 40)).save(square)
    words = ["--model", folder, "--out", tmp_path / "out", "--device", "cpu"]
    result = run("extract", "depth", photo, square, *words)
    assert result.code == 0, result.err
    assert result.paths == [tmp_path / "out" / "square one.png"]
    assert f"skipped `{photo}`: `{folder}` cannot be used on a picture alone: " in result.err
    assert "\nhint: choose another model, or pictures of another size\n" in result.err
    result = run("extract", "depth", photo, *words)
    assert result.code == 3
    assert "none of the 1 images can be read" in result.err


def test_results_replace_earlier_ones_but_nothing_else(photo, tmp_path, run):
    words = ["extract", "edges", photo, "--out", tmp_path]
    assert run(*words).code == run(*words).code == 0
    Image.new("L", (2, 2)).save(tmp_path / "photo.png")
    assert "would replace a file that vqgan did not write" in run(*words).err
    assert run(*words, "--overwrite").code == 0


def test_a_missing_package_and_a_network_for_something_else_have_their_exit_codes(
    folder, photo, tmp_path, run, monkeypatch
):
    result = run("extract", "depth", photo, "--model", folder, "--out", tmp_path / "out")
    assert result.code == 5
    assert "cannot be used for `depth`: it is a SegformerForSemanticSegmentation" in result.err
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = run("extract", "depth", photo, "--out", tmp_path / "out")
    assert result.code == 2
    assert 'hint: install the extra `extract`: pip install "vqgan[extract]"' in result.err
    assert not (tmp_path / "out").exists()
