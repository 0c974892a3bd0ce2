"""`benchmarks/gpu.py` loses nothing where a step fails or hangs; on a card it has one try."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_step_is_written_and_every_failure_is_listed(script, tmp_path, monkeypatch, capsys):
    steps = {
        "good": (["-c", "print('seen')"], 60),
        "bad": (["-c", "raise SystemExit('no card')"], 60),
        "slow": (["-c", "import time; time.sleep(60)"], 1),
    }
    monkeypatch.setattr(script, "steps", lambda **_: steps)
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--json", str(file)])
    assert script.main() == 1
    record = json.loads(file.read_text())["steps"]
    assert record["good"]["output"] == ["seen"]
    assert (record["bad"]["code"], record["bad"]["error"]) == (1, ["no card"])
    assert (record["slow"]["code"], record["slow"]["error"]) == (None, ["stopped after 1 s"])
    assert "failed or not run: bad, slow" in capsys.readouterr().out


def test_every_command_names_a_script_or_tests_that_exist(script):
    for command, seconds in script.steps(quick=True, device="cuda").values():
        files = [word for word in command if word.endswith(".py")]
        assert files
        assert seconds > 0
        assert all((BENCHMARKS.parent / word).is_file() for word in files)
