"""Agreement of pictures with what was asked, on pictures made by hand."""

import numpy as np
import pytest
import torch

from vqgan.demo.agreement import (
    boxes_found,
    edge_agreement,
    label_agreement,
    moving_boxes,
    overlap,
    picture_psnr,
)


def square(rows, columns, size=(24, 20)):
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[rows, columns] = 200
    return frame


def test_edges_count_within_one_pixel_and_both_ways():
    line = torch.zeros(1, 16, 16, dtype=torch.bool)
    line[0, :, 4] = True
    both = line.clone()
    both[0, :, 12] = True
    assert edge_agreement(line, line).item() == 1
    assert edge_agreement(line, line.roll(1, dims=2)).item() == 1
    assert edge_agreement(line, line.roll(2, dims=2)).item() == 0
    assert edge_agreement(line, both).item() == pytest.approx(2 * 0.5 / 1.5)
    assert edge_agreement(both, line).item() == pytest.approx(2 * 0.5 / 1.5)


def test_labels_are_compared_within_each_picture():
    asked = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    found = torch.tensor([[0, 0, 0, 1], [2, 2, 2, 2]])
    assert label_agreement(asked, found, 4).tolist() == pytest.approx([(2 / 3 + 1 / 2) / 2, 1.0])


def test_psnr_of_the_part_that_is_asked_about():
    asked, found = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    found[0, :, 0] = 0.2
    where = torch.zeros(2, 4, 4, dtype=torch.bool)
    where[:, 0] = True
    assert picture_psnr(asked, found, where)[0] == pytest.approx(20.0)
    assert picture_psnr(asked, found)[0] == pytest.approx(20.0 + 10 * np.log10(4))
    assert picture_psnr(asked, found)[1] == 100


def test_boxes_of_what_moves_are_its_parts_without_specks_and_no_more_than_asked():
    frame = square(slice(2, 6), slice(1, 4)) | square(slice(12, 18), slice(10, 15)) | square(20, 0)
    empty = np.zeros_like(frame)
    boxes = moving_boxes(frame[None], empty[None], 5)[0]
    assert boxes == [(1 / 20, 2 / 24, 3 / 20, 4 / 24), (10 / 20, 12 / 24, 5 / 20, 6 / 24)]
    assert moving_boxes(frame[None], empty[None], 1)[0] == boxes[1:]  # the largest
    assert moving_boxes(frame[None], frame[None], 5) == [[]]


def test_boxes_are_found_where_they_overlap_enough():
    asked = (0.0, 0.0, 0.4, 0.4)
    near, far = (0.1, 0.0, 0.4, 0.4), (0.3, 0.3, 0.4, 0.4)
    assert overlap(asked, near) == pytest.approx(0.12 / 0.20)
    assert overlap(asked, asked) == pytest.approx(1)
    assert boxes_found([[asked], [asked], [], [asked]], [[far, near], [far], [], []]).tolist() == [1, 0, 1, 0]
