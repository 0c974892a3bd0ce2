"""The progress bar: one for each phase, on stderr, with the values that matter."""

import logging
import sys

import pytest

from vqgan.cli.progress import ProgressBar
from vqgan.types import Progress


def test_every_phase_has_its_bar(capsys):
    with ProgressBar() as bar:
        for step in (1, 2):
            bar(Progress("collect", step, 2))
        for step in (1, 2, 3):
            bar(Progress("tokenizer", step, 4, {"loss": 0.51234, "gradient_norm": 9.0}))
    out, err = capsys.readouterr()
    assert out == ""
    assert "collect: 100%" in err
    assert "2/2" in err
    assert "tokenizer:  75%" in err
    assert "loss=0.512" in err
    assert "gradient_norm" not in err


def test_a_resumed_run_begins_in_the_middle(capsys):
    with ProgressBar() as bar:
        bar(Progress("prior", 51, 100))
    assert "50/100" in capsys.readouterr().err


def test_an_evaluation_that_is_repeated_begins_anew(capsys):
    with ProgressBar() as bar:
        for step in (1, 2, 1):
            bar(Progress("encode", step, 2))
    err = capsys.readouterr().err
    assert err.count("encode: 100%") == 1
    assert err.count("encode:  50%") == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_a_log_file_gets_no_line_for_every_step(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with ProgressBar() as bar:
        bar(Progress("prior", 1, 3))
        assert bar._bar is not None
        assert bar._bar.mininterval == (0.5 if terminal else 30.0)


def test_log_lines_stand_above_the_bar(capsys):
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger()
    logger.addHandler(handler)
    try:
        with ProgressBar() as bar:
            bar(Progress("prior", 1, 3))
            logging.getLogger("vqgan").warning("skipped `x`")
    finally:
        logger.removeHandler(handler)
    assert "\nskipped `x`" in capsys.readouterr().err.replace("\r", "\n")
