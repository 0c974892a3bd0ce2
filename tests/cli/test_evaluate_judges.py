"""What ``vqgan evaluate`` judges pictures by: networks on disk, LPIPS, published statistics, and the cache."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import networks
import vqgan
from vqgan.checkpoints import inception
from vqgan.checkpoints.inception import load_inception
from vqgan.checkpoints.perceptual import _FILE
from vqgan.checkpoints.tensors import write_tensors
from vqgan.errors import CheckpointError
from vqgan.evaluation.features import FeatureNetwork, open_features
from vqgan.images import to_float
from vqgan.nn import perceptual
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.quality import evaluate


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of our own."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tokenizer(trained):
    return vqgan.load(trained.tokenizer, device="cpu")


@pytest.fixture
def lpips(monkeypatch):
    """The weights of a small one of the same form."""
    monkeypatch.setattr(perceptual, "STAGES", ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)))
    draws = torch.Generator().manual_seed(0)
    state = PerceptualNetwork().state_dict()
    return {
        name: each
        if name in ("shift", "scale")
        else torch.rand(each.shape, generator=draws) - 0.3 * (each.ndim > 1)
        for name, each in state.items()
    }


def written_lpips(state, real, others):
    """Zhang et al. 2018, eq. 1, layer by layer."""
    total = torch.zeros(len(real))
    shown = [(each - state["shift"]) / state["scale"] for each in (real, others)]
    for stage, layers in enumerate((2, 2, 3, 3, 3)):
        if stage:
            shown = [F.max_pool2d(each, 2, 2) for each in shown]
        for layer in range(layers):
            name = f"stages.{stage}.{layer}"
            shown = [
                F.conv2d(each, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).clamp(min=0)
                for each in shown
            ]
        one, two = (each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in shown)
        total += ((one - two) ** 2 * state[f"heads.{stage}.weight"].view(1, -1, 1, 1)).sum(1).mean((1, 2))
    return total


def test_lpips_is_measured_where_its_weights_are_known(trained, lpips, cache, tmp_path, monkeypatch):
    how = {"images": 6, "device": "cpu"}
    monkeypatch.setattr("vqgan.checkpoints.perceptual._download", pytest.fail)
    without = evaluate(trained.tokenizer, trained.images, **how)
    assert "lpips" not in without.numbers["reconstruction"]
    assert "lpips" not in without.conventions
    assert any("`--lpips FILE`" in note for note in without.notes)
    write_tensors(tmp_path / "own.safetensors", lpips, {})
    found = evaluate(trained.tokenizer, trained.images, lpips=tmp_path / "own.safetensors", **how)
    number = found.numbers["reconstruction"]["lpips"]
    pair = (to_float(found.pictures[name]) for name in ("real", "rebuilt"))
    expected = written_lpips(lpips, *pair)
    assert number.value == pytest.approx(float(expected.mean()), rel=1e-5)
    assert number.count == 6
    assert expected.min() < number.interval[0] < number.value < number.interval[1] < expected.max()
    assert found.conventions["lpips"].startswith("VGG16 ")
    assert not any("LPIPS" in note for note in found.notes)
    write_tensors(cache / _FILE, lpips, {})
    assert evaluate(trained.tokenizer, trained.images, **how).numbers["reconstruction"]["lpips"] == number


def test_lpips_needs_sixteen_pixels(trained, lpips, cache):
    write_tensors(cache / _FILE, lpips, {})
    found = evaluate(trained.tokenizer, trained.images, size=(12, 12), device="cpu")
    assert "lpips" not in found.numbers["reconstruction"]
    assert any("images of 12x12 pixels and 3 channels, it needs 16" in note for note in found.notes)


@pytest.fixture
def fid(tmp_path):
    torch.save(networks.inception_state(), path := tmp_path / "weights.pth")
    yield path
    path.unlink()  # 96 MB


def test_only_the_distance_by_fids_network_is_called_fid(run, trained, tokenizer, fid, tmp_path, monkeypatch):
    judge = open_features(str(fid), tokenizer)
    assert judge.distance == "frechet"  # random weights
    network, digest, _ = load_inception(fid)
    monkeypatch.setattr(inception, "_SHA256", digest)
    given = ("--data", trained.images, "--images", 4, "--features", fid, "--device", "cpu")
    result = run("evaluate", trained.tokenizer, *given, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "reconstruction fid: " in result.out
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    numbers = written["numbers"]["reconstruction"]
    assert {"fid", "fid_perturbed", "fid_of_halves"} < numbers.keys()
    assert not any("frechet" in name for name in numbers)
    assert written["conventions"]["features"] == judge.name
    assert judge.name.startswith(f"Inception {digest[:12]}")
    assert "4 images for 2048 features" in numbers["fid"]["note"]
    assert "if every tenth code" in (tmp_path / "out" / "evaluation.md").read_text()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    features = judge.of(pixels)
    torch.testing.assert_close(features, network.features(to_float(pixels)))
    torch.testing.assert_close(judge.classes(features), network.scores(features).softmax(1))


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("Dinov2Model", 16),
        ("ViTModel", 16),
        ("CLIPModel", 8),
        ("CLIPVisionModel", 16),
        ("CLIPVisionModelWithProjection", 8),
    ],
)
def test_a_network_of_transformers_gives_what_it_pools(tokenizer, tmp_path, name, width):
    transformers = pytest.importorskip("transformers")
    folder = networks.save_vision(name, tmp_path / name)
    network = open_features(str(folder), tokenizer)
    assert network.name.startswith(f"{name} ")
    assert "32x32" in network.name
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    shown = processor(images=list(pixels), return_tensors="pt", do_resize=False)["pixel_values"]
    model = getattr(transformers, name).from_pretrained(folder).eval()
    with torch.no_grad():
        if name == "CLIPModel":
            expected = model.visual_projection(model.vision_model(pixel_values=shown).pooler_output)
        else:
            output = model(pixel_values=shown)
            expected = output.image_embeds if name.endswith("Projection") else output.pooler_output
    assert network.of(pixels).shape == (2, width)
    torch.testing.assert_close(network.of(pixels), expected, rtol=1e-4, atol=1e-5)
    assert network.of(np.zeros((1, 20, 50, 1), np.uint8)).shape == (1, width)


def test_other_networks_of_transformers_are_refused(tokenizer, tmp_path):
    folder = networks.save("segformer", tmp_path / "labels")
    with pytest.raises(
        CheckpointError, match="cannot be used for features: it is a SegformerForSemanticSegmentation"
    ):
        open_features(str(folder), tokenizer)
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.SegformerModel(config).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="a SegformerModel does not pool what it sees") as caught:
        open_features(str(folder), tokenizer)
    assert "DINOv2" in caught.value.hint
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be used for features"):
        open_features(str(folder), tokenizer)


def counting(monkeypatch):
    """How many pictures pass a network, call by call."""
    passed, of = [], FeatureNetwork.of
    monkeypatch.setattr(
        FeatureNetwork, "of", lambda self, pictures: (passed.append(len(pictures)), of(self, pictures))[1]
    )
    return passed


def test_features_of_real_images_are_kept_and_damage_is_noticed(
    trained, tmp_path, cache, monkeypatch, caplog
):
    folder = networks.save_vision("Dinov2Model", tmp_path / "network")
    passed = counting(monkeypatch)

    def measure(**changes):
        passed.clear()
        return evaluate(
            trained.prior,
            trained.images,
            **{"features": str(folder), "device": "cpu", "samples": 8} | changes,
        )

    first = measure()
    assert passed == [20, 20, 20, 8]  # real, rebuilt, with other codes, drawn
    (kept,) = (cache / "features").iterdir()
    again = measure()
    assert passed == [20, 20, 8]
    for part in first.numbers:
        same = [name for name in first.numbers[part] if name not in ("images_per_second", "peak_gb")]
        assert [first.numbers[part][name] for name in same] == [again.numbers[part][name] for name in same]
    measure(images=10)  # others
    assert passed == [10, 10, 10, 8]
    content = bytearray(kept.read_bytes())
    content[-3] ^= 1
    for damaged in (bytes(content), bytes(content[:100])):
        kept.write_bytes(damaged)
        caplog.clear()
        assert measure().numbers["samples"]["frechet"] == first.numbers["samples"]["frechet"]
        assert passed == [20, 20, 20, 8]
        assert "is damaged" in caplog.text
    measure()
    assert passed == [20, 20, 8]


def test_latents_are_not_kept_and_a_cache_that_refuses_costs_a_warning(trained, tmp_path, cache, caplog):
    how = {"images": 4, "device": "cpu"}
    evaluate(trained.tokenizer, trained.images, **how)
    assert not cache.exists()
    cache.write_text("no folder", encoding="utf-8")
    folder = networks.save_vision("Dinov2Model", tmp_path / "network")
    assert (
        "frechet"
        in evaluate(trained.tokenizer, trained.images, features=str(folder), **how).numbers["reconstruction"]
    )
    assert "not kept for the next evaluation" in caplog.text


def test_distances_are_taken_from_published_statistics(run, trained, tmp_path):
    folder = networks.save_vision("CLIPModel", tmp_path / "network")
    how = {"features": str(folder), "device": "cpu", "samples": 8}
    plain = evaluate(trained.prior, trained.images, **how)
    features = open_features(str(folder), vqgan.load(trained.tokenizer, device="cpu"))
    rows = features.of(plain.pictures["real"]).double().numpy()
    statistics = {"mu": rows.mean(0) + 0.5, "sigma": np.cov(rows, rowvar=False)}
    np.savez(tmp_path / "stats.npz", **statistics, arr_0=plain.pictures["real"])
    found = evaluate(trained.prior, trained.images, reference=tmp_path / "stats.npz", **how)
    for part, name in (
        ("reconstruction", "frechet"),
        ("reconstruction", "frechet_perturbed"),
        ("samples", "frechet"),
    ):
        assert found.numbers[part][name].value != pytest.approx(plain.numbers[part][name].value)
    linalg = pytest.importorskip("scipy.linalg")
    drawn = features.of(plain.pictures["drawn"]).double().numpy()
    spread = np.cov(drawn, rowvar=False)
    expected = np.square(drawn.mean(0) - statistics["mu"]).sum() + np.trace(spread + statistics["sigma"])
    expected -= 2 * np.trace(linalg.sqrtm(spread @ statistics["sigma"]).real)
    assert found.numbers["samples"]["frechet"].value == pytest.approx(expected, rel=1e-4)
    assert found.numbers["samples"]["kernel"] == plain.numbers["samples"]["kernel"]
    assert found.conventions["reference"].startswith("statistics ")
    assert "reference" not in plain.conventions


def test_statistics_of_another_network_are_refused_before_anything_is_measured(run, trained, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(20), sigma=np.eye(20))
    words = ("evaluate", trained.tokenizer, "--out", tmp_path / "out", "--reference")
    result = run(*words, tmp_path / "stats.npz")
    assert result.code == 2, result.err
    assert "has statistics of 20 features, `latents` gives 8" in result.err
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((1, 2, 2, 3), np.uint8))
    result = run(*words, tmp_path / "images.npz")
    assert result.code == 3, result.err
    assert "lacks `mu` or `sigma`" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()
