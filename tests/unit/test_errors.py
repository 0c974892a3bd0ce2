import pickle

import pytest

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
    assert closest("zzz", ["depth", "width"]) == "known: `depth`, `width`"
