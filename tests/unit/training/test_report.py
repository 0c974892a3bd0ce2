import json

import torch

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml
from vqgan.data import IdxConfig
from vqgan.images import save_png
from vqgan.training.report import write_run_report


def test_it_shows_the_last_numbers_the_newest_pictures_and_the_curves(tmp_path):
    folder = RunFolder(tmp_path / "my run")
    folder.create()
    rows = [
        {"step": 1, "loss": 2.0, "heldout_psnr": 11.0},
        {"step": 1200, "loss": 1.25, "adaptive_weight": "nan"},
    ]
    folder.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for step in (1, 1200):
        save_png(torch.zeros(3, 8, 8), folder.images / f"samples-{step:08d}.png", {})
    save_png(torch.ones(3, 8, 8), folder.images / "training.png", {})
    write_run_report(folder)
    page = folder.report.read_text()
    assert "<h1>my run</h1>" in page
    assert "1,200 steps." in page
    assert "<td>loss</td><td class=number>1.25</td><td>step 1,200</td>" in page
    assert (
        "<td>heldout_psnr</td><td class=number>11</td><td>step 1; of held-out images, in dB: 20 is blurred"
        in page
    )
    assert "<td>adaptive_weight</td><td class=number>nan</td>" in page
    assert "New images, drawn token by token; after 1,200 steps</figcaption>" in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<svg") == 2


def test_a_run_without_numbers_and_pictures_has_a_report_too(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.metrics.touch()
    write_run_report(folder)
    assert "No number was logged." in folder.report.read_text()


def test_it_says_what_the_run_was(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.metrics.touch()
    folder.config.write_text(dump_yaml(tiny.tokenizer_run(IdxConfig(path="my/digits"))))
    folder.environment.write_text('{"run": "my-preset"}')
    write_run_report(folder)
    said = "The run of a tokenizer, of `my-preset`: 4 steps of 4 images of 8x8 pixels (kind idx, path my/digits)."
    assert said in folder.report.read_text()
