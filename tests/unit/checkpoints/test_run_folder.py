import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from launcher import locked_elsewhere
from vqgan import output_files
from vqgan.checkpoints import run_folder, tensors
from vqgan.checkpoints.run_folder import RunFolder, find_weights, verify
from vqgan.errors import CheckpointError, ConfigError, OutputError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nobody cuts the power here: there is no need to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


def state(number):
    return {
        "model": {"weight": torch.full((3, 5), float(number)), "count": torch.tensor(number)},
        "optimizer": {"weight|exp_avg": torch.arange(4.0) * number},
    }


def commit(folder, *numbers):
    for number in numbers:
        folder.commit(number, state(number), {"seed": 7, "number": number})


def assert_newest(folder, number):
    step = folder.newest()
    assert step.number == number
    assert step.values == {"seed": 7, "number": number, "step": number}
    assert step.tensors.keys() == state(number).keys()
    for name, group in state(number).items():
        assert step.tensors[name].keys() == group.keys()
        assert all(torch.equal(step.tensors[name][key], tensor) for key, tensor in group.items())


def leftovers(folder):
    return [path for path in folder.path.rglob("*") if "tmp" in path.name]


def test_a_new_run_has_its_folders(folder):
    assert folder.images.is_dir()
    assert folder.state.is_dir()
    assert folder.numbers() == []


def test_an_empty_folder_may_become_a_run_and_a_full_one_may_not(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty").create()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"`.*empty` is not empty\nhint: choose another folder$"):
        RunFolder(tmp_path / "empty").create()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        RunFolder(tmp_path / "file").create()


BEGUN = (
    "config.yaml",
    "env.json",
    "prior.safetensors",
    "tensorboard/events.out.tfevents.1",
    ".tmp123456",
    "state/.a.1.tmp",
)


def test_a_new_run_may_begin_where_one_was_stopped_before_it_saved_anything(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / "tensorboard").mkdir()
    for name in BEGUN:
        (folder.path / name).touch()
    (folder.state / ".tmp-step-00000000-12").mkdir()
    (folder.state / ".tmp-step-00000000-12" / "model.safetensors").touch()
    before = set(folder.path.rglob("*"))
    folder.create()
    assert set(folder.path.rglob("*")) == before
    commit(folder, 1)
    with pytest.raises(ConfigError, match="is not empty"):
        folder.create()


def test_a_folder_in_which_another_run_ended_while_this_one_began_is_refused(tmp_path, monkeypatch):
    other, ours = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    real = ours.lock

    def late():
        other.create()
        commit(other, 0)
        real()

    monkeypatch.setattr(ours, "lock", late)
    with pytest.raises(ConfigError, match=r"is not empty\nhint: .* continue the run"):
        ours.create()
    assert_newest(other, 0)


def test_a_run_at_work_is_named_as_such_to_a_new_one(folder):
    commit(folder, 1)
    folder.close()
    with (
        locked_elsewhere(folder.path / ".lock"),
        pytest.raises(ConfigError, match=r"is in use: .* works there"),
    ):
        folder.create()
    with pytest.raises(ConfigError, match=r"is not empty\nhint: .* continue the run"):
        folder.create()


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "images/a.png", "state/step-00000001/x", "state/thesis.txt", ".env", ".config/a"],
)
def test_a_folder_that_holds_anything_else_is_refused_and_stays(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).touch()
    with pytest.raises(ConfigError, match="is not empty"):
        folder.create()
    assert (folder.path / name).exists()


def test_files_named_like_those_of_a_run_prove_nothing(tmp_path):
    folder = RunFolder(tmp_path / "mine")
    for below in ("state", "tensorboard"):
        (folder.path / below).mkdir(parents=True)
    for name in BEGUN:
        (folder.path / name).write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        folder.create()
    assert all((folder.path / name).read_text() == "mine" for name in BEGUN)


def test_the_newest_step_comes_back_bit_by_bit(folder):
    commit(folder, 1, 2)
    assert_newest(folder, 2)
    assert json.loads((folder.state / "latest.json").read_text()) == {"folder": "step-00000002", "step": 2}


def test_only_the_newest_steps_stay(folder):
    commit(folder, 3, 5, 8, 13)
    assert folder.numbers() == [5, 8, 13]


