import pickle

import msgspec
import numpy as np
import pytest
import torch

from vqgan.data import AtariConfig, open_source, parse_source
from vqgan.data.consecutive import Consecutive
from vqgan.data.loader import training_batches
from vqgan.data.source import ArraySource, Steps
from vqgan.data.transforms import TransformConfig
from vqgan.errors import ConfigError, DataError
from vqgan.types import ACTION, previous


def films(lengths=(1, 4, 3), side=12):
    """Noise frames; the action before frame ``i`` is ``i % 3``."""
    count = sum(lengths)
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    steps = Steps(
        np.repeat(np.arange(len(lengths)), lengths), np.arange(count) % 3, ("NOOP", "LEFT", "RIGHT")
    )
    return ArraySource(name="films", images=images, steps=steps)


def test_each_frame_comes_with_those_before_it_and_the_first_of_an_episode_stands_for_missing_ones():
    source = Consecutive(films(), 2)
    assert [source.places(index) for index in range(len(source))] == [
        *([2, 1, 1], [3, 2, 1], [4, 3, 2]),
        *([6, 5, 5], [7, 6, 5]),
    ]
    item, images = source.read(1), films().images
    np.testing.assert_array_equal(item.pixels, images[3])
    assert [np.array_equal(each, images[place]) for each, place in zip(item.previous, (2, 1), strict=True)]
    assert item.condition == {ACTION: 0}
    assert source.names_of == {ACTION: ("NOOP", "LEFT", "RIGHT")}
    assert source.label(1) == "films[3]"
    assert source.size(0) == (12, 12)


def test_an_action_alone_needs_no_earlier_frames():
    item = Consecutive(films(), 0).read(0)
    assert (item.previous, item.condition) == ([], {ACTION: 2})


def test_episodes_are_held_out_as_a_whole():
    whole = films((5,) * 40)
    parts = [whole.part(split) for split in ("train", "heldout")]
    episodes = [set(part.steps.episodes.tolist()) for part in parts]
    assert len(parts[1]) > 0
    assert episodes[0] | episodes[1] == set(range(40))
    assert not episodes[0] & episodes[1]
    assert all(len(Consecutive(part, 2)) == 4 * len(own) for part, own in zip(parts, episodes, strict=True))


def test_data_whose_images_do_not_follow_each_other_is_refused():
    images = ArraySource(name="the array", images=np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(
        DataError, match="the images of `the array` do not follow each other\nhint: give `data=`"
    ):
        Consecutive(images, 1)
    with pytest.raises(DataError, match="no frame of `films` has one before it"):
        Consecutive(films((1, 1)), 1)


def test_the_fingerprint_depends_on_the_order_of_the_frames_and_instances_can_be_pickled():
    source = Consecutive(films(), 2)
    assert pickle.loads(pickle.dumps(source)).fingerprint == source.fingerprint
    others = Consecutive(films((4, 1, 3)), 2), Consecutive(films(), 1)
    assert len({source.fingerprint, *(each.fingerprint for each in others)}) == 3


@pytest.mark.parametrize("context", [0, 4])
def test_earlier_frames_are_cut_and_mirrored_as_the_frame_is(context):
    """All frames of a film are the same here, so all of a sample's must be."""
    source = films((1, 6, 6), side=40)
    source.images[1:7], source.images[7:] = source.images[1], source.images[7]
    transform = TransformConfig(
        image_size=(8, 8), flip=True, resize=(16, 32), image_channels=1, context=context
    )
    batch = next(training_batches(Consecutive(source, 2), transform, batch_size=16, seed=0))
    own = torch.stack(
        [
            image[:, y : y + 8, x : x + 8]
            for image, (y, x) in zip(batch.images, batch.corner.tolist(), strict=True)
        ]
        if context
        else [*batch.images]
    )
    assert batch.condition[ACTION].shape == (16,)
    for number in (1, 2):
        assert torch.equal(batch.condition[previous(number)], own)
    assert len({each.sum().item() for each in own}) > 8


@pytest.fixture
def cache(tmp_path, monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path))


