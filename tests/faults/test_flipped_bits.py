"""Of a hundred flipped bits each is noticed: in weights before they are used, in a saved step by going on from another."""

import shutil

import numpy as np
import pytest

import tiny
import vqgan
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import CheckpointError

FLIPS = 50


def flipped(path, place, bit):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("model", [tiny.tokenizer, tiny.synthesizer])
def test_in_weights(tmp_path, model):
    path = tmp_path / "model.safetensors"
    vqgan.save_model(model(), path)
    data = path.read_bytes()
    chance = np.random.default_rng(0)
    for place in chance.integers(8 + int.from_bytes(data[:8], "little"), len(data), FLIPS // 2):
        flipped(path, place, chance.integers(8))
        with pytest.raises(CheckpointError, match="its tensors do not have its digest"):
            vqgan.load(path, device="cpu")
        path.write_bytes(data)
    vqgan.load(path, device="cpu")


def test_in_the_files_of_a_step(tmp_path, caplog):
    vqgan.train(
        tiny.tokenizer_run(tiny.data(tmp_path / "images"), save_every=2), out=tmp_path / "run", device="cpu"
    )
    folder = RunFolder(tmp_path / "run")
    assert folder.numbers() == [0, 2, 4]
    newest = folder.state / "step-00000004"
    shutil.copytree(newest, tmp_path / "good")
    files = sorted(newest.iterdir())
    assert len(files) == 5
    chance = np.random.default_rng(0)
    for number in range(FLIPS):
        path = files[number % len(files)]
        size = path.stat().st_size
        flipped(path, chance.integers(size), chance.integers(8))
        caplog.clear()
        assert folder.newest().number == 2, path
        assert caplog.messages[0].endswith("; continuing from step 2")
        assert path.name in caplog.text or path.name == "manifest.json"
        shutil.copy(tmp_path / "good" / path.name, path)
    assert folder.newest().number == 4
