"""Text-image models as judges: tiny random ones, saved and opened as a user's are."""

import json
import logging
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import networks
import vqgan
from vqgan.errors import CheckpointError, ConfigError
from vqgan.imagine import open_judge

TEXTS = ["red car", "a b c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("judges")
    return lambda name: root / name if (root / name).exists() else networks.save_judge(name, root / name)


@pytest.fixture(params=networks.JUDGES)
def name(request):
    return request.param


def pictures(*shape):
    """Values that pictures of 8 bits have."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator) / 127.5 - 1


def test_logits_are_those_of_transformers(name, folder):
    transformers = pytest.importorskip("transformers")
    images = pictures(3, 3, 32, 32)
    judge = open_judge(folder(name), device="cpu")
    model = getattr(transformers, name).from_pretrained(folder(name)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder(name), backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(name))
    pixels = processor(list(vqgan.images.to_uint8(images).numpy()), return_tensors="pt")
    # CLIP's own way is the shortest padding with its mask, SigLIP's the full length without.
    clip = name == "CLIPModel"
    padding = {"padding": True} if clip else {"padding": "max_length", "max_length": 12}
    words = tokenizer(TEXTS, return_tensors="pt", return_attention_mask=clip, **padding)
    with torch.no_grad():
        expected = model(**pixels, **words)
    torch.testing.assert_close(judge.logits(images, TEXTS), expected.logits_per_image, atol=1e-5, rtol=1e-5)
    cosine = expected.image_embeds @ expected.text_embeds.T
    torch.testing.assert_close(judge.similarity(images, TEXTS), cosine, atol=1e-5, rtol=1e-5)
    assert (cosine[:, 0] - cosine[:, 1]).abs().min() > 1e-3
    assert cosine.std(dim=0).min() > 1e-3


@pytest.mark.parametrize("size", [(32, 32), (48, 40)])
def test_gradients_of_pixels_equal_finite_differences_and_weights_have_none(name, size, folder):
    judge = open_judge(folder(name), device="cpu")
    judge.model.double()
    images = pictures(2, 3, *size).double().requires_grad_()
    judge.similarity(images, TEXTS)[:, 0].sum().backward()
    assert images.grad is not None
    assert all(parameter.grad is None for parameter in judge.model.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        step = torch.randn(images.shape, generator=generator, dtype=torch.float64) * 1e-5
        with torch.no_grad():
            above, below = (judge.similarity(images + sign * step, TEXTS)[:, 0].sum() for sign in (1, -1))
        torch.testing.assert_close((above - below) / 2, (images.grad * step).sum(), rtol=1e-4, atol=1e-12)


def test_results_and_gradients_do_not_depend_on_the_batch(name, folder):
    results = []
    for size in (1, 2, 8):
        judge = open_judge(folder(name), device="cpu", batch_size=size)
        judge.model.double()
        images = pictures(5, 3, 40, 32).double().requires_grad_()
        found = judge.similarity(images, [*TEXTS, "d", TEXTS[0]])
        found[:, 2].sum().backward()
        results.append((found.detach(), images.grad))
        assert torch.equal(found[:, 0], found[:, 3])
    for found, gradient in results[1:]:
        torch.testing.assert_close(found, results[0][0], atol=1e-9, rtol=0)
        torch.testing.assert_close(gradient, results[0][1], atol=1e-9, rtol=1e-6)


def test_with_gradients_no_more_than_one_batch_is_kept(folder):
    judge = open_judge(folder("CLIPModel"), device="cpu", batch_size=2)
    seen = []
    judge.model.vision_model.register_forward_hook(lambda *_: seen.append(1))
    images = pictures(6, 3, 32, 32).requires_grad_()
    judge.embed_images(images).sum().backward()
    assert len(seen) == 6  # three batches, each once more in the backward pass


def test_bound_to_texts_it_keeps_the_best_images(name, folder):
    judge = open_judge(folder(name), device="cpu")
    images = pictures(5, 3, 32, 32)
    kept, scores = vqgan.keep_best(images * 2, judge.by(TEXTS), 0.4)
    expected = judge.similarity((images * 2).clamp(-1, 1), TEXTS).mean(dim=1).sort(descending=True)
    assert torch.equal(kept, images[expected.indices[:2]] * 2)
    torch.testing.assert_close(scores, expected.values[:2])
    grey = pictures(2, 1, 32, 32)
    torch.testing.assert_close(judge.by(TEXTS)(grey), judge.by(TEXTS)(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ConfigError, match="expected a list of at least one text"):
        judge.by("red car")


def test_texts_are_read_once(name, folder, monkeypatch):
    judge = open_judge(folder(name), device="cpu")
    monkeypatch.setattr("vqgan.imagine.judge.KEPT", 2)
    read = []
    judge.model.text_model.register_forward_hook(lambda *_: read.append(1))
    with torch.inference_mode():
        first = judge.embed_text(TEXTS)
    assert torch.equal(judge.embed_text(TEXTS[::-1]), first.flip(0))
    assert len(read) == 1
    torch.testing.assert_close(first.norm(dim=1), torch.ones(2))
    # Kept without gradients, also where it was read without any.
    images = pictures(1, 3, 32, 32).requires_grad_()
    judge.similarity(images, TEXTS).sum().backward()
    assert judge.embed_text(["d", "e", "f"]).shape == (3, first.shape[1])
    judge.embed_text(TEXTS)
    assert len(read) == 3


def test_a_long_text_is_cut_and_the_warning_shows_what_was_cut(name, folder, caplog):
    judge = open_judge(folder(name), device="cpu")
    long = " ".join("abcdefghijklmnopqrstuvwxyz")
    with caplog.at_level(logging.WARNING):
        found = judge.embed_text([long, "a b"])
    (message,) = [record.getMessage() for record in caplog.records if record.name == "vqgan.imagine.judge"]
    cut = message.split("this is cut: `")[1].rstrip("`").replace("▁", " ").strip()
    assert long.endswith(cut)
    kept = long.removesuffix(cut)
    assert 3 <= len(kept.split()) <= 12
    caplog.clear()
    torch.testing.assert_close(judge.embed_text([kept])[0], found[0], atol=1e-5, rtol=0)
    assert torch.equal(judge.embed_text(["a \udcff"]), judge.embed_text(["a ?"]))
    assert not caplog.records


def test_large_images_are_reduced_without_aliasing(name, folder):
    judge = open_judge(folder(name), device="cpu")
    board = (torch.arange(256)[:, None] + torch.arange(256)) % 2 * 2.0 - 1
    grey = judge.embed_images(torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(judge.embed_images(board.expand(1, 3, 256, 256)), grey, atol=1e-3, rtol=0)


def test_clip_sees_the_central_square_and_siglip_the_whole(folder):
    images = pictures(1, 3, 32, 64)
    other = images.clone()
    other[..., :16], other[..., 48:] = 1.0, -1.0
    for name in networks.JUDGES:
        judge = open_judge(folder(name), device="cpu")
        same = torch.allclose(judge.embed_images(images), judge.embed_images(other), atol=1e-5)
        assert same == (name == "CLIPModel")


def test_judged_sampling_keeps_what_fits_a_text(folder):
    judge = open_judge(folder("CLIPModel"), device="cpu")
    images = pictures(8, 3, 16, 16)
    best, scores = vqgan.keep_best(
        images, judge=lambda images: judge.similarity(images, ["a red car"])[:, 0], share=0.25
    )
    expected = judge.similarity(images, ["a red car"])[:, 0].sort(descending=True)
    torch.testing.assert_close(scores, expected.values[:2])
    assert torch.equal(best, images[expected.indices[:2]])


def test_wrong_folders_and_other_networks_are_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be used for judging by texts") as caught:
        open_judge(tmp_path, device="cpu")
    assert "model.safetensors, tokenizer.json" in caught.value.hint
    assert caught.value.exit_code == 5
    other = networks.save("segformer", tmp_path / "other")
    with pytest.raises(CheckpointError, match="judging by texts: it is a SegformerForSemanticSegmentation"):
        open_judge(other, device="cpu")


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"]
)
def test_a_folder_without_one_of_its_files_is_refused(file, name, folder, tmp_path):
    shutil.copytree(folder(name), tmp_path / "part")
    (tmp_path / "part" / file).unlink()
    with pytest.raises(CheckpointError):
        open_judge(tmp_path / "part", device="cpu")


def test_missing_weights_are_refused_and_pickles_never_read(folder, tmp_path):
    shutil.copytree(folder("CLIPModel"), tmp_path / "part")
    file = tmp_path / "part" / "model.safetensors"
    weights = load_file(file)
    lost = weights.pop("visual_projection.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as `visual_projection\.weight`"):
        open_judge(tmp_path / "part", device="cpu")
    file.unlink()
    torch.save({**weights, "visual_projection.weight": lost}, tmp_path / "part" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_judge(tmp_path / "part", device="cpu")


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    shutil.copytree(folder("SiglipModel"), tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] |= {f"word{number}": number for number in range(31, 90)}
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(CheckpointError, match="has 90 tokens, the model 64"):
        open_judge(tmp_path / "other", device="cpu")


def test_a_missing_package_names_the_extra(folder, monkeypatch):
    place = folder("CLIPModel")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="judging by texts needs transformers") as caught:
        open_judge(place, device="cpu")
    assert caught.value.hint == 'install the extra `clip`: pip install "vqgan[clip]"'
    assert caught.value.exit_code == 2


def test_arguments_that_do_not_fit_are_refused(folder):
    judge = open_judge(folder("CLIPModel"), device="cpu")
    for texts in ("a red car", []):
        with pytest.raises(ConfigError, match="expected a list of at least one text"):
            judge.embed_text(texts)
    with pytest.raises(ConfigError, match="1 channels, expected 3"):
        judge.embed_images(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="`batch_size` is 0"):
        open_judge(folder("CLIPModel"), device="cpu", batch_size=0)
