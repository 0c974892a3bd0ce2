import math

import numpy as np
import pytest

from vqgan.demo import measures
from vqgan.demo.measures import (
    RoomFrames,
    codebook_mosaic,
    mean_frame,
    median_frame,
    moving_errors,
    moving_pixels,
    nearest_frames,
    table_loss,
)


def frames_of(*values):
    return np.stack([np.full((2, 3, 3), value, dtype=np.uint8) for value in values])


def random_frames(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)


def room_frames(train, rooms, heldout, heldout_rooms):
    return RoomFrames(train, np.array(rooms), heldout, np.array(heldout_rooms))


def test_the_mean_frame_is_rounded():
    np.testing.assert_array_equal(mean_frame(frames_of(1, 2, 255)), frames_of(86)[0])


def test_the_median_frame_ignores_what_passes_through_and_is_a_value_that_occurred():
    np.testing.assert_array_equal(median_frame(frames_of(10, 10, 250)), frames_of(10)[0])
    np.testing.assert_array_equal(median_frame(frames_of(9, 7)), frames_of(7)[0])


def test_answers_are_of_the_own_room_and_the_given_one_for_an_unknown_room():
    frames = room_frames(frames_of(10, 20, 100), [1, 1, 2], frames_of(0, 0, 0), [2, 1, 9])
    answers = frames.baseline(mean_frame, frames_of(1, 2, 43))
    np.testing.assert_array_equal(answers, frames_of(100, 15, 43))


def test_held_out_frames_that_equal_a_training_frame_are_dropped_and_counted():
    train = random_frames(3, seed=0)
    heldout = np.concatenate([train[1:2], train[1:2] // 2])
    frames = room_frames(train, [0, 1, 2], heldout, [1, 2]).without_seen()
    assert frames.dropped == 1
    np.testing.assert_array_equal(frames.heldout, heldout[1:])
    assert frames.heldout_rooms.tolist() == [2]


def test_the_nearest_frame_agrees_with_a_search_in_integers():
    train, frames = (
        np.random.default_rng(i).integers(0, 256, (n, 9, 10, 3), np.uint8) for i, n in ((1, 19), (2, 9))
    )
    difference = train[None].astype(int) - frames[:, None]
    expected = (difference**2).sum(axis=(2, 3, 4)).argmin(axis=1)
    np.testing.assert_array_equal(nearest_frames(train, frames), expected)


def test_the_nearest_frame_tells_neighbours_apart_that_float32_cannot():
    train = np.full((3, 96, 80, 3), 255, dtype=np.uint8)
    train[0, 0, 0, 0] = 253
    train[1, 0, 0, 0] = 254
    frame = train[1:2].copy()
    assert nearest_frames(train, frame).tolist() == [1]
    assert nearest_frames(train[[1, 1, 0]], frame).tolist() == [0]


def test_moving_pixels_differ_in_any_channel_by_more_than_the_threshold():
    background = np.full((1, 6, 4, 3), 50, dtype=np.uint8)
    frames = background.copy()
    frames[0, 0, 0, 2] = 75
    frames[0, 0, 1, 2] = 74
    frames[0, 5, 3, 0] = 25
    assert np.argwhere(moving_pixels(frames, background)).tolist() == [[0, 0, 0], [0, 5, 3]]


def test_position_frequencies_add_one_to_each_count():
    train = np.array([[0, 1], [0, 2], [3, 1]])
    loss = table_loss(measures._position, train, np.array([[0, 3]]), 4)
    assert loss == pytest.approx(-(math.log(3 / 7) + math.log(1 / 7)) / 2)


def test_the_table_of_previous_tokens_has_a_row_for_the_start():
    train = np.array([[0, 1, 0, 1], [2, 0, 1, 1]])
    loss = table_loss(measures._previous_token, train, np.array([[2, 0, 1, 1]]), 3)
    assert loss == pytest.approx(-np.log([2 / 5, 2 / 4, 4 / 6, 2 / 5]).mean())


def test_the_table_of_previous_tokens_does_not_cross_sequences():
    loss = table_loss(measures._previous_token, np.array([[0, 1], [2, 0]]), np.array([[1, 2]]), 3)
    assert loss == pytest.approx(-(math.log(1 / 5) + math.log(1 / 3)) / 2)


def test_the_mosaic_shows_the_mean_square_of_each_code_the_most_frequent_first():
    frames = np.zeros((1, 4, 4, 1), dtype=np.uint8)
    frames[0, :2, :2] = 10
    frames[0, :2, 2:] = 20
    frames[0, 2:] = 200
    mosaic = codebook_mosaic(frames, np.array([[[1, 1], [2, 1]]]), codebook_size=4)
    assert mosaic.shape == (4, 2, 2, 1)
    assert (mosaic[0] == round((10 + 20 + 200) / 3)).all()
    assert (mosaic[1] == 200).all()
    assert (mosaic[2:] == 128).all()


def test_errors_count_only_pixels_that_moved_since_the_last_given_frame():
    last = np.zeros((2, 2, 3, 1), np.uint8)
    truth = np.zeros((2, 2, 2, 3, 1), np.uint8)
    truth[0, 0, 0, 0], truth[1, 0, 0, 1], truth[1, 0, 1, 1] = 10, 10, 20  # nothing moves in the second game
    dreamed = np.full_like(truth, 4)
    np.testing.assert_array_equal(
        moving_errors(last, truth, dreamed), [[36, np.nan], [(36 + 256) / 2, np.nan]]
    )
    np.testing.assert_array_equal(
        moving_errors(last, truth, last), [[100, np.nan], [(100 + 400) / 2, np.nan]]
    )
    np.testing.assert_array_equal(moving_errors(last, truth, truth)[:, 0], [0, 0])
