import math

import numpy as np
import pytest

from vqgan.evaluation import baselines
from vqgan.evaluation.baselines import (
    mean_image,
    nearest_frame,
    position_frequency_loss,
    previous_token_loss,
    room_mean,
    room_median,
    room_medians,
    seen_in_training,
    uniform_loss,
)


def frames_of(*values):
    return np.stack([np.full((2, 3, 3), value, dtype=np.uint8) for value in values])


def random_frames(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)


def test_mean_image_is_rounded_and_the_same_for_every_frame():
    result = mean_image(frames_of(1, 2, 255), frames_of(0, 0))
    np.testing.assert_array_equal(result, frames_of(86, 86))


def test_room_mean_is_of_the_own_room_and_of_all_for_an_unknown_room():
    train, rooms = frames_of(10, 20, 100), np.array([1, 1, 2])
    result = room_mean(train, rooms, frames_of(0, 0, 0), np.array([2, 1, 9]))
    np.testing.assert_array_equal(result, frames_of(100, 15, 43))


def test_room_medians_ignore_what_passes_through():
    medians = room_medians(frames_of(10, 10, 250, 7, 9), np.array([1, 1, 1, 4, 4]))
    assert sorted(medians) == [1, 4]
    np.testing.assert_array_equal(medians[1], frames_of(10)[0])
    np.testing.assert_array_equal(medians[4], frames_of(7)[0])


def test_room_median_answers_with_the_own_room():
    medians = {1: frames_of(10)[0], 2: frames_of(20)[0]}
    result = room_median(medians, frames_of(1, 2, 3), np.array([2, 1, 9]))
    np.testing.assert_array_equal(result, frames_of(20, 10, 3))


def test_nearest_frame_agrees_with_a_search_in_integers(monkeypatch):
    monkeypatch.setattr(baselines, "_QUERY_CHUNK", 4)
    monkeypatch.setattr(baselines, "_KNOWN_CHUNK", 8)
    train, frames = random_frames(19, seed=1), random_frames(9, seed=2)
    difference = train[None].astype(int) - frames[:, None]
    expected = (difference**2).sum(axis=(2, 3, 4)).argmin(axis=1)
    np.testing.assert_array_equal(nearest_frame(train, frames), expected)


def test_nearest_frame_tells_neighbours_apart_that_float32_cannot():
    train = np.full((3, 96, 80, 3), 255, dtype=np.uint8)
    train[0, 0, 0, 0] = 253
    train[1, 0, 0, 0] = 254
    frame = train[1:2].copy()
    assert nearest_frame(train, frame).tolist() == [1]
    assert nearest_frame(train[[1, 1, 0]], frame).tolist() == [0]


def test_frames_that_equal_a_training_frame_are_found():
    train = random_frames(4, seed=1)
    frames = np.concatenate([random_frames(2, seed=2), train[2:3]])
    assert seen_in_training(train, frames).tolist() == [False, False, True]


def test_uniform_loss_is_the_logarithm_of_the_codebook_size():
    assert uniform_loss(256) == pytest.approx(8 * math.log(2))


def test_position_frequencies_add_one_to_each_count():
    train = np.array([[0, 1], [0, 2], [3, 1]])
    loss = position_frequency_loss(train, np.array([[0, 3]]), 4)
    assert loss == pytest.approx(-(math.log(3 / 7) + math.log(1 / 7)) / 2)


def test_previous_token_table_has_a_row_for_the_start():
    train = np.array([[0, 1, 0, 1], [2, 0, 1, 1]])
    loss = previous_token_loss(train, np.array([[2, 0, 1, 1]]), 3)
    expected = [2 / 5, 2 / 4, 4 / 6, 2 / 5]
    assert loss == pytest.approx(-np.log(expected).mean())


def test_previous_token_table_does_not_cross_sequences():
    train = np.array([[0, 1], [2, 0]])
    first_only = previous_token_loss(train, np.array([[1, 2]]), 3)
    assert first_only == pytest.approx(-(math.log(1 / 5) + math.log(1 / 3)) / 2)
