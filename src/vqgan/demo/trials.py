"""What is asked of each prior of the demo of conditions, and whether its samples show it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from vqgan.checkpoints.load import load
from vqgan.classifier import Classifier
from vqgan.conditioning import Palette
from vqgan.demo.measures import Frames, moving_boxes, moving_errors
from vqgan.demo.phases import Demo
from vqgan.dreaming import dream
from vqgan.evaluation.agreement import boxes_found, picture_psnr
from vqgan.evaluation.numbers import PerPicture, mean_interval
from vqgan.images import to_float, to_uint8
from vqgan.inpainting import inpaint
from vqgan.layout import Box, Layout, SceneObject
from vqgan.quality.readers import Reader, reader_of
from vqgan.synthesizer import Synthesizer
from vqgan.types import Condition, Images, Progress

TOP_P, GUIDANCE, SCALES = 0.95, 1.0, (0.0, 1.0, 3.0)
"""Samples leave out the least probable codes; the guidance of single conditions; the scales that are compared."""

COLUMNS = 8
"""Of a picture of the page: frames of all games."""

SHOWN_STEPS = 1, 2, 3, 4, 5, 8, 11, 15
"""Which of the dreamed frames the page shows: a column each."""

Agreement = Callable[[Images], PerPicture]
"""How well each picture shows what was asked of it."""


@dataclass(frozen=True)
class Asked:
    """Held-out frames from which everything is asked.

    Attributes:
        frames: The frames.
        games: The game of each.
        empty: The empty scene of each one's game.
        boxes: What moves in each.
    """

    frames: Frames
    games: Int[np.ndarray, " n"]
    empty: Frames
    boxes: list[list[Box]]

    @cached_property
    def images(self) -> Images:
        """The frames as models take them."""
        return to_float(self.frames)

    @property
    def shown(self) -> list[int]:
        """Which of them the page shows: equally many of each game."""
        return np.linspace(0, len(self.frames) - 1, COLUMNS).astype(int).tolist()

    def layouts(self) -> list[Layout]:
        """The boxes, as a prior is asked for them."""
        return [
            Layout(objects=tuple(SceneObject(class_number=int(game), box=box) for box in boxes))
            for game, boxes in zip(self.games, self.boxes, strict=True)
        ]


@dataclass(frozen=True)
class Trial:
    """One question to one prior.

    Attributes:
        stage: The run of the prior.
        condition: What is asked.
        agreement: Whether pictures show it.
        picture: What is asked, as pictures (b c H W).
    """

    stage: str
    condition: Condition
    agreement: Agreement
    picture: Images


def run_trials(demo: Demo, asked: Asked) -> dict[str, Any]:
    """All numbers of the demo and its pictures; samples and samples without a condition come from the same noise."""
    models = {stage: demo.prior(stage) for stage in ("edges", "colours", "boxes")}
    judge = load(demo.folder / "classifier", device="cpu")
    assert isinstance(judge, Classifier), "a classifier's run holds one"
    rebuilt = models["edges"].reconstruct(asked.images).clamp(-1, 1)
    trials = trials_of(asked, models, partial(_recognised, judge, asked.games))
    numbers: dict[str, Any] = {"count": len(asked.frames), "agreement": {}, "nats": {}}
    free: dict[str, Images] = {}
    for number, (name, trial) in enumerate(trials.items()):
        demo.on_progress(Progress("asking", number + 1, len(trials)))
        model = models[trial.stage]
        draw = partial(_drawn, demo, model, asked)
        if trial.stage not in free:
            free[trial.stage] = draw(None)
        shown = {"sample": draw(trial.condition, GUIDANCE), "free": free[trial.stage], "rebuilt": rebuilt}
        agreement = {what: mean_interval(trial.agreement(pictures)) for what, pictures in shown.items()}
        numbers["agreement"][name] = agreement
        numbers["nats"][name] = _nats(model, asked.images, trial.condition)
        _save(demo, name, asked, asked.images, trial.picture, shown["sample"], shown["free"])
    for stage, model in models.items():
        numbers["nats"][f"nothing ({stage})"] = _nats(model, asked.images, None)
    numbers["guidance"] = _guidance(demo, models["edges"], asked, trials)
    numbers["completion"] = _completions(demo, models["edges"], asked, (rebuilt, free["edges"]))
    return numbers


def _drawn(
    demo: Demo, model: Synthesizer, asked: Asked, condition: Condition | None, guidance: float = 0.0
) -> Images:
    size = asked.frames.shape[1:3]
    drawn = model.sample(len(asked.frames), size, condition, seed=demo.seed, top_p=TOP_P, guidance=guidance)
    return drawn.clamp(-1, 1)


def trials_of(asked: Asked, models: Mapping[str, Synthesizer], recognised: Agreement) -> dict[str, Trial]:
    """The questions: each condition by itself."""
    images, size = asked.images, asked.frames.shape[1:3]
    parts = {part.name: part for stage in ("edges", "colours") for part in models[stage].conditioner.parts}
    palette, cells = parts["palette"], models["colours"].config.window
    assert isinstance(palette, Palette), "it is called so"
    seen, agreements = dict[str, Tensor](), dict[str, Agreement]()
    for name in ("edges", "low_resolution", "palette"):
        reader = reader_of(parts[name], models["colours"].tokenizer.downsample_factor)
        assert reader is not None, "these are computed from images"
        seen[name] = reader.ask(images)
        agreements[name] = _agreement(reader, seen[name])

    def boxes(pictures: Images) -> list[list[Box]]:
        return moving_boxes(to_uint8(pictures).numpy(), asked.empty, len(max(asked.boxes, key=len)))

    colours = torch.tensor(palette.config.colours)[seen["palette"]].movedim(1, 2).unflatten(2, cells)
    return {
        "class": Trial("boxes", {"class": asked.games.tolist()}, recognised, to_float(asked.empty)),
        "edges": Trial(
            "edges",
            {"edges": images},
            agreements["edges"],
            seen["edges"][:, None].expand(-1, 3, -1, -1) * 2.0 - 1,
        ),
        "low_resolution": Trial(
            "colours",
            {"low_resolution": images},
            agreements["low_resolution"],
            F.interpolate(seen["low_resolution"], size),
        ),
        "palette": Trial(
            "colours",
            {"palette": images},
            agreements["palette"],
            F.interpolate(colours / 127.5 - 1, size),
        ),
        "layout": Trial(
            "boxes",
            {"layout": asked.layouts()},
            lambda found: boxes_found(asked.boxes, boxes(found)),
            _drawn_boxes(asked),
        ),
    }


def _agreement(reader: Reader, asked: Tensor) -> Agreement:
    return lambda images: reader.agree(asked, reader.find(images))


def _recognised(judge: Classifier, games: Int[np.ndarray, " n"], images: Images) -> PerPicture:
    with torch.no_grad():
        return (judge(images).argmax(dim=1).cpu().numpy() == games).astype(float)


def _nats(model: Synthesizer, images: Images, condition: Condition | None) -> float:
    """The held-out loss per token with this condition; what else could steer is hidden."""
    with torch.no_grad():
        return -float(model.log_probability(images, condition).double().mean())


def _guidance(demo: Demo, model: Synthesizer, asked: Asked, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Class and edges together, followed more and more closely."""
    names = "class", "edges"
    both = {name: value for each in names for name, value in trials[each].condition.items()}
    drawn = {f"{scale:g}": _drawn(demo, model, asked, both, scale) for scale in SCALES}
    _save(demo, "guidance", asked, trials["edges"].picture, *drawn.values())
    return {
        scale: {name: mean_interval(trials[name].agreement(pictures)) for name in names}
        for scale, pictures in drawn.items()
    }


