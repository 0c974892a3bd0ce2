"""Held-out files that cannot be read never stop a run."""

import json
import logging

import pytest
import torch

import tiny
from vqgan.errors import DataError
from vqgan.images import save_png
from vqgan.runs import train

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
