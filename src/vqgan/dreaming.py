"""Playing a game inside a prior: each frame is drawn from those before it and an action."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from vqgan.conditioning import ClassLabel
from vqgan.errors import require
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import encode_within, memory_budget
from vqgan.types import (
    ACTION,
    Condition,
    DrawnTokens,
    Images,
    Indices,
    OnProgress,
    Progress,
    previous,
    previous_in,
)


def dream(
    model: Synthesizer,
    starts: Sequence[Images],
    actions: Sequence[Any],
    condition: Condition | None = None,
    *,
    seed: int = 0,
    memory: int | None = None,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> Iterator[Images]:
    """Plays on from given frames, one frame for each action.

    What was drawn goes back in as its codes: they are neither decoded nor encoded on the way.

    Args:
        model: A prior that is steered by ``previous_1``, ... and ``action``.
        starts: The frames before, in the order of time, at least one: of each a batch (b c H W), one image for each
            game, with values in [-1, 1]. If there are fewer than the prior reads, the first stands for those missing.
        actions: What is done before each new frame: a number or a name for all games, or a list of one for each.
        condition: What else steers the prior, as in :meth:`Synthesizer.sample`.
        seed: Frame ``t`` of game ``i`` is drawn with the noise of the seed ``seed + t * b + i``.
        memory: As in :meth:`Synthesizer.sample`.
        on_progress: As in :meth:`Synthesizer.sample`.
        settings: Others of :meth:`Synthesizer.sample`: ``temperature``, ``top_k``, ``guidance`` and so on.

    Yields:
        The next frames (b c H W).

    Raises:
        ConfigError: If the prior knows no previous frames or no actions, there is no start, sizes differ, or an action
            does not exist.
    """
    last = frames_read(model)[-1]
    require(len(starts) > 0, "there are no frames to start from", hint="give at least one")
    starts = starts[-last:]
    for frames in starts:
        model.tokenizer.check(frames)
    sizes = {tuple(frames.shape) for frames in starts}
    require(
        len(sizes) == 1,
        f"the frames to start from have the shapes {' and '.join(map(str, sorted(sizes)))}, expected the same",
        hint="give frames of one game in one size",
    )
    model.usable_window(model.tokenizer.grid_size((starts[0].shape[2], starts[0].shape[3])))
    return _dreamed(
        model, starts, actions, condition or {}, seed, on_progress, {"memory": memory, **settings}
    )


def frames_read(model: Synthesizer) -> Sequence[int]:
    """Which frames before the next one a prior reads: 1 is the last.

    Raises:
        ConfigError: If it knows no previous frames or no actions.
    """
    parts = {part.name: part for part in model.conditioner.parts}
    numbers = previous_in(parts)
    require(
        bool(numbers) and isinstance(parts.get(ACTION), ClassLabel),
        f"this prior is steered by `{model.conditioner.name}`, expected previous frames and an action",
        hint="train one whose conditions are `previous_1`, ... and `action`",
    )
    return numbers


def _dreamed(
    model: Synthesizer,
    starts: Sequence[Images],
    actions: Sequence[Any],
    condition: Condition,
    seed: int,
    on_progress: OnProgress | None,
    how: dict[str, Any],
) -> Iterator[Images]:
    reads, device = frames_read(model), model.prior.head.weight.device
    count, _, height, width = starts[0].shape
    with torch.no_grad():
        budget = memory_budget(how["memory"], device)
        codes = [encode_within(model.tokenizer, frames.to(device), budget) for frames in starts]
    for step, action in enumerate(actions):
        before = {previous(back): codes[max(0, len(codes) - back)] for back in reads}
        drawn: dict[int, Indices] = {}
        how |= {"seed": seed + step * count, "on_progress": partial(_keep, drawn, on_progress)}
        yield model.sample(count, (height, width), {**condition, **before, ACTION: action}, **how)
        codes = [*codes, torch.cat([drawn[first] for first in sorted(drawn)])][-reads[-1] :]


def _keep(drawn: dict[int, Indices], on_progress: OnProgress | None, progress: Progress) -> None:
    """Keeps the codes that a report brings: after the last one they are those of all images."""
    if isinstance(progress, DrawnTokens):
        drawn[progress.images.start] = progress.indices
    if on_progress is not None:
        on_progress(progress)
