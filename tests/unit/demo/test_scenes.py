"""Scenes of two digits: what the words say stands where they say, and held-out hands are seen by no training."""

import pytest
import torch

from vqgan.demo.scenes import ALL, Handwriting, captions

pytest.importorskip("sklearn")


def test_the_first_digit_stands_to_the_left_or_above():
    dark, bright = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    hand = Handwriting([bright if digit == 3 else dark for digit in range(10)])
    facts = torch.tensor([[3, 7, 0], [7, 3, 0], [3, 7, 1], [7, 3, 1]]).repeat(20, 1)
    ink = (hand.draw(facts, torch.Generator().manual_seed(0))[:, 0] + 1) / 2
    places = torch.linspace(-1, 1, 32)
    across = (ink.sum(dim=1) * places).sum(dim=1) / ink.sum(dim=(1, 2))
    down = (ink.sum(dim=2) * places).sum(dim=1) / ink.sum(dim=(1, 2))
    along = torch.where(facts[:, 2] == 0, across, down)
    torch.testing.assert_close(along, torch.where(facts[:, 0] == 3, -0.5, 0.5), atol=0.1, rtol=0)
    assert torch.where(facts[:, 2] == 0, down, across).abs().max() < 0.3
    assert ink.flatten(1).std(dim=0).max() > 0.1  # no two alike


def test_every_scene_has_words_of_its_own():
    assert len(set(captions(ALL))) == len(ALL) == 200


def test_no_training_sees_the_hands_that_are_held_out():
    seen, new = (
        {digit.numpy().tobytes() for digits in Handwriting.open(held_out=held_out).digits for digit in digits}
        for held_out in (False, True)
    )
    assert len(new) == pytest.approx(len(seen) / 4, rel=0.01)
    assert not seen & new
