"""Runs beside each other."""

import json

import pytest
import torch

import tiny
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.config import dump_yaml
from vqgan.images import save_png


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Folders `a` and `b` as two runs leave them, that of `b` while it trains; they differ in two settings."""
    monkeypatch.chdir(tmp_path)
    for name, steps, seed in (("a", 4, 0), ("b", 12345, 1)):
        folder = RunFolder(tmp_path / name)
        folder.create()
        folder.config.write_text(dump_yaml(tiny.tokenizer_run(steps=steps)))
        folder.environment.write_text(json.dumps({"precision": "fp32", "seed": seed}))
        rows = [{"step": 1, "loss": 2.0 + seed}, {"step": steps, "loss": 1.0, "heldout_psnr": 20.0 + seed}]
        more = [] if seed else [{"step": steps, "adaptive_weight": "nan"}]
        folder.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows + more))
        save_png(torch.zeros(3, 8, 8), folder.images / f"samples-{steps:08d}.png", {})
    with folder.metrics.open("a") as file:
        file.write('{"step": 12346, "lo')
    return tmp_path


def test_one_page_shows_curves_numbers_settings_and_pictures_of_all(two, run):
    result = run("compare", "a", "b", "--out", "page.html")
    assert (result.code, result.err) == (0, "")
    assert [line.split() for line in result.out.splitlines()] == [
        ["a", "b"],
        ["step", "4", "12345"],
        ["loss", "1", "1"],
        ["heldout_psnr", "20", "21"],
        ["page.html"],
    ]
    page = (two / "page.html").read_text()
    assert page.count("<svg") == 2  # the loss and the PSNR
    assert page.count("&#9632; a</span>") == page.count("&#9632; b</span>") == 2
    assert "<td>training.steps</td><td class=number>4</td><td class=number>12345</td>" in page
    assert "<td>seed</td><td class=number>0</td><td class=number>1</td>" in page
    assert "training.batch_size" not in page
    assert "<td>adaptive_weight</td><td class=number>nan</td><td class=number>-</td><td>weight of" in page
    beside = page.partition('<div class="beside">')[2].partition("</div>")[0]
    assert beside.count("data:image/png;base64,") == 2
    assert "b: New images, drawn token by token; after 12,345 steps" in beside


def test_warnings_of_all_runs_are_in_one_table(two, run):
    assert run("compare", "a", "b", "--out", "page.html").code == 0
    assert "<h2>Warnings</h2>" not in (two / "page.html").read_text()
    said = {"step": 1200, "sign": "any", "text": "usage fell < 9 %", "hint": "do this"}
    (two / "b" / "warnings.jsonl").write_text(f"{json.dumps(said)}\n")
    assert run("compare", "a", "b", "--out", "page.html").code == 0
    table = (two / "page.html").read_text().partition("<h2>Warnings</h2>")[2].partition("</table>")[0]
    assert "<tr><td>b step 1,200</td><td>usage fell &lt; 9 %. do this</td></tr>" in table
    assert "<td>a step" not in table


def test_other_stages_and_a_run_without_numbers_are_noted(two, run):
    (two / "b" / "config.yaml").write_text(dump_yaml(tiny.prior_run()))
    (two / "b" / "metrics.jsonl").unlink()
    result = run("compare", "a", "b", "--out", "page.html")
    notes = [
        "`b` has no numbers yet",
        "`a` trains a tokenizer, `b` trains a prior: numbers of the same name may mean",
    ]
    assert result.code == 0
    assert all(note in result.err and note in (two / "page.html").read_text() for note in notes)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("a",), 2, "`vqgan compare` is given 1 folders, expected 2 to 8 of different runs"),
        (("a", "./a"), 2, "`vqgan compare` is given 2 folders, expected 2 to 8 of different runs"),
        (("a", "images"), 5, "`images` is not a run folder"),
        (("a", "c"), 5, "`c/metrics.jsonl` is damaged: "),
        (("a", "b", "--out", "page.png"), 2, "`--out` is `page.png`, expected a page"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(two, run, words, code, said):
    (two / "images").mkdir()
    (two / "b").rename(two / "c") if "c" in words else None
    (two / "c" / "metrics.jsonl").write_text("no row\n") if "c" in words else None
    result = run("compare", *words, *([] if "--out" in words else ["--out", "page.html"]))
    assert result.code == code
    assert f"vqgan: {said}" in result.err
    assert not (two / "page.html").exists()
