"""Things that move: those of the training frames are known, others are not."""

import numpy as np
import pytest

from vqgan.demo.measures import RoomFrames
from vqgan.demo.sprites import Sprites


def frames(count, shape, *, height=96):
    """Dark frames, each with a thing at another place: a `square`, or a `bar` of as many pixels."""
    scale = height // 96
    found = np.zeros((count, height, height, 3), np.uint8)
    rows, columns = {"square": (6, 6), "bar": (2, 18)}[shape]
    for number, frame in enumerate(found):
        row, column = 10 * scale + number * 2, 12 * scale + number * 3
        frame[row : row + rows * scale, column : column + columns * scale] = 200
    return found


def sprites(height):
    squares = frames(12, "square", height=height)
    rooms = np.zeros(12, np.int64)
    whole = RoomFrames(squares, rooms, squares, rooms)
    assert (np.median(squares, axis=0) == 0).all()  # the room is empty
    return Sprites(whole, rebuilt=squares, heldout=np.maximum(squares, 3))


@pytest.mark.parametrize("height", [96, 192])
def test_only_things_that_training_never_showed_are_unknown(height):
    known = sprites(height)
    drawn = np.concatenate([frames(6, "square", height=height), frames(2, "bar", height=height)])
    assert known.unknown(drawn) == (0.25, 1.0)
    assert known.unknown(frames(3, "square", height=height)) == (0.0, 1.0)


def test_empty_frames_have_no_things():
    assert sprites(96).unknown(np.zeros((4, 96, 96, 3), np.uint8)) == (0.0, 0.0)


def test_two_things_in_one_frame_count_alone():
    both = np.maximum(frames(4, "square"), frames(4, "bar")[:, ::-1, ::-1])
    assert sprites(96).unknown(both) == (0.5, 2.0)


def test_the_limit_is_what_the_tokenizer_makes_of_most_known_things():
    squares = frames(12, "square")
    rooms = np.zeros(12, np.int64)
    whole = RoomFrames(squares, rooms, squares, rooms)
    dimmed = (squares * 0.6).astype(np.uint8)
    assert Sprites(whole, rebuilt=squares, heldout=squares).unknown(dimmed) == (1.0, 1.0)
    assert Sprites(whole, rebuilt=squares, heldout=dimmed).unknown(dimmed)[0] < 1