def test_the_newest_ones_stay_with_the_multiples_and_the_one_that_was_read(folder):
    for number in range(8):
        folder.commit(number, state(number), {}, keep=(2, 3))
        if number == 1:
            assert folder.newest().number == 1
    assert folder.numbers() == [1, 3, 6, 7]


def test_a_step_that_is_kept_stays_however_old_it_is_and_can_be_asked_for(folder):
    commit(folder, 1)
    folder.kept = 1
    commit(folder, 2, 3, 4, 5)
    assert folder.numbers() == [1, 3, 4, 5]
    assert [folder.newest(limit).number for limit in (4, 3, 2, 1)] == [4, 3, 1, 1]
    folder.kept = 4
    commit(folder, 6, 7, 8)
    assert folder.numbers() == [1, 4, 6, 7, 8]  # the first was read
    folder.kept = 5  # which is not there: a disk may have refused it
    commit(folder, 9, 10, 11)
    assert folder.numbers() == [1, 4, 9, 10, 11]
    with pytest.raises(CheckpointError, match="has no step to resume from"):
        folder.newest(0)


def test_a_failure_to_remove_an_old_step_is_only_a_warning(folder, monkeypatch, caplog):
    commit(folder, 0, 1, 2)

    def refuse(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    commit(folder, 3)
    assert "could not remove the old step" in caplog.text
    assert_newest(folder, 3)


def steps_of_a_commit():
    """Every call that touches the disk while a step is committed, as (module, function, how many calls)."""
    return [
        (tensors, "save_file", 2),
        (output_files, "sync", 10),
        (os, "replace", 5),
        (run_folder, "sync", 1),
        (os, "rename", 1),
        (Path, "mkdir", 1),
        (Path, "write_text", 3),
    ]


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [(owner, name, call) for owner, name, calls in steps_of_a_commit() for call in range(calls)],
)
def test_a_step_is_committed_whole_or_not_at_all(folder, monkeypatch, owner, name, call):
    commit(folder, 1)
    before = {path: path.read_bytes() for path in folder.state.rglob("*") if path.is_file()}
    real, calls = getattr(owner, name), []

    def failing(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(OutputError, match="no space left on device") as caught:
            commit(folder, 2)
    assert len(calls) == call + 1
    assert caught.value.exit_code == 6
    assert leftovers(folder) == []
    committed = folder.numbers()[-1]
    assert_newest(folder, committed)  # the second step counts once it was renamed
    if committed == 1:
        assert before == {path: path.read_bytes() for path in folder.state.rglob("*") if path.is_file()}
    commit(folder, 2)
    assert_newest(folder, 2)


def test_that_list_of_calls_is_complete(folder, monkeypatch):
    counts = {}
    for owner, name, _ in steps_of_a_commit():
        real = getattr(owner, name)

        def counting(*arguments, _real=real, _key=(owner, name), **keywords):
            counts[_key] = counts.get(_key, 0) + 1
            return _real(*arguments, **keywords)

        monkeypatch.setattr(owner, name, counting)
    commit(folder, 1)
    assert counts == {(owner, name): calls for owner, name, calls in steps_of_a_commit()}


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_any_damage_is_seen_and_the_step_before_is_taken(folder, caplog, file, damage):
    commit(folder, 1, 2)
    path = folder.state / "step-00000002" / file
    data = path.read_bytes()
    match damage:
        case "flip":
            place = data.index(b"sha256") + 12 if file == "manifest.json" else len(data) // 2
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        case "truncate":
            path.write_bytes(data[:-3])
        case "remove":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
    assert_newest(folder, 1)
    assert str(path) in caplog.text or str(path.parent) in caplog.text
    assert caplog.text.rstrip().endswith("continuing from step 1")


def test_every_single_flipped_bit_is_seen(folder):
    commit(folder, 1)
    path = folder.state / "step-00000001" / "optimizer.safetensors"
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :])
        assert verify(path.parent) is not None
    path.write_bytes(data)
    assert verify(path.parent) is None


def test_the_message_names_the_file_what_differs_and_the_step_that_is_taken(folder, caplog):
    commit(folder, 1, 2)
    path = folder.state / "step-00000002" / "model.safetensors"
    wanted = json.loads((path.parent / "manifest.json").read_text())["model.safetensors"]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    problem = f"`{path}` is damaged: sha256 {digest[:12]}, expected {wanted['sha256'][:12]}"
    assert verify(path.parent) == problem
    assert_newest(folder, 1)
    assert caplog.messages == [f"{problem}; continuing from step 1"]
    path.write_bytes(data[:-1])
    size = len(data)
    assert verify(path.parent) == f"`{path}` is damaged: bytes {size - 1}, expected {size}"


