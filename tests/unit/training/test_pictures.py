import pytest
import torch

from vqgan.errors import OutputError
from vqgan.images import read_pixels
from vqgan.training.observer import is_picture_step, write_animation, write_pictures


def test_pictures_come_first_often_and_then_rarely():
    steps = [step for step in range(1, 301) if is_picture_step(step, 300)]
    assert steps == [1, 16, 32, 64, 128, 256, 300]


def test_every_group_is_one_grid_and_the_last_image_of_the_first_is_the_frame(tmp_path):
    pairs, samples = torch.full((4, 1, 3, 5), -1.0), torch.ones(2, 1, 3, 5)
    pairs[3] = 0.0
    grids = write_pictures(tmp_path / "images", 7, {"pairs": pairs, "samples": samples}, columns=2)
    assert grids["pairs"].shape == (1, 2 * 3 + 3 * 2, 2 * 5 + 3 * 2)
    assert grids["samples"].shape == (1, 3 + 2 * 2, 2 * 5 + 3 * 2)
    found = sorted(str(path.relative_to(tmp_path / "images")) for path in tmp_path.rglob("*.png"))
    assert found == ["frames/00000007.png", "pairs-00000007.png", "samples-00000007.png"]
    frame = read_pixels(tmp_path / "images" / "frames" / "00000007.png", 1)
    assert frame.shape == (3, 5, 1)
    assert 120 <= frame.min() <= frame.max() <= 135


def test_the_frames_become_an_animation_in_their_order(tmp_path):
    write_animation(tmp_path)
    assert not (tmp_path / "training.png").exists()
    for step, value in ((16, 1.0), (1, -1.0)):
        write_pictures(tmp_path, step, {"a": torch.full((1, 1, 3, 5), value)}, columns=1)
    write_animation(tmp_path)
    data = (tmp_path / "training.png").read_bytes()
    assert b"acTL" in data
    assert read_pixels(tmp_path / "training.png", 1).max() == 0


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_pictures(tmp_path / "file", 1, {"a": torch.zeros(1, 1, 3, 5)}, columns=1)
