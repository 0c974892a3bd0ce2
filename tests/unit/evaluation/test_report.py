import base64

import torch

from vqgan.evaluation.report import Curves, Picture, Row, render_report
from vqgan.images import save_png


def test_report_holds_numbers_pictures_and_curves_and_escapes_text(tmp_path):
    picture = save_png(torch.zeros(3, 4, 4), tmp_path / "a.png")
    page = render_report(
        "a < b",
        paragraphs=["one & two"],
        rows=[Row("loss", "0.5 nats", "uniform 1.0")],
        pictures=[Picture(picture, "four pixels")],
        curves=[
            Curves("loss over steps", {"loss": [(1.0, 3.0), (2.0, 1.0)]}),
            Curves("one point", {"x": [(1.0, 1.0)]}),
            Curves("nothing to draw", {"x": []}),
        ],
    )
    assert "a &lt; b" in page
    assert "one &amp; two" in page
    assert base64.b64encode(picture.read_bytes()).decode() in page
    assert page.count("<svg") == 2
    assert "nothing to draw" not in page
    assert 'points="60.0,16.0 630.0,210.0"' in page
