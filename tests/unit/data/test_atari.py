import errno
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vqgan.data import atari, atari_explorer
from vqgan.data.atari import AtariConfig, open_atari
from vqgan.data.atari_explorer import play, spread
from vqgan.errors import ConfigError, DataError, OutputError

pytest.importorskip("ale_py")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path))
    return tmp_path / "atari"


def played(seed=0, player="explorer", frames=480, rom="montezuma_revenge"):
    return play(rom, player=player, seed=seed, frames=frames, scale=2, on_frames=lambda used: None)


def config(**changes):
    return AtariConfig(**{"games": ("MontezumaRevenge",), "frames": 400, "max_frames": 50, **changes})


def cached(folder, rom="montezuma_revenge", **changes):
    """The files that these settings have in the cache, for training and held-out frames."""
    folder.mkdir(exist_ok=True)
    version = sys.modules["ale_py"].__version__
    chosen = config(**changes)
    jobs = [atari._job(chosen, rom, seed, version) for seed in (7, 2)]
    return [Path(job["path"]) for job in jobs]


def test_the_same_seed_gives_the_same_frames_and_another_seed_others():
    first, again, other = played(), played(), played(seed=1)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.frames.shape != other.frames.shape or (first.frames != other.frames).any()


def test_a_smaller_budget_gives_the_first_frames_of_a_larger_one():
    small, large = played(frames=240), played(frames=480)
    assert 1 < len(small.frames) < len(large.frames)
    np.testing.assert_array_equal(small.frames, large.frames[: len(small.frames)])


def test_kept_frames_differ_from_each_other():
    frames = played().frames
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_the_room_of_the_first_frames_is_the_one_where_the_game_starts():
    assert set(played().rooms.tolist()) == {1}


def test_the_budget_is_respected(monkeypatch):
    used = []
    monkeypatch.setattr("vqgan.data.atari_explorer.REPORT_EVERY", 1)
    play("pong", player="random", seed=0, frames=403, scale=2, on_frames=used.append)
    assert used[-1] == 400


def test_a_random_player_plays_a_game_without_known_rooms():
    result = played(player="random", rom="pong")
    assert result.frames.shape[1:] == (105, 80, 3)
    assert set(result.rooms.tolist()) == {0}


def test_frames_are_shared_between_rooms_while_they_have_them():
    rooms = np.array([1] * 8 + [2] * 8 + [7])
    assert rooms[spread(rooms, 7)].tolist() == [1, 1, 1, 2, 2, 2, 7]
    assert spread(rooms, 100).tolist() == list(range(17))


def test_held_out_frames_come_from_another_seed_and_the_cache_is_used_the_second_time(cache, monkeypatch):
    reports = []
    train = open_atari(config(), reports.append).part("train")
    assert len(list(cache.iterdir())) == 2  # both seeds are played at once
    monkeypatch.setattr(atari, "_play", lambda *_: pytest.fail("played again"))
    np.testing.assert_array_equal(open_atari(config()).part("train").images, train.images)
    heldout, both = open_atari(config()).part("heldout"), open_atari(config()).part("all")
    np.testing.assert_array_equal(both.images, np.concatenate([train.images, heldout.images]))
    shapes = train.images.shape, heldout.images.shape
    assert shapes[0] != shapes[1] or (train.images != heldout.images).any()
    assert train.images.shape[1:] == (96, 80, 3)
    assert len(train.rooms) == len(train) <= 50
    assert train.read(0).class_index == 0
    assert reports == [] or reports[-1].step <= reports[-1].total == 800


@pytest.mark.parametrize(
    "changes", [{"frames": 404}, {"rows": (0, 96)}, {"player": "random"}, {"max_frames": 9}]
)
def test_other_settings_have_another_file_in_the_cache(changes, cache):
    assert cached(cache, **changes) != cached(cache)


def test_each_game_is_a_class(cache):
    changes = {"games": ("Pong", "MontezumaRevenge")}
    for rom, room in (("pong", 0), ("montezuma_revenge", 5)):
        for path in cached(cache, rom, **changes):
            np.savez(path, frames=np.zeros((2, 96, 80, 3), np.uint8), rooms=np.full(2, room, np.int64))
    source = open_atari(config(**changes)).part("train")
    assert source.class_names == ("Pong", "MontezumaRevenge")
    assert [source.read(i).class_index for i in range(len(source))] == [0, 0, 1, 1]
    assert source.rooms.tolist() == [0, 0, 5, 5]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ConfigError, match="`atari` needs ale-py") as caught:
        open_atari(config()).part("train")
    assert 'pip install "vqgan[demo]"' in caught.value.hint