def _completions(
    demo: Demo, model: Synthesizer, asked: Asked, others: tuple[Images, Images]
) -> dict[str, Any]:
    """Three masks: how near to the truth the hole is, beside reconstructions, free samples and the empty scene."""
    numbers: dict[str, Any] = {}
    for name, kept in masks(*asked.frames.shape[1:3]):
        masked = kept.expand(len(asked.frames), -1, -1)
        drawn = inpaint(model, asked.images, masked, seed=demo.seed, top_p=TOP_P).clamp(-1, 1)
        pictures = {"sample": drawn, "rebuilt": others[0], "free": others[1], "empty": to_float(asked.empty)}
        numbers[name] = {
            what: mean_interval(picture_psnr(asked.images, each, ~masked)) for what, each in pictures.items()
        }
        given = torch.where(masked[:, None], asked.images, torch.zeros(()))
        _save(demo, f"completion-{name}", asked, asked.images, given, drawn)
    return numbers


def masks(height: int, width: int) -> Iterator[tuple[str, Bool[Tensor, "1 H W"]]]:
    """The name of each mask, and the pixels that it keeps."""
    for name, rows, columns in (
        ("lower", slice(height // 2, None), slice(None)),
        ("right", slice(None), slice(width // 2, None)),
        ("middle", slice(height // 4, -height // 4), slice(width // 4, -width // 4)),
    ):
        kept = torch.ones(1, height, width, dtype=torch.bool)
        kept[:, rows, columns] = False
        yield name, kept


def _drawn_boxes(asked: Asked) -> Images:
    """The boxes as white frames on grey."""
    pictures = torch.full_like(asked.images, -0.5)
    height, width = pictures.shape[2:]
    for picture, boxes in zip(pictures, asked.boxes, strict=True):
        for left, top, across, down in boxes:
            rows = slice(round(top * height), max(round((top + down) * height), round(top * height) + 1))
            columns = slice(round(left * width), max(round((left + across) * width), round(left * width) + 1))
            picture[:, rows, columns] = 1.0
            picture[:, rows.start + 1 : rows.stop - 1, columns.start + 1 : columns.stop - 1] = 0.0
    return pictures


@dataclass(frozen=True)
class Walks:
    """Parts of held-out walks: two frames, and the actions and true frames after them, at equally many steps of each.

    Attributes:
        starts: The two frames, the earlier first.
        actions: By number, of each step and walk.
        truth: The true frames of each step and walk.
    """

    starts: tuple[Frames, Frames]
    actions: Int[np.ndarray, "t n"]
    truth: UInt8[np.ndarray, "t n H W c"]


def dreams(demo: Demo, walks: Walks) -> dict[str, Any]:
    """What the prior of the run ``dream`` makes of the actions, and its error where something moves.

    For each step the mean squared errors of: the dream, the last frame that was given, its reconstruction, which is
    blurred as a dream is, and the reconstruction of the true frame; and how much less the dream's is than each copy's.
    """
    model, last = demo.prior("dream"), walks.starts[1]

    def pixels(images: Images) -> Frames:
        return to_uint8(images.clamp(-1, 1)).numpy()

    def rebuilt(frames: Frames) -> Frames:
        return pixels(model.reconstruct(to_float(frames)))

    starts = [to_float(frames) for frames in walks.starts]
    dreamed = dream(model, starts, walks.actions.tolist(), seed=demo.seed, top_p=TOP_P)
    drawn = np.stack([*map(pixels, dreamed)])
    shown = {
        "dreamed": drawn,
        "copied": last,
        "rebuilt_copy": rebuilt(last),
        "rebuilt_truth": np.stack([*map(rebuilt, walks.truth)]),
    }
    errors = {name: moving_errors(last, walks.truth, each) for name, each in shown.items()}
    steps = []
    for step, copied in enumerate(errors["copied"]):
        of = {name: each[step][~np.isnan(copied)] for name, each in errors.items()}
        gains = {
            f"over_{name}": mean_interval(of[name] - of["dreamed"]) for name in ("copied", "rebuilt_copy")
        }
        steps.append({**{name: float(each.mean()) for name, each in of.items()}, **gains})
    chosen, columns = np.linspace(0, len(last) - 1, 4).astype(int), [step - 1 for step in SHOWN_STEPS]
    rows = [to_float(frames[columns, walk]) for walk in chosen for frames in (walks.truth, drawn)]
    demo.save("dream", torch.cat(rows), columns=len(columns), scale=2)
    return {"count": len(last), "steps": steps}


def _save(demo: Demo, name: str, asked: Asked, *rows: Images) -> None:
    """Rows of pictures, of each those that the page shows."""
    demo.save(name, torch.cat([row[asked.shown].float().cpu() for row in rows]), columns=COLUMNS, scale=2)
