"""Screens and trajectories in the folders of the Atari Grand Challenge."""

import shutil

import pytest

import miniatures
from vqgan.data import open_source, parse_source
from vqgan.data.consecutive import Consecutive
from vqgan.data.grand_challenge import GrandChallengeConfig
from vqgan.errors import DataError
from vqgan.types import ACTION

GAMES = {"pinball": [9, 5], "qbert": [7]}


def opened(root, every=1):
    return open_source(GrandChallengeConfig(path=str(root), every=every))


@pytest.mark.parametrize("start", [0, 1])
def test_the_action_of_a_row_leads_to_the_next_screen(start, tmp_path):
    root = miniatures.grand_challenge(tmp_path, games=GAMES, start=start)
    assert parse_source(f"agc:{root}") == GrandChallengeConfig(path=str(root))
    source = opened(root)
    assert source.class_names == ("pinball", "qbert")
    assert source.steps.episodes.tolist() == [0] * 9 + [2] * 5 + [4] * 7
    frames = Consecutive(source, 1)
    assert len(frames) == 8 + 4 + 6
    for index in range(len(frames)):
        item = frames.read(index)
        before, after = int(item.previous[0][0, 0, 0]), int(item.pixels[0, 0, 0])
        assert after == before + 1
        assert item.condition[ACTION] == before % 3 + int(8 <= index < 12)
        assert item.class_index == int(index >= 12)


def test_of_several_actions_the_most_frequent_stands_between_two_images(tmp_path):
    source = opened(miniatures.grand_challenge(tmp_path, games={"pinball": [9]}), every=4)
    assert [int(source.read(index).pixels[0, 0, 0]) for index in range(3)] == [0, 4, 8]
    assert source.steps.actions[1:].tolist() == [0, 1]  # of 0 1 2 0 and of 1 2 0 1


def test_a_screen_after_the_last_row_is_an_image_and_words_and_blanks_are_read(tmp_path):
    root = miniatures.grand_challenge(tmp_path, games={"pinball": [4]})
    shutil.copy(root / "screens/pinball/0/3.png", root / "screens/pinball/0/4.png")
    rows = [f"{t} ,0,0, {t == 1},{t + 5} " for t in range(4)]
    (root / "trajectories/pinball/0.txt").write_text(
        "\n".join(["about", "frame, reward,score, terminal,action", *rows, ""]), encoding="utf-8"
    )
    source = opened(root)
    assert len(source) == 5
    assert source.steps.actions[1:].tolist() == [5, 6, 7, 8]
    assert source.steps.episodes.tolist() == [0, 0, 1, 1, 1]  # a game ended with row 1


def test_episodes_are_held_out_whole(tmp_path):
    source = opened(miniatures.grand_challenge(tmp_path, games={"pinball": [3] * 30}))
    train, heldout = source.part("train"), source.part("heldout")
    known, unknown = set(train.steps.episodes.tolist()), set(heldout.steps.episodes.tolist())
    assert len(train) + len(heldout) == 90
    assert unknown
    assert not known & unknown


def test_what_does_not_fit_is_counted_and_named(tmp_path):
    root = miniatures.grand_challenge(tmp_path, games={"pinball": [6, 3, 4], "qbert": [4]})
    (root / "trajectories/pinball/1.txt").unlink()
    (root / "screens/pinball/2/2.png").unlink()
    (root / "screens/pinball/0/6.png").write_bytes((root / "screens/pinball/0/5.png").read_bytes())
    (root / "screens/pinball/0/9.png").write_bytes((root / "screens/pinball/0/5.png").read_bytes())
    file = root / "trajectories/qbert/0.txt"
    lines = ["about", "frame,reward,score,terminal,action", "0,0,0,0,18", "2,0,0,0,1", "2,0,0,no,-1", "3,0"]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        opened(root)
    message = str(caught.value)
    assert "do not fit in 9 places" in message
    assert "screen 9 of `pinball/0` has no row" in message
    assert "1.txt` is missing" in message
    assert "`pinball/2` has no screen 2" in message
    assert "has `18` as `action`, expected 0, 1, 2, " in message
    assert "line 4 of" in message
    assert "and 4 more" in message


def test_a_file_that_is_no_trajectory_or_screen_is_named(tmp_path):
    root = miniatures.grand_challenge(tmp_path, games={"pinball": [3, 3]})
    (root / "trajectories/pinball/0.txt").write_text("frame,action\n0,1\n", encoding="utf-8")
    (root / "trajectories/pinball/1.txt").write_text("about\nframe,terminal,action\n", encoding="utf-8")
    shutil.copy(root / "screens/pinball/0/0.png", root / "screens/pinball/cover.png")
    with pytest.raises(DataError, match="in 3 places") as caught:
        opened(root)
    for part in ("`pinball/cover.png` is not `GAME", "lacks the names `frame`", "1.txt` has no rows"):
        assert part in str(caught.value)
