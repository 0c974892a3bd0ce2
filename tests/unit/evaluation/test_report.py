import base64
import re

import pytest
import torch

from vqgan.evaluation.report import Chart, render_report
from vqgan.images import save_png


def test_report_holds_numbers_pictures_and_curves_and_escapes_text(tmp_path):
    picture = save_png(torch.zeros(3, 4, 4), tmp_path / "a.png")
    page = render_report(
        "a < b",
        paragraphs=["one & two"],
        rows=[("loss", "0.5 nats", "uniform 1.0")],
        tables={"More & more": [("what", "a", "b", "why"), ("x", "1", "<2", "so")]},
        links={"a b.html": "another <page>"},
        pictures={picture: "four pixels"},
        charts={
            "loss over steps": Chart("nats", {"loss": [(1.0, 3.0), (2.0, 1.0)], "a < b": [(1.0, 2.0)]}),
            "one point": Chart("dB", {"x": [(1.0, 1.0)]}, "row", low=0.0),
            "nothing to draw": Chart("dB", {"x": []}),
        },
    )
    assert "a &lt; b" in page
    assert "one &amp; two" in page
    assert "<tr><td>loss</td><td class=number>0.5 nats</td><td>uniform 1.0</td></tr>" in page
    assert "<h2>More &amp; more</h2>" in page
    assert "<tr><th>what</th><th>a</th><th>b</th><th>why</th></tr>" in page
    assert "<td>x</td><td class=number>1</td><td class=number>&lt;2</td><td>so</td>" in page
    assert '<a href="a b.html">another &lt;page&gt;</a>' in page
    assert base64.b64encode(picture.read_bytes()).decode() in page
    assert page.count("<svg") == 2
    assert "nothing to draw" not in page
    assert 'points="60.0,28.0 630.0,210.0"' in page
    assert 'name="viewport"' in page
    assert "color-scheme: light dark" in page
    assert '<img class="small" width="32" alt="four pixels"' in page
    charts = page.partition("<h2>Curves</h2>")[2]
    assert charts.count(">training step</text>") == charts.count(">row</text>") == 1
    assert 'points="60.0,28.0"' in charts  # its axis begins at 0, not at its only value
    assert ">nats</text>" in charts
    for svg in re.findall("<svg.*?</svg>", charts):
        assert "loss" not in svg  # the legend stands beside it, where it hides nothing
    assert "&#9632; a &lt; b</span></figcaption>" in charts


@pytest.mark.parametrize(("side", "shown"), [(96, ' class="small" width="576"'), (330, ""), (1000, "")])
def test_small_pictures_are_enlarged_by_whole_factors(tmp_path, side, shown):
    picture = save_png(torch.zeros(1, 4, side), tmp_path / "a.png")
    page = render_report("a", paragraphs=[], rows=[], pictures={picture: "it"}, charts={})
    assert f'<img{shown} alt="it"' in page
