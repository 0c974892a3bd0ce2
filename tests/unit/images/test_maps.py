import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.errors import DataError
from vqgan.images import fit, fit_map, map_tensor, picture_size, read_map
from vqgan.images.labels import map_pixels

LABELS = np.arange(12).reshape(3, 4) % 5


def save(path, array, mode=None):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        picture = Image.fromarray(array.astype(np.uint16 if mode == "I;16" else np.uint8))
        if mode == "P":
            picture.putpalette([*range(30)])
        picture.save(path)
    return path


@pytest.mark.parametrize(
    "kind", ["grey.png", "palette.png", "deep.png", "numbers.npy", "hot.npy", "flat.npy"]
)
def test_labels_are_the_numbers_of_the_pixels(tmp_path, kind):
    array = {"hot.npy": np.eye(5, dtype=np.uint8)[LABELS], "flat.npy": LABELS[:, :, None]}.get(kind, LABELS)
    mode = {"palette.png": "P", "deep.png": "I;16"}.get(kind)
    found = read_map(save(tmp_path / kind, array, mode), channels=5, labels=5)
    assert found.dtype == np.int64
    assert np.array_equal(found, LABELS)
    assert map_tensor(found).shape == (3, 4)


def test_depth_keeps_more_than_eight_bits(tmp_path):
    depth = np.array([[0, 1], [257, 65535]])
    found = read_map(save(tmp_path / "depth.png", depth, "I;16"), channels=1)
    assert np.allclose(found[:, :, 0], depth / 32767.5 - 1, atol=1e-6)
    assert map_tensor(found).shape == (1, 2, 2)
    shares = read_map(save(tmp_path / "shares.npy", np.array([[0.25, 0.5]])), channels=1)
    assert shares.ravel().tolist() == [-0.5, 0.0]
    metres = read_map(save(tmp_path / "metres.npy", np.array([[2.0, 3.0, 6.0]])), channels=1)
    assert metres.ravel().tolist() == [-1.0, -0.5, 1.0]
    flat = read_map(save(tmp_path / "flat.npy", np.full((2, 2), 7.0)), channels=1)
    assert np.isfinite(flat).all()


@pytest.mark.parametrize(("name", "mode"), [("grey.png", "L"), ("deep.png", "I;16"), ("metres.npy", None)])
def test_stretched_maps_fill_the_range_by_themselves_as_a_tokenizer_learned_them(tmp_path, name, mode):
    depth = np.array([[20, 30, 60]], np.uint8)
    found = read_map(save(tmp_path / name, depth, mode), channels=1, stretch=True)
    assert np.allclose(found.ravel(), [-1.0, -0.5, 1.0])
    if mode == "L":  # as many tools write it
        colour = save(tmp_path / "colour.png", depth[:, :, None].repeat(3, 2))
        assert np.array_equal(read_map(colour, channels=1, stretch=True), found)
    trained = map_pixels(depth)
    assert np.abs(trained / 127.5 - 1 - found).max() <= 1 / 255 + 1e-6


def test_pictures_are_read_as_images_are(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    save(tmp_path / "rgb.png", colours)
    assert np.array_equal(read_map(tmp_path / "rgb.png", channels=3), colours)
    assert read_map(tmp_path / "rgb.png", channels=1).shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("array", "name", "reason"),
    [
        (
            np.zeros((2, 2, 3)),
            "rgb.png",
            "it is a picture in RGB, expected labels: one number for each pixel",
        ),
        (np.full((2, 2), 7), "large.png", "it has the label 7, expected 0 to 4"),
        (np.full((2, 2), -1), "negative.npy", "it has the label -1, expected 0 to 4"),
        (np.zeros((2, 2)), "floats.npy", r"it holds float64 of the shape \(2, 2\), expected labels \(H W\)"),
    ],
)
def test_what_is_no_map_of_labels_is_refused(tmp_path, array, name, reason):
    with pytest.raises(DataError, match=f"cannot read `.*{name}`: {reason}"):
        read_map(save(tmp_path / name, array), channels=5, labels=5)


@pytest.mark.parametrize(
    ("labels", "value", "is_told"), [(183, 255, True), (183, 200, False), (182, 255, False)]
)
def test_a_map_as_coco_stuff_publishes_it_is_refused_with_what_it_needs(tmp_path, labels, value, is_told):
    array = np.array([[0, value]], np.uint8)
    with pytest.raises(DataError, match=f"it has the label {value}, expected 0 to {labels - 1}") as error:
        read_map(save(tmp_path / "map.png", array), channels=1, labels=labels)
    told = "COCO-Stuff's own maps count from 0, with 255 for nothing, and need 1 added to each 8-bit value"
    assert (told in error.value.hint) is is_told


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.7])
def test_a_map_is_cut_and_resized_where_the_image_is(scale):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 1), np.uint8)
    how = {"size": (8, 12), "at": (0.3, 0.9), "scale": scale}
    image, values = fit(pixels, **how)[:, :, 0], fit_map(pixels.astype(np.float32), **how)[:, :, 0]
    assert np.abs(image - values.clip(0, 255)).max() < 1  # Pillow rounds twice
    labels = fit_map(np.kron(np.arange(6).reshape(2, 3), np.ones((10, 10), np.int64)), **how)
    coarse = fit(np.kron(np.arange(6).reshape(2, 3, 1), np.ones((10, 10, 1))).astype(np.uint8) * 40, **how)
    assert (np.abs(coarse[:, :, 0] / 40 - labels) < 0.2).mean() > 0.7  # but where two meet
    assert set(labels.ravel()) <= set(range(6))


def test_the_header_tells_the_size_of_the_upright_picture(tmp_path):
    picture = Image.new("RGB", (6, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    picture.save(tmp_path / "plain.jpg")
    np.save(tmp_path / "array.npy", np.zeros((4, 6, 3), np.uint8))
    sizes = [picture_size(tmp_path / name) for name in ("turned.jpg", "plain.jpg", "array.npy")]
    assert sizes == [(6, 4), (4, 6), (4, 6)]
    assert torch.equal(map_tensor(np.full((1, 1, 1), 255, np.uint8)), torch.ones(1, 1, 1))
