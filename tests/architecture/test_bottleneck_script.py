"""`benchmarks/bottleneck.py` changes what it says, and only that."""

import importlib
from pathlib import Path

from vqgan.config import flattened, parse_overrides, to_mapping
from vqgan.runs import resolve

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_each_setting_is_another_run_and_differs_from_the_preset_in_nothing_else(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    settings = importlib.import_module("bottleneck").SETTINGS
    preset = flattened(to_mapping(resolve("demo-tokenizer")))
    runs = {name: flattened(to_mapping(resolve("demo-tokenizer", each))) for name, each in settings.items()}
    assert len({repr(run) for run in runs.values()}) == len(settings)
    for name, run in runs.items():
        changed = {key for key in run if run[key] != preset[key]}
        assert changed <= set(flattened(parse_overrides(settings[name]))), name
    assert runs["preset"] == preset