@pytest.mark.parametrize("player", ["explorer", "random"])
def test_frames_of_games_follow_each_other_and_the_actions_lead_from_one_to_the_next(player, cache):
    from vqgan.data.atari_explorer import Walk, _emulator, rerun

    config = AtariConfig(games=("Pong", "MontezumaRevenge"), frames=480, max_frames=45, player=player)
    source = open_source(config, consecutive=True)
    assert source.held_out.sum() > 0
    assert set(source.steps.episodes[source.held_out]).isdisjoint(source.steps.episodes[~source.held_out])
    assert np.diff(source.steps.episodes).min() == 0
    assert np.diff(source.steps.episodes).max() == 1
    assert all(len(source.part(split)) <= 90 for split in ("train", "heldout"))
    emulator = _emulator("pong")  # the first walk of the random player begins with the game
    if player == "random":
        actions = source.steps.actions[source.steps.episodes == 0].tolist()
        again = rerun("pong", [Walk(emulator.cloneState(), 0, actions)], 2).frames[:, 3:99]
        np.testing.assert_array_equal(source.images[: len(actions)], again)
    # They are not mixed up with frames that are as different as possible.
    assert open_source(config).steps is None


def test_too_few_emulator_frames_for_a_walk_are_refused(cache):
    with pytest.raises(ConfigError, match="`frames` is 100, expected at least 160"):
        open_source(AtariConfig(games=("Pong",), frames=100), consecutive=True)


def test_listed_actions_are_played_again_and_again_and_a_share_of_the_walks_is_held_out(cache):
    from vqgan.data.atari_explorer import Walk, rerun

    config = parse_source("atari:Pong,MontezumaRevenge@FIRE, 3,UP")
    assert config.actions == ("FIRE", "3", "UP")
    source = open_source(msgspec.structs.replace(config, actions=("FIRE", 3, "UP"), max_frames=100))
    assert (len(source), source.class_names) == (200, ("Pong", "MontezumaRevenge"))
    assert source.steps.actions.tolist() == 2 * ([1, 3, 2] * 34)[:100]
    assert source.steps.episodes.tolist() == np.repeat(np.arange(6), [40, 40, 20] * 2).tolist()
    again = rerun("pong", [Walk(None, 0, ([1, 3, 2] * 34)[:100])], 2).frames[:, 3:99]
    np.testing.assert_array_equal(source.images[:100], again)
    parts = [source.part(split) for split in ("train", "heldout")]
    assert sum(map(len, parts)) == 200
    assert min(map(len, parts)) >= 20
    assert not set(parts[0].steps.episodes) & set(parts[1].steps.episodes)
    with pytest.raises(ConfigError, match="unknown action `UPP`\nhint: did you mean `UP`"):
        parse_source("atari:Pong@UPP")


def test_after_the_end_of_a_game_the_next_begins_as_another_walk(monkeypatch):
    from vqgan.data import atari_explorer

    class Short:
        """A game that ends after three actions."""

        left = 3

        def game_over(self):
            return self.left == 0

        def reset_game(self):
            self.left = 3

        def act(self, action):
            self.left -= 1

    monkeypatch.setattr(atari_explorer, "_emulator", lambda rom: Short())
    monkeypatch.setattr(atari_explorer, "_picture", lambda emulator, scale: np.full((1, 1, 3), emulator.left))
    walks = [atari_explorer.Walk(None, 0, [0] * 4)] * 2
    played = atari_explorer.rerun("short", walks, 1)
    assert played.frames[:, 0, 0, 0].tolist() == [2, 1, 0, 2, 1, 0, 2, 1]
    assert played.episodes.tolist() == [0, 0, 0, 1, 2, 2, 3, 3]
