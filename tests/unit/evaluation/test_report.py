import base64
import re

import pytest
import torch

from vqgan.evaluation.report import render_report
from vqgan.images import save_png


def test_report_holds_numbers_pictures_and_curves_and_escapes_text(tmp_path):
    picture = save_png(torch.zeros(3, 4, 4), tmp_path / "a.png")
    page = render_report(
        "a < b",
        paragraphs=["one & two"],
        rows=[("loss", "0.5 nats", "uniform 1.0")],
        pictures={picture: "four pixels"},
        charts={
            "loss over steps": ("nats", {"loss": [(1.0, 3.0), (2.0, 1.0)], "a < b": [(1.0, 2.0)]}),
            "one point": ("dB", {"x": [(1.0, 1.0)]}),
            "nothing to draw": ("dB", {"x": []}),
        },
    )
    assert "a &lt; b" in page
    assert "one &amp; two" in page
    assert base64.b64encode(picture.read_bytes()).decode() in page
    assert page.count("<svg") == 2
    assert "nothing to draw" not in page
    assert 'points="60.0,28.0 630.0,210.0"' in page
    assert 'name="viewport"' in page
    assert "color-scheme: light dark" in page
    assert '<img class="small" width="32" alt="four pixels"' in page
    charts = page.partition("<h2>Curves</h2>")[2]
    assert ">training step</text>" in charts
    assert ">nats</text>" in charts
    for svg in re.findall("<svg.*?</svg>", charts):
        assert "loss" not in svg  # the legend stands beside it, where it hides nothing
    assert "&#9632; a &lt; b</span></figcaption>" in charts


@pytest.mark.parametrize(("side", "shown"), [(96, ' class="small" width="576"'), (330, ""), (1000, "")])
def test_small_pictures_are_enlarged_by_whole_factors(tmp_path, side, shown):
    picture = save_png(torch.zeros(1, 4, side), tmp_path / "a.png")
    page = render_report("a", paragraphs=[], rows=[], pictures={picture: "it"}, charts={})
    assert f'<img{shown} alt="it"' in page
