import numpy as np

from vqgan.evaluation.two_stages import codebook_mosaic, split_frames


def test_mosaic_shows_the_mean_square_of_each_code_the_most_frequent_first():
    frames = np.zeros((1, 4, 4, 1), dtype=np.uint8)
    frames[0, :2, :2] = 10
    frames[0, :2, 2:] = 20
    frames[0, 2:] = 200
    grids = np.array([[[1, 1], [2, 1]]])
    mosaic = codebook_mosaic(frames, grids, codebook_size=4)
    assert mosaic.shape == (4, 2, 2, 1)
    assert (mosaic[0] == round((10 + 20 + 200) / 3)).all()
    assert (mosaic[1] == 200).all()
    assert (mosaic[2:] == 128).all()


def test_held_out_frames_that_equal_a_training_frame_are_dropped_and_counted():
    train = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    heldout = np.concatenate([train[1:2], train[1:2] + 50])
    split = split_frames(train, np.array([0, 1, 2]), heldout, np.array([1, 2]))
    assert split.dropped == 1
    np.testing.assert_array_equal(split.heldout, heldout[1:])
    assert split.heldout_rooms.tolist() == [2]
