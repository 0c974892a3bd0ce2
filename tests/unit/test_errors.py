import pickle

import pytest

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.checkpoints.load import pick_device
from vqgan.cli.main import main
from vqgan.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DivergedError,
    OutputError,
    Preempted,
    VqganError,
    closest,
)

KINDS = {
    ConfigError: 2,
    DataError: 3,
    DivergedError: 4,
    CheckpointError: 5,
    OutputError: 6,
    Preempted: 75,
}


def test_every_kind_has_its_own_exit_code():
    assert {kind: kind.exit_code for kind in VqganError.__subclasses__()} == KINDS


def test_a_wrong_argument_is_a_value_error_too():
    assert issubclass(ConfigError, ValueError)


def test_the_text_is_the_message_and_below_it_the_hint():
    assert str(DataError("no images")) == "no images"
    assert str(DataError("no images", hint="give a folder")) == "no images\nhint: give a folder"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_the_way_from_another_process(kind):
    copy = pickle.loads(pickle.dumps(kind("what", hint="how")))
    assert type(copy) is kind
    assert (copy.message, copy.hint) == ("what", "how")


def test_the_nearest_word_is_suggested_and_else_all_are_listed():
    assert closest("witdh", ["depth", "width"]) == "did you mean `width`?"
    assert closest("fire", ["FIRE", "UP"]) == "did you mean `FIRE`?"
    assert closest("zzz", ["depth", "width"]) == "known: `depth`, `width`"
    assert closest("zzz", []) == "known: none"


def test_hints_name_arguments_in_python_and_flags_on_the_command_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="cuda:99") as caught:
        pick_device("cuda:99")
    assert caught.value.hint == 'use `device="cpu"` or `auto`'
    save_model(tiny.tokenizer(), tmp_path / "tiny.safetensors")
    words = ["--out", str(tmp_path / "out"), "--device", "cuda:99"]
    assert main(["decode", str(tmp_path / "tiny.safetensors"), str(tmp_path), *words]) == 2
    assert "hint: use `--device cpu` or `auto`" in capsys.readouterr().err