def test_files_of_two_steps_cannot_be_swapped(folder):
    commit(folder, 1, 2)
    one, two = (folder.state / f"step-0000000{n}" for n in (1, 2))
    shutil.copy(one / "model.safetensors", two / "model.safetensors")
    assert "is damaged" in verify(two)
    shutil.rmtree(two)
    one.rename(two)
    assert verify(two) == f"`{two}` holds step 1"


def test_a_file_too_many_is_seen(folder):
    commit(folder, 1)
    (folder.state / "step-00000001" / "more.safetensors").write_bytes(b"x")
    assert "is not part of the step" in verify(folder.state / "step-00000001")


def test_without_an_undamaged_step_every_problem_is_told(folder):
    with pytest.raises(CheckpointError, match=r"has no step to resume from\nhint: "):
        folder.newest()
    commit(folder, 1, 2)
    for number in (1, 2):
        (folder.state / f"step-0000000{number}" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        folder.newest()
    assert caught.value.message.count("\n") == 2


def test_a_damaged_step_stays_until_a_newer_one_is_committed_and_never_ousts_good_ones(folder):
    commit(folder, 1, 3)
    (folder.state / "step-00000003" / "model.safetensors").write_bytes(b"")
    assert_newest(folder, 1)
    folder.clean(1)
    assert folder.numbers() == [1, 3]
    commit(folder, 2)
    assert folder.numbers() == [1, 2]
    assert_newest(folder, 2)
    commit(folder, 4, 5, 6)
    assert folder.numbers() == [2, 4, 5, 6]


def test_a_step_found_damaged_can_be_written_again(folder):
    commit(folder, 1, 2)
    (folder.state / "step-00000002" / "model.safetensors").write_bytes(b"")
    commit(folder, 2)
    assert_newest(folder, 2)
    assert folder.numbers() == [1, 2]


def test_what_a_killed_process_left_is_removed_and_nothing_else(folder):
    commit(folder, 1)
    kept = set(folder.path.rglob("*"))
    (folder.path / ".thesis.tmp").write_text("mine")
    kept.add(folder.path / ".thesis.tmp")
    partial = folder.state / ".tmp-step-00000002-123"
    partial.mkdir()
    (partial / ".model.safetensors.1.tmp").write_bytes(b"x")
    for name in (".prior.safetensors.9.tmp", ".tmpAb3xYz", "state/.latest.json.3.tmp", "images/.a.png.3.tmp"):
        (folder.path / name).write_bytes(b"x")
    folder.clean(1)
    assert set(folder.path.rglob("*")) == kept


def test_metrics_after_the_resumed_step_and_half_lines_are_cut(folder):
    rows = [f'{{"step": {number}, "loss": NaN}}\n' for number in range(1, 6)]
    folder.metrics.write_text("".join(rows) + '{"step": 2, "lo')
    folder.skipped.write_text('{"path": "a}", "reason": "b"}\n{"path": "c}')
    updates = [f'{{"step": {number}, "samples": [{number}, {number + 4}]}}\n' for number in range(3)]
    folder.diverged.write_text("".join(updates))
    folder.clean(3)
    assert folder.diverged.read_text() == "".join(updates)
    folder.clean(3, samples=5)
    assert folder.diverged.read_text() == "".join(updates[:2])
    assert folder.metrics.read_text() == "".join(rows[:3])
    assert folder.skipped.read_text() == '{"path": "a}", "reason": "b"}\n'


def test_a_disk_that_cannot_be_cleaned_is_an_output_error(folder, monkeypatch):
    folder.metrics.write_text('{"step": 1}\n')

    def failing(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match="read-only file system"):
        folder.clean(1)
    assert folder.metrics.read_text() == '{"step": 1}\n'


def test_the_prior_is_found_before_the_tokenizer_and_the_folder_before_those_below(tmp_path):
    assert find_weights(tmp_path) is None
    places = ["tokenizer/tokenizer", "prior/prior", "tokenizer", "prior"]
    for place in places:
        path = tmp_path / f"{place}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert find_weights(tmp_path) == path
