"""All commands with a tokenizer of pixels, whose codes are colours."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pixels(trained, tmp_path_factory):
    """The runs of its preset and of a prior on it, for a few steps."""
    from vqgan.cli.main import main

    folder, words = tmp_path_factory.mktemp("pixels"), ["--data", trained.images, "--image-size", "8x8"]
    common = [*words, "--set", "training.pictures=0", "--device", "cpu"]
    tokenizer = ["train", "tokenizer", "pixels-tokenizer", "--out", folder / "tokenizer", "--steps", 5]
    prior = [
        "train",
        "prior",
        trained.prior_file,
        "--out",
        folder / "prior",
        "--tokenizer",
        folder / "tokenizer",
    ]
    for command in (tokenizer, prior):
        assert main([str(word) for word in [*command, *common]]) == 0
    return folder


def test_images_become_codes_and_colours(trained, pixels, tmp_path, run):
    assert run("encode", pixels / "tokenizer", trained.images / "dark", "--out", tmp_path / "codes").code == 0
    codes = np.load(tmp_path / "codes" / "codes.npy")
    assert (codes.shape, codes.max() < 512, len(np.unique(codes)) > 50) == ((10, 16, 16), True, True)
    assert run("decode", pixels / "tokenizer", tmp_path / "codes", "--out", tmp_path / "a").code == 0
    assert run("reconstruct", pixels / "prior", trained.images / "dark", "--out", tmp_path / "b").code == 0
    for number in range(10):
        decoded, given, reconstructed = (
            np.asarray(Image.open(folder / f"{number}.png")).astype(int)
            for folder in (tmp_path / "a", trained.images / "dark", tmp_path / "b")
        )
        assert np.array_equal(decoded, reconstructed)
        assert np.abs(decoded - given).mean() < 8


def test_its_prior_draws_images_of_any_size(pixels, tmp_path, run):
    result = run("sample", pixels / "prior", "--count", 1, "--size", "8x12", "--out", tmp_path)
    assert result.code == 0
    assert np.asarray(Image.open(tmp_path / "000000.png")).shape == (8, 12, 3)


def test_info_tells_what_it_has(pixels, run):
    out = run("info", pixels / "tokenizer").out
    assert "\ncodebook    512 codes, 1 pixels per token side\nparameters  quantizer 1,536\n" in out
    assert "compute" not in out
    assert "\n  autoencoder: null\n" in out
    assert "\ncompute     GFLOP for 8x8 pixels: prior 0." in run("info", pixels / "prior").out
