"""The demo of conditions: class, edges, colours, a small copy, boxes, kept pixels and actions steer what is drawn.

The images are frames of four games whose scenes stand still, so that what moves can be told from the scene. All that is
asked for comes from held-out frames; every number stands beside that of samples without a condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vqgan.data.atari import AtariConfig, AtariSource, open_atari
from vqgan.demo.conditions_report import write_conditions_report
from vqgan.demo.measures import Frames, median_frame, moving_boxes
from vqgan.demo.phases import Demo
from vqgan.demo.trials import Asked, Walks, dreams, run_trials
from vqgan.layout import Box
from vqgan.output_files import write_json

GAMES = "Freeway", "Boxing", "Tennis", "Kangaroo"

MOST_BOXES = 10
"""Of a frame; smaller things are left out."""

STAGES: dict[str, tuple[str, Sequence[str]]] = {
    "tokenizer": ("games-tokenizer", ()),
    "classifier": ("demo-classifier", ("training.steps=150",)),
    "edges": ("games-prior", ()),
    "colours": (
        "games-prior",
        ("conditioner.conditioners=[{kind: low_resolution, factor: 4}, {kind: palette, num_colours: 16}]",),
    ),
    "boxes": (
        "games-prior",
        (
            "conditioner={kind: class_label}",
            "prior.span=null",
            "prior.positions=learned",
            "task.condition_dropout=0.4",
            "task.optimizer.learning_rate=3e-3",
            "training.steps=600",
        ),
    ),
    "dream": (
        "games-prior",
        (
            "conditioner.conditioners=[{kind: tokenized_image, image: previous_1}, "
            "{kind: tokenized_image, image: previous_2}, {kind: class_label, label: action}]",
            "task.condition_dropout=0.1",
            "training.steps=400",
        ),
    ),
}
"""What is trained: the preset and its changes. Boxes are no cells, so their prior sees everything before a token."""

FEW = ("training.evaluate_every=500", "training.pictures=0")
"""What else changes in each stage: the report has pictures of its own."""

SMALL = (
    *("training.steps=10", "training.pictures=0", "training.evaluate_images=8"),
    "data.image_size=[32, 80]",
)
SMALLER = {"games-tokenizer": ["tokenizer.autoencoder.base_channels=32"], "games-prior": ["prior.depth=1"]}
"""What makes each stage small, and what else those of a preset."""

PER_GAME = 32
"""Held-out frames of each game that are asked for."""

WALKS, STEPS = 8, 15
"""Parts of held-out walks of each game that are dreamed on, and for how many frames."""


def run_conditions_demo(demo: Demo) -> dict[str, Any]:
    """Trains a tokenizer, a classifier and several priors on frames of four games, and measures what conditions do.

    Returns:
        The numbers of ``report.json``.

    Raises:
        ConfigError: If ale-py is not installed, or the folder holds another demo.
        Preempted: After a signal; everything is saved.
    """
    demo.begin(conditions=True)
    config, walks = config_of(quick=demo.quick), config_of(quick=demo.quick, max_frames=2_400)
    layouts = demo.folder / "boxes.json"
    with demo.phase("collection"):
        scenes = Scenes.of(open_atari(config, demo.on_progress))
        write_json(layouts, scenes.coco())
        walked = open_atari(walks, demo.on_progress, consecutive=True)
    for stage, (preset, changes) in STAGES.items():
        demo.train(
            stage,
            preset,
            (*changes, *FEW),
            small=(*SMALL, *SMALLER.get(preset, ())),
            data=walks if stage == "dream" else config,
            conditions={"layout": layouts} if stage == "boxes" else None,
        )
    with demo.phase("measurement"):
        numbers = run_trials(demo, scenes.asked(2 if demo.quick else PER_GAME))
        numbers["dream"] = dreams(demo, walks_of(walked, 1 if demo.quick else WALKS))
    numbers["frames"] = int((~scenes.held_out).sum())
    return demo.finish(numbers, write_conditions_report)


def config_of(*, quick: bool, max_frames: int = 1_500) -> AtariConfig:
    """The source of the demo's frames; quickly, few frames without what is above and below."""
    if quick:
        return AtariConfig(games=GAMES, frames=1_000, max_frames=60, rows=(43, 75))
    return AtariConfig(games=GAMES, frames=60_000, max_frames=max_frames)


@dataclass(frozen=True)
class Scenes:
    """All frames, the game of each, the empty scene of each game, and boxes around what moves in front of it."""

    frames: Frames
    games: Int[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    empty: UInt8[np.ndarray, "games H W c"]
    boxes: list[list[Box]]

    @classmethod
    def of(cls, source: AtariSource) -> "Scenes":
        """Those of a source; a game's empty scene is the median of its training frames."""
        games, held_out = _parts(source)
        numbers = range(len(source.class_names))
        empty = np.stack([median_frame(source.images[(games == game) & ~held_out]) for game in numbers])
        boxes = moving_boxes(source.images, empty[games], MOST_BOXES)
        return cls(source.images, games, held_out, empty, boxes)

    def coco(self) -> dict[str, Any]:
        """The boxes as COCO writes them: the class of each is its game, an image's name its number in the source."""
        height, width = self.frames.shape[1:3]
        scale = width, height, width, height
        return {
            "images": [
                {"id": number, "file_name": str(number), "height": height, "width": width}
                for number in range(len(self.frames))
            ],
            "annotations": [
                {
                    "image_id": number,
                    "category_id": int(self.games[number]),
                    "bbox": [side * pixels for side, pixels in zip(box, scale, strict=True)],
                }
                for number, boxes in enumerate(self.boxes)
                for box in boxes
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(GAMES)],
        }

    def asked(self, per_game: int) -> Asked:
        """Equally many held-out frames of each game, over all that the player kept."""
        chosen: list[int] = []
        for game in range(len(GAMES)):
            members = np.flatnonzero(self.held_out & (self.games == game))
            chosen += members[np.linspace(0, len(members) - 1, per_game).astype(int)].tolist()
        return Asked(
            frames=self.frames[chosen],
            games=self.games[chosen],
            empty=self.empty[self.games[chosen]],
            boxes=[self.boxes[number] for number in chosen],
        )


def _parts(source: AtariSource) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The game of each frame, and whether it is held out."""
    assert source.classes is not None, "games are classes"
    assert source.held_out is not None, "of the whole source it is known"
    return source.classes, source.held_out


def walks_of(source: AtariSource, per_game: int) -> Walks:
    """The first frames of the first held-out walks of each game that are long enough."""
    (games, held_out), steps, images = _parts(source), source.steps, source.images
    assert steps is not None, "the frames follow each other"
    first = np.flatnonzero(held_out & (np.diff(steps.episodes, prepend=-1) != 0))
    long = first[np.bincount(steps.episodes)[steps.episodes[first]] >= 2 + STEPS]
    begun = np.concatenate([long[games[long] == game][:per_game] for game in range(len(source.class_names))])
    after = begun + 2 + np.arange(STEPS)[:, None]
    return Walks((images[begun], images[begun + 1]), steps.actions[after], images[after])
