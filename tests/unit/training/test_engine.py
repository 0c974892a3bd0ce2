import logging

import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.training import engine as module
from vqgan.training.engine import Engine


def test_alone_it_is_the_main_process_and_nothing_is_exchanged():
    engine = Engine("cpu")
    assert (engine.rank, engine.world, engine.is_main) == (0, 1, True)
    assert engine.device == torch.device("cpu")
    value = torch.tensor([2.0])
    for same in (engine.sum(value), engine.average(value), engine.gather(value, 1)):
        assert torch.equal(same, value)
    assert [engine.any(flag) for flag in (True, False)] == [True, False]
    engine.barrier()
    with engine.main_first():
        pass


def test_scalars_become_numbers():
    assert Engine("cpu").mean({"a": torch.tensor(1.5), "b": torch.tensor(2)}) == {"a": 1.5, "b": 2.0}
    assert Engine("cpu").mean({}) == {}


def test_half_precisions_compute_in_another_type():
    layer, ones = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with Engine("cpu", precision).autocast():
            assert layer(ones).dtype == dtype


def test_runs_of_one_process_may_differ_in_precision():
    assert [Engine("cpu", precision).precision for precision in ("bf16", "fp32")] == ["bf16", "fp32"]


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16"), (False, "fp32")])
def test_automatic_precision_asks_the_hardware_and_says_what_it_chose(monkeypatch, caplog, able, expected):
    monkeypatch.setattr(module, "best_precision", lambda device: "bf16" if able else "fp16")
    with caplog.at_level(logging.INFO):
        assert Engine("cpu", "auto").precision == expected
    assert f"precision `auto` is `{expected}` here" in caplog.text


def test_precisions_that_cannot_be_trained_with_are_refused():
    with pytest.raises(ConfigError, match=r"unknown precision `bf17`\nhint: did you mean `bf16`\?"):
        Engine("cpu", "bf17")
    with pytest.raises(ConfigError, match=r"`cpu` does not compute in `tf32`.*\nhint: use `fp32` or `bf16`"):
        Engine("cpu", "tf32")
    with pytest.raises(ConfigError, match="unknown device `gpu`"):
        Engine("gpu")
