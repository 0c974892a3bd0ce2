import pytest
import torch

import tiny
from vqgan import dream
from vqgan.conditioning import ClassLabelConfig, SeveralConfig, TokenizedImageConfig
from vqgan.errors import ConfigError
from vqgan.prior import PriorConfig
from vqgan.synthesizer import SynthesizerConfig
from vqgan.types import DrawnTokens

NAMES = ("NOOP", "LEFT", "RIGHT")
K = tiny.CODES


@pytest.fixture(scope="module")
def model():
    conditioner = SeveralConfig(
        conditioners=(
            TokenizedImageConfig(codebook_size=K, image="previous_1"),
            TokenizedImageConfig(codebook_size=K, image="previous_2"),
            ClassLabelConfig(class_names=NAMES, label="action"),
        )
    )
    prior = PriorConfig(
        codebook_size=K, condition_size=2 * K + 3 + 3, context_length=12, depth=1, width=16, num_heads=2
    )
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(), conditioner=conditioner, prior=prior, window=(2, 2)
    )
    return tiny.random_synthesizer(config)


def pictures(count, seed=0):
    return tiny.images(count, seed=seed).double()


def codes(model, seen, **how):
    """The frame after ``seen`` (codes), and its codes."""
    grids = []
    condition = {"previous_1": seen[-1], "previous_2": seen[-2], "action": how.pop("action")}

    def keep(progress):
        if isinstance(progress, DrawnTokens):
            grids.append(progress.indices.clone())

    image = model.sample(len(seen[-1]), condition=condition, on_progress=keep, **how)
    return image, grids[-1]


@pytest.mark.parametrize("count", [1, 3])
def test_two_steps_are_two_samples_by_hand(model, count):
    """With the drawn codes as the previous frame of the second."""
    starts = [pictures(count), pictures(count, 1)]
    seen = [model.tokenizer.encode(each) for each in starts]
    how = {"temperature": 0.7, "guidance": (0.5, 2.0)}
    expected = []
    for step, action in enumerate(("LEFT", 2)):
        image, drawn = codes(model, seen, action=action, seed=5 + step * count, **how)
        expected.append(image)
        seen.append(drawn)
    found = list(dream(model, starts, ["LEFT", 2], seed=5, **how))
    assert len(found) == 2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    # Decoded and encoded again, the drawn codes would be others.
    assert not torch.equal(model.tokenizer.encode(expected[0]), seen[2])


def test_older_frames_play_no_part_and_the_first_stands_for_missing_ones(model):
    starts, how = [pictures(8), pictures(8, 1)], {"temperature": 3.0}
    (expected,) = dream(model, starts, [1], **how)
    (found,) = dream(model, [pictures(8, 2), *starts], [1], **how)
    assert torch.equal(found, expected)
    (alone,), (twice,) = (dream(model, starts[1:] * times, [1], **how) for times in (1, 2))
    assert torch.equal(alone, twice)
    assert not torch.equal(alone, expected)


def test_each_game_has_its_own_action(model):
    together = next(dream(model, [pictures(3)], [["NOOP", "RIGHT", 1]], temperature=0.0))
    for number, action in enumerate(("NOOP", "RIGHT", "LEFT")):
        alone = next(dream(model, [pictures(3)[number : number + 1]], [action], temperature=0.0))
        torch.testing.assert_close(together[number : number + 1], alone)


@pytest.mark.parametrize(
    ("starts", "actions", "message"),
    [
        ([], [1], "there are no frames to start from"),
        ([torch.zeros(1, 1, 4, 8).double()], [1], "1x2|1 x 2"),
        ([torch.zeros(1, 1, 8, 9).double()], [1], "images of 8x9 pixels do not fit"),
        (
            [pictures(1), pictures(2)],
            [1],
            r"the frames to start from have the shapes \(1, 1, 8, 8\) and \(2,",
        ),
        ([pictures(1)], ["JUMP"], "unknown action `JUMP`"),
        ([pictures(1)], [3], "action 3 does not exist\nhint: give a number from 0 to 2, or a name"),
    ],
)
def test_what_does_not_fit_is_refused(model, starts, actions, message):
    with pytest.raises(ConfigError, match=message):
        list(dream(model, starts, actions))


def test_a_prior_without_previous_frames_is_refused():
    with pytest.raises(
        ConfigError, match="steered by `class`, expected previous frames and an action\nhint: train"
    ):
        dream(tiny.synthesizer().eval(), [tiny.images(1)], [1])
