"""Arrays, transparency, any number of channels and animations, from folders and lists alike."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from vqgan import read_images
from vqgan.config import from_mapping, merge, to_mapping
from vqgan.data import FolderConfig, ListConfig, Source, open_source
from vqgan.data.loader import evaluation_batches
from vqgan.data.transforms import TransformConfig
from vqgan.errors import ConfigError, DataError
from vqgan.images import fit, read_pixels, with_channels
from vqgan.runs import train
from vqgan.training.run import TokenizerRun

GREY = np.arange(0, 240, 12, np.uint8).reshape(4, 5)


@pytest.fixture(params=["folder", "list"])
def opened(request, tmp_path):
    """Opens all files that a test wrote, by one of the two kinds of source."""

    def opener(split: str = "all", **settings: str) -> Source:
        names = sorted(path.name for path in (tmp_path / "files").iterdir())
        (tmp_path / "list.txt").write_text("".join(f"files/{name}\n" for name in names))
        folder, listed = (
            FolderConfig(path=str(tmp_path / "files")),
            ListConfig(path=str(tmp_path / "list.txt")),
        )
        return open_source(folder if request.param == "folder" else listed, **settings).part(split)

    (tmp_path / "files").mkdir()
    return opener


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[:, :, None],
        GREY.astype(np.uint16) * 257,
        (GREY.astype(np.uint16) * 257).astype(">u2"),
        GREY / 255.0,
        (GREY / 255.0).astype(np.float32)[:, :, None].repeat(3, 2),
        np.asfortranarray(GREY),
    ],
)
def test_an_array_is_an_image(array, opened, tmp_path):
    np.save(tmp_path / "files" / "a.npy", array)
    assert np.array_equal(opened().read(0).pixels, GREY[:, :, None].repeat(3, 2))
    assert np.array_equal(read_pixels(tmp_path / "files" / "a.npy", 1)[:, :, 0], GREY)
    assert read_images(tmp_path / "files" / "a.npy").shape == (1, 3, 4, 5)


WRONG = {
    "the array holds values of type int64": GREY.astype(np.int64),
    "the array holds values from -1 to 0.5": np.array([[-1.0, 0.5]]),
    "the array holds values from nan to nan": np.array([[np.nan, 0.5]]),
    r"the array has shape \(2, 4, 5, 1\)": GREY.repeat(2).reshape(2, 4, 5, 1),
    r"the array has shape \(0, 5\)": GREY[:0],
    "Object arrays cannot be loaded": np.array([[None]]),
    "the array has 2 channels, expected 3": GREY[:, :, None].repeat(2, 2),
}


@pytest.mark.parametrize("reason", WRONG)
def test_another_array_is_skipped_with_its_reason(reason, opened, tmp_path):
    np.save(tmp_path / "files" / "a.npy", GREY)
    np.save(tmp_path / "files" / "b.npy", WRONG[reason])
    with pytest.raises(DataError, match=rf"cannot read `.*b\.npy`: .*{reason}"):
        opened().read(1)
    plain = TransformConfig(image_size=(4, 5), image_channels=3, crop="center", flip=False)
    (batch,) = evaluation_batches(opened(), plain, 2)
    assert len(batch.images) == 1
    assert reason.replace("\\", "") in batch.skipped[0][1]


def test_a_file_cut_short_is_no_array(opened, tmp_path):
    np.save(tmp_path / "files" / "a.npy", GREY)
    (tmp_path / "files" / "a.npy").write_bytes((tmp_path / "files" / "a.npy").read_bytes()[:-3])
    with pytest.raises(DataError, match="cannot read"):
        opened().read(0)


def test_four_channels_keep_the_transparency_or_are_opaque(opened, tmp_path):
    clear = np.array([[[255, 0, 0, 0], [0, 255, 0, 128]]], np.uint8)
    Image.fromarray(clear).save(tmp_path / "files" / "a.png")
    Image.fromarray(clear[:, :, :3]).save(tmp_path / "files" / "b.png")
    source = opened()
    assert np.array_equal(source.read(0, 4).pixels, clear)
    assert source.read(1, 4).pixels.tolist() == [[[255, 0, 0, 255], [0, 255, 0, 255]]]
    assert source.read(0).pixels.tolist() == [[[255, 255, 255], [127, 255, 127]]]
    assert np.array_equal(with_channels(clear, 3), source.read(0).pixels)
    np.save(tmp_path / "files" / "c.npy", clear)
    assert np.array_equal(opened().read(2).pixels, source.read(0).pixels)
    assert with_channels(np.full((1, 1, 1), 9, np.uint8), 4).tolist() == [[[9, 9, 9, 255]]]


def test_other_numbers_of_channels_come_from_arrays_alone(opened, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (8, 10, 5)).astype(np.uint8)
    np.save(tmp_path / "files" / "a.npy", array)
    Image.fromarray(array[:, :, :3]).save(tmp_path / "files" / "b.png")
    assert np.array_equal(opened().read(0, 5).pixels, array)
    with pytest.raises(DataError, match="the picture has 3 channels, expected 5"):
        opened().read(1, 5)


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_of_an_array_are_resized_apart(channels):
    array = np.random.default_rng(0).integers(0, 256, (9, 12, channels)).astype(np.uint8)
    each = [fit(array[:, :, i : i + 1], (4, 4)) for i in range(channels)]
    assert np.array_equal(fit(array, (4, 4)), np.concatenate(each, axis=2))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_any_number_of_channels_is_trained_and_pictured(channels, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (9, 9, channels)).astype(np.uint8)
        (tmp_path / "files").mkdir(exist_ok=True)
        np.save(tmp_path / "files" / f"{number}.npy", noise)
    run = merge(
        to_mapping(tiny.tokenizer_run(steps=1, pictures=2)),
        {"tokenizer": {"autoencoder": {"image_channels": channels}}},
    )
    folder = train(
        from_mapping(run, TokenizerRun), data=tmp_path / "files", out=tmp_path / "run", device="cpu"
    )
    mode = {2: "L", 4: "RGBA", 5: "RGB"}[channels]
    with Image.open(folder / "images" / "reconstructions-00000001.png") as picture:
        assert picture.mode == mode


def test_the_perceptual_loss_asks_for_grey_or_colour(tmp_path):
    run = merge(
        to_mapping(tiny.tokenizer_run()),
        {
            "tokenizer": {"autoencoder": {"image_channels": 4, "resolution": 16}},
            "task": {"perceptual": {"weight": 1.0}},
            "data": {"image_size": [16, 16]},
        },
    )
    Image.new("RGBA", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(
        ConfigError, match="16 x 16 pixels and 4 channels do not fit the perceptual loss"
    ) as caught:
        train(from_mapping(run, TokenizerRun), data=tmp_path, out=tmp_path / "run", device="cpu")
    assert "task.perceptual=null" in caught.value.hint
    assert not (tmp_path / "run").exists()


def animation(path: Path, count: int) -> None:
    frames = [Image.new("L", (4, 5), 40 * number) for number in range(count)]
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if path.suffix == ".webp" else {}),
    )


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_all_frames_of_an_animation_are_images(ending, opened, tmp_path):
    animation(tmp_path / "files" / f"a.{ending}", 3)
    (tmp_path / "files" / "broken.gif").write_bytes(b"GIF89a, but no image")
    Image.new("RGB", (4, 5), "white").save(tmp_path / "files" / "z.png")
    assert len(opened()) == 3
    source = opened(frames="all")
    assert len(source) == 5
    values = [int(source.read(i).pixels[0, 0, 0]) for i in (0, 1, 2, 4)]
    assert values == pytest.approx([0, 40, 80, 255], abs=2)
    assert source.label(1).endswith(f"a.{ending}[1]")
    assert source.label(4).endswith("z.png")
    assert source.fingerprint != opened().fingerprint


def test_frames_of_a_file_are_on_one_side(opened, tmp_path):
    for number in range(8):
        animation(tmp_path / "files" / f"{number}.gif", 3)
    files = []
    for split in ("train", "heldout"):
        source = opened(split, frames="all")
        files.append({source.label(i).split("[")[0] for i in range(len(source))})
        assert len(source) == 3 * len(files[-1])
    assert not files[0] & files[1]


def test_the_first_frame_is_taken_with_a_warning(tmp_path, caplog):
    animation(tmp_path / "a.gif", 3)
    Image.new("L", (4, 5)).save(tmp_path / "b.gif")
    with caplog.at_level(logging.WARNING):
        first = read_images([tmp_path / "a.gif", tmp_path / "b.gif"])
    assert torch.all(first == -1)
    assert caplog.messages == [f"`{tmp_path / 'a.gif'}` has several frames: the first is used"]
