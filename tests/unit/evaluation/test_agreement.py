"""Agreement of pictures with what was asked, on pictures made by hand."""

import numpy as np
import pytest
import torch

from vqgan.evaluation.agreement import (
    boxes_found,
    depth_difference,
    edge_agreement,
    label_agreement,
    overlap,
    picture_psnr,
)


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
    none = torch.zeros_like(line)
    assert edge_agreement(none, none).item() == 1
    assert edge_agreement(line, none).item() == edge_agreement(none, line).item() == 0


def test_labels_are_compared_within_each_picture():
    asked = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    found = torch.tensor([[0, 0, 0, 1], [2, 2, 2, 2]])
    assert label_agreement(asked, found, 4).tolist() == pytest.approx([(2 / 3 + 1 / 2) / 2, 1.0])


def test_depths_are_compared_by_what_each_is_between_its_nearest_and_its_farthest():
    asked = torch.tensor([0.0, 1, 2, 4]).view(1, 1, 2, 2)
    found = torch.tensor([-1.0, -0.5, 0, 1]).view(1, 1, 2, 2)
    assert depth_difference(asked, found).tolist() == [0.0]
    assert depth_difference(asked, -found).item() == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert depth_difference(asked, torch.zeros(1, 1, 2, 2)).item() == pytest.approx((0 + 0.25 + 0.5 + 1) / 4)


def test_psnr_of_the_part_that_is_asked_about():
    asked, found = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    found[0, :, 0] = 0.2
    where = torch.zeros(2, 4, 4, dtype=torch.bool)
    where[:, 0] = True
    assert picture_psnr(asked, found, where)[0] == pytest.approx(20.0)
    assert picture_psnr(asked, found)[0] == pytest.approx(20.0 + 10 * np.log10(4))
    assert picture_psnr(asked, found)[1] == 100


def test_boxes_are_found_where_they_overlap_enough():
    asked = (0.0, 0.0, 0.4, 0.4)
    near, far = (0.1, 0.0, 0.4, 0.4), (0.3, 0.3, 0.4, 0.4)
    assert overlap(asked, near) == pytest.approx(0.12 / 0.20)
    assert overlap(asked, asked) == pytest.approx(1)
    assert boxes_found([[asked], [asked], [], [asked]], [[far, near], [far], [], []]).tolist() == [1, 0, 1, 0]
