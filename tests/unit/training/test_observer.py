"""Held-out files that cannot be read never stop a run."""

import json
import logging
from unittest.mock import Mock

import pytest
import torch

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import DataError, OutputError
from vqgan.images import read_pixels, save_png
from vqgan.runs import train
from vqgan.training.engine import Engine
from vqgan.training.observer import Observer, is_picture_step, write_animation, write_pictures
from vqgan.training.task import Session
from vqgan.types import Batch

SETTINGS = {"evaluate_every": 1, "pictures": 2}


def photos(folder, *, good, bad):
    for number in range(good):
        save_png(tiny.images(1, seed=number)[0], folder / f"{number}.png")
    for number in range(bad):
        folder.mkdir(exist_ok=True)
        (folder / f"bad {number}.png").write_bytes(b"no image")
    return folder


def trained(tmp_path, caplog, *, held_out_good):
    """A run with one bad file to train on, and one or two held out; its rows and warnings."""
    data = photos(tmp_path / "data", good=5, bad=1)
    heldout = photos(tmp_path / "heldout", good=held_out_good, bad=2)
    with caplog.at_level(logging.WARNING):
        out = train(
            tiny.tokenizer_run(**SETTINGS), data=data, eval_data=heldout, out=tmp_path / "run", device="cpu"
        )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    listed = {json.loads(line)["path"] for line in (out / "skipped.jsonl").read_text().splitlines()}
    assert listed == {str(data / "bad 0.png"), *(str(heldout / f"bad {number}.png") for number in (0, 1))}
    warnings = [message for message in caplog.messages if message.startswith("skipped `")]
    assert len(warnings) == len(set(warnings)) == 3
    assert sum(", which is held out: " in warning for warning in warnings) == 2
    return out, rows


def test_bad_held_out_files_are_left_out_and_named_once(tmp_path, caplog):
    out, rows = trained(tmp_path, caplog, held_out_good=1)
    assert [row["step"] for row in rows if "heldout_psnr" in row] == [1, 2, 3, 4]
    assert len(list((out / "images").glob("reconstructions-*.png"))) == 2


def test_without_one_good_held_out_file_there_are_no_held_out_numbers_and_no_pictures(tmp_path, caplog):
    out, rows = trained(tmp_path, caplog, held_out_good=0)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert not any(name.startswith("heldout") for row in rows for name in row)
    assert not list(out.rglob("images/*.png"))
    assert torch.isfinite(torch.tensor([row["loss"] for row in rows])).all()


def test_one_image_is_pictured_and_gives_no_held_out_numbers(tmp_path, caplog):
    data = photos(tmp_path / "data", good=1, bad=0)
    run = tiny.tokenizer_run(steps=1, **SETTINGS)
    with caplog.at_level(logging.INFO):
        out = train(run, data=data, out=tmp_path / "run", device="cpu")
    assert f"`{data}` is one image: it is trained on, and there are no held-out numbers" in caplog.messages
    assert "1 images, 0 held out" in caplog.text
    same = train(run, data=data, eval_data=data, out=tmp_path / "asked", device="cpu")
    assert "heldout_psnr" not in (out / "metrics.jsonl").read_text()
    assert list((out / "images").glob("reconstructions-*.png"))
    assert "heldout_psnr" in (same / "metrics.jsonl").read_text()


def test_files_are_checked_before_there_is_a_folder(tmp_path, caplog):
    data = photos(tmp_path / "data", good=6, bad=6)
    with pytest.raises(
        DataError, match=r"(?s)too many images cannot be read: .* not an image in a known format"
    ):
        train(tiny.tokenizer_run(), data=data, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    assert "skipped" not in caplog.text


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


def batch(*skipped):
    return Batch(torch.zeros(1, 1, 2, 2), {}, torch.zeros(1, dtype=torch.int64), skipped)


def observer(path):
    task = Mock(loop=tiny.loop(), state=Mock(config=tiny.OPTIMIZER))
    session = Session(task, RunFolder(path), Engine("cpu"), {})
    return Observer(session, lambda size, limit: (), measured=False, on_progress=None)


def test_every_file_is_listed_once_also_over_a_resumption(tmp_path):
    files = observer(tmp_path)
    first, second = ("a\udcff.png", "truncated"), ("b.png", "too large")
    assert files.skipped(batch(first, second)) == [first, second]
    assert files.skipped(batch(first)) == []
    assert observer(tmp_path).skipped(batch(second, ("c.png", "empty"))) == [("c.png", "empty")]
    assert [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        {"path": "a\udcff.png", "reason": "truncated"},
        {"path": "b.png", "reason": "too large"},
        {"path": "c.png", "reason": "empty"},
    ]


def test_without_skipped_files_there_is_no_list(tmp_path):
    observer(tmp_path).skipped(batch())
    assert not (tmp_path / "skipped.jsonl").exists()


def test_what_a_disk_refuses_is_written_later(tmp_path, caplog):
    files = observer(tmp_path)
    (tmp_path / "skipped.jsonl").mkdir()
    for name in ("a", "b"):
        files.skipped(batch((name, "c")))
    assert [message.partition("skipped")[2] for message in caplog.messages] == [
        ".jsonl`: is a directory; the next line tries again"
    ]
    with pytest.raises(OutputError, match=r"cannot write `.*skipped\.jsonl`: is a directory"):
        files.flush()
    (tmp_path / "skipped.jsonl").rmdir()
    files.flush()
    files.flush()
    rows = [json.loads(line)["path"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert rows == ["a", "b"]
