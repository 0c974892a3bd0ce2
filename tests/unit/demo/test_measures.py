import numpy as np

from vqgan.demo.measures import (
    RoomFrames,
    mean_frame,
    median_frame,
    moving_boxes,
    moving_errors,
    moving_pixels,
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


def test_moving_pixels_differ_in_any_channel_by_more_than_the_threshold():
    background = np.full((1, 6, 4, 3), 50, dtype=np.uint8)
    frames = background.copy()
    frames[0, 0, 0, 2] = 75
    frames[0, 0, 1, 2] = 74
    frames[0, 5, 3, 0] = 25
    assert np.argwhere(moving_pixels(frames, background)).tolist() == [[0, 0, 0], [0, 5, 3]]


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


def square(rows, columns, size=(24, 20)):
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[rows, columns] = 200
    return frame


def test_boxes_of_what_moves_are_its_parts_without_specks_and_no_more_than_asked():
    frame = square(slice(2, 6), slice(1, 4)) | square(slice(12, 18), slice(10, 15)) | square(20, 0)
    empty = np.zeros_like(frame)
    boxes = moving_boxes(frame[None], empty[None], 5)[0]
    assert boxes == [(1 / 20, 2 / 24, 3 / 20, 4 / 24), (10 / 20, 12 / 24, 5 / 20, 6 / 24)]
    assert moving_boxes(frame[None], empty[None], 1)[0] == boxes[1:]  # the largest
    assert moving_boxes(frame[None], frame[None], 5) == [[]]
