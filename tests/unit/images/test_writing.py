import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.errors import ConfigError, DataError, OutputError
from vqgan.images import grid, read_images, save_apng, save_png, to_float, write_images


def images(count: int = 3, channels: int = 3) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 8, channels)).astype(np.uint8)
    return to_float(pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_are_read_back_exactly(channels: int, tmp_path: Path) -> None:
    batch = images(channels=channels)
    paths = write_images(batch, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["000000.png", "000001.png", "000002.png"]
    assert sorted(paths[0].parent.iterdir()) == paths
    assert torch.equal(read_images(paths, channels=channels), batch)
    assert torch.equal(read_images(str(paths[1]), channels=channels), batch[1:2])


def test_text_chunks_are_the_same_for_all_or_one_for_each(tmp_path: Path) -> None:
    for path in write_images(images(), tmp_path / "a", {"model": "abc", "prompt": "Grüße, 世界"}):
        assert Image.open(path).text == {"model": "abc", "prompt": "Grüße, 世界"}
    each = [{"seed": str(i)} for i in range(3)]
    for path, text in zip(write_images(images(), tmp_path / "b", each), each, strict=True):
        assert Image.open(path).text == text
    with pytest.raises(ConfigError, match="`info` has 2 mappings for 3 images"):
        write_images(images(), tmp_path / "c", each[:2])
    assert not (tmp_path / "c").exists()


def test_sizes_that_differ_need_a_size(tmp_path: Path) -> None:
    first = save_png(images()[0], tmp_path / "a.png")
    second = save_png(torch.zeros(3, 9, 4), tmp_path / "b.png")
    with pytest.raises(DataError) as caught:
        read_images([first, second])
    assert f"`{first}` has 6 x 8 pixels, `{second}` 9 x 4" in caught.value.message
    assert "give `size`" in caught.value.hint
    assert read_images([first, second], size=(5, 7)).shape == (2, 3, 5, 7)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image was given"):
        read_images([])
    with pytest.raises(ConfigError, match="`size` is"):
        read_images("a.png", size=(0, 4))
    with pytest.raises(ConfigError, match="`channels` is 0"):
        read_images("a.png", channels=0)
    with pytest.raises(DataError, match="no such file"):
        read_images(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="a grid of 0 columns"):
        grid(images(), columns=0)


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "that you can write to")]
)
def test_a_full_or_read_only_disk_keeps_the_old_file_and_leaves_nothing_else(
    number: int, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_png(images()[0], tmp_path / "a.png")
    before = path.read_bytes()

    def fail(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:20])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError) as caught:
        save_png(images()[1], path)
    assert caught.value.exit_code == 6
    assert f"cannot write `{path}`: {os.strerror(number).lower()}" in caught.value.message
    assert hint in caught.value.hint
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_images(images(), tmp_path / "file")


def test_a_grid_places_images_row_by_row_on_white() -> None:
    batch = images(5)
    sheet = grid(batch, columns=3, pad=2)
    assert sheet.shape == (3, 2 * 8 + 2, 3 * 10 + 2)
    for i in range(5):
        top, left = 2 + 8 * (i // 3), 2 + 10 * (i % 3)
        assert torch.equal(sheet[:, top : top + 6, left : left + 8], batch[i])
    assert (sheet[:, 10:, 22:] == 1).all()
    assert (sheet[:, :2] == 1).all()
    assert torch.equal(grid(batch[:1], columns=4, pad=0), batch[0])


def test_an_animation_holds_its_frames_and_times(tmp_path: Path) -> None:
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3)).astype(np.uint8))
    path = save_apng(frames, tmp_path / "a.png", 250)
    with Image.open(path) as picture:
        assert picture.n_frames == 3
        for number, frame in enumerate(frames):
            picture.seek(number)
            assert picture.info["duration"] == 250
            assert np.array_equal(np.asarray(picture.convert("RGB")), frame)


def test_a_folder_is_read_in_the_order_in_which_a_source_lists_it(tmp_path: Path) -> None:
    for number, name in enumerate(("b10.png", "b9.png", "elsewhere/1.png", ".hidden/2.png")):
        save_png(images()[0] * number, tmp_path / "data" / name)
    (tmp_path / "data" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    expected = read_images(
        [tmp_path / "elsewhere" / "1.png", *(tmp_path / "data" / f"b{i}.png" for i in (9, 10))]
    )
    assert torch.equal(read_images(tmp_path / "data"), expected)