def test_an_unknown_game_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="no game `MontezumasRevenge`") as caught:
        open_atari(config(games=("MontezumasRevenge",)))
    assert caught.value.hint == "did you mean `MontezumaRevenge`?"


def test_rows_outside_the_screen_are_refused(cache):
    for path in cached(cache, rows=(50, 146)):
        np.savez(path, frames=np.zeros((1, 55, 80, 3), np.uint8), rooms=np.zeros(1, np.int64))
    with pytest.raises(ConfigError, match=r"`rows` is \(50, 146\)"):
        open_atari(config(rows=(50, 146))).part("train")


def damaged(data):
    """Ways in which a file breaks: not one at all, empty, cut short, other bytes in its middle."""
    middle = len(data) // 4
    return [b"PK damaged", b"", data[:-100], data[:middle] + b"\xff" * 64 + data[middle + 64 :]]


@pytest.mark.parametrize("case", range(4))
def test_a_damaged_cache_file_is_played_again(case, cache, monkeypatch, caplog):
    whole = np.random.default_rng(0).integers(0, 256, (3, 96, 80, 3), np.uint8)
    path, heldout = cached(cache)
    for each in (path, heldout):
        np.savez_compressed(each, frames=whole, rooms=np.ones(3, np.int64))
    good = path.read_bytes()
    path.write_bytes(damaged(good)[case])
    played = []

    def play_again(jobs, on_progress):
        played.extend(Path(job["path"]) for job in jobs)
        path.write_bytes(good)

    monkeypatch.setattr(atari, "_play", play_again)
    np.testing.assert_array_equal(open_atari(config()).part("train").images, whole)
    assert played == [path]
    assert f"cannot read `{path}`" in caplog.text
    assert "played again" in caplog.text


def test_a_cache_file_that_stays_damaged_is_named(cache, monkeypatch):
    for path in cached(cache):
        path.write_bytes(b"")
    monkeypatch.setattr(atari, "_play", lambda *_: None)
    with pytest.raises(DataError, match=r"cannot read `.*\.npz`") as caught:
        open_atari(config()).part("train")
    assert caught.value.hint == "delete the file; it is made again"


def test_frames_that_cannot_be_saved_are_an_output_error(cache):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("")
    job = atari._job(config(), "montezuma_revenge", 7, "0")
    with pytest.raises(OutputError, match=r"cannot write `.*npz`: (file exists|not a directory)") as caught:
        atari._play([job], None)
    assert "free some space, or set `VQGAN_CACHE`" in caught.value.hint


def test_a_player_that_finds_the_disk_full_says_so_and_leaves_nothing(cache, monkeypatch, capsys):
    def full(file, **arrays):
        file.write(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    cache.mkdir()
    job = atari._job(config(), "montezuma_revenge", 7, "0")
    monkeypatch.setattr(sys, "argv", ["atari_explorer.py", json.dumps(job)])
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(SystemExit) as caught:
        atari_explorer.main()
    assert caught.value.code == atari_explorer.CANNOT_WRITE
    assert capsys.readouterr().err == "No space left on device\n"
    assert list(cache.iterdir()) == []


def test_a_failing_player_says_why(cache, monkeypatch):
    monkeypatch.setattr(
        atari, "_job", lambda *_, **__: {"rom": "nothing", "frames": 4, "path": str(cache / "x.npz")}
    )
    with pytest.raises(DataError, match="a player of `nothing` failed: KeyError"):
        open_atari(config()).part("train")


@pytest.mark.timeout(30)
def test_a_player_with_much_to_say_is_not_stopped_by_a_full_pipe(tmp_path, monkeypatch):
    script = tmp_path / "player.py"
    script.write_text("import sys\nsys.stderr.write('no\\n' * 200_000)\nprint(4, flush=True)\nsys.exit(1)\n")
    monkeypatch.setattr(atari_explorer, "__file__", str(script))
    with pytest.raises(DataError, match="a player of `pong` failed: no"):
        atari._play([{"rom": "pong", "frames": 4, "path": "x.npz"}] * 2, None)


def test_a_cache_folder_that_cannot_be_made_is_an_output_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot write"):
        open_atari(config()).part("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"games": ()}, "`games` is empty"),
        ({"games": ("Pong", "pong")}, "names a game twice"),
        ({"frames": 3}, "`frames` is 3"),
        ({"seed": 5, "heldout_seed": 5}, "are both 5"),
        ({"rows": (9, 9)}, "`rows` is"),
        ({"max_frames": 0}, "`max_frames` is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)
