"""What in a run's numbers shows that it goes wrong, said in words while there is time to act.

Each sign is a function of the rows of ``metrics.jsonl``: no step costs more by it, and a resumed run says what the
uninterrupted one would have said. A row has the numbers of a single step, which scatter, so a sign has to last. The
bars are far from what healthy runs show: a false alarm is worse than silence.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.training.codebook import USAGE_STEPS
from vqgan.training.metrics_log import JsonLines
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.task import LoopConfig

logger = logging.getLogger(__name__)

PAGE = "docs/guides/troubleshooting.md"
"""Where every sign has a section."""

LASTING_ROWS, LASTING_SHARE = 20, 0.01
"""A sign has to last for so many rows, and this share of the run: what a discriminator that has just joined does, or
a codebook before unused codes are replaced for the first time, is over by then."""

FALLEN_USAGE, FEW_CODES, BEGINNING = 0.25, 0.05, 0.1
"""Of the highest codebook usage, which falls by at most two thirds in a healthy start; of all codes, if there never
were more when this share of the run is over."""

WON = 0.95
"""Share of logits on the right side that a discriminator has won with; at 0.75 it holds its own."""

VANISHED = 1000.0
"""The adaptive weight of a discriminator whose gradient has vanished; healthy ones are between 0.01 and 100."""

ADDED_DETAIL, IMAGES_DETAIL = 1.3, 1.1
"""Detail of reconstructions, as a share of the images', that is noise, where it was not above the second before."""

FALLEN_PSNR = 3.0
"""Decibels: twice the squared error."""

RISEN_LOSS = 0.02
"""Share of the best held-out loss, and nats, by which it has risen; evaluations on the same images scatter less."""

EXPLODED, EXPLODED_ROWS, USUAL_ROWS = 100.0, 5, 1000
"""Gradients this many times their median over the last rows, for a few of them, are no scatter."""

RISEN = 2.0
"""A loss this many times that of the first row, which had learned nothing yet."""

FLAT, REACH = 0.99, 0.01
"""A loss is flat at this share of the first one. Adam moves a weight by about the learning rate in a step; only where
the sum over the steps is this small, against weights of about 0.03, is the learning rate the reason."""

WAITING = 0.5
"""Share of the time that is spent waiting for images: training could be twice as fast."""

TRIAL_STEPS = 100
"""A run of fewer steps only tries whether things work."""


class History:
    """The numbers of a run by name, up to the newest row.

    Args:
        loop: Length of the run, and how often it logs.
        optimizer: Its settings.
        rows: Those so far.

    Attributes:
        step: Of the newest row.
        lines: For each number its steps and values; without those that were not finite.
    """

    def __init__(
        self, loop: LoopConfig, optimizer: OptimizerConfig, *, rows: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.loop, self.optimizer, self.step = loop, optimizer, 0
        self.lines: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds the next row."""
        self.step = row["step"]
        for name, value in row.items():
            if isinstance(value, float) and math.isfinite(value):
                self.lines.setdefault(name, []).append((self.step, value))

    def line(self, name: str, count: int = 1) -> Sequence[tuple[int, float]]:
        """Steps and values of a number; none if the newest row has it not, or there are fewer than ``count``."""
        line = self.lines.get(name, [])
        return line if len(line) >= count and line[-1][0] == self.step else []

    def last(self, name: str, count: int) -> list[float]:
        """The newest ``count`` values of a number; none if :meth:`line` has none."""
        return [value for _, value in self.line(name, count)[-count:]]

    @property
    def lasting(self) -> int:
        """Rows for which a sign has to last."""
        return max(LASTING_ROWS, math.ceil(LASTING_SHARE * self.loop.steps / self.loop.log_every))

    @property
    def loss(self) -> str:
        """Name of the loss without the discriminator's part."""
        names = ("reconstruction_loss", "likelihood_loss")
        return next((name for name in names if name in self.lines), "loss")


def _usage_fell(history: History) -> str | None:
    recent = history.last("usage", history.lasting)
    if not recent or max(recent) >= FALLEN_USAGE:  # the peak is at most 1, and a long line need not be read
        return None
    line = history.line("usage")
    peak = max(usage for _, usage in line)
    if max(recent) >= FALLEN_USAGE * peak:
        return None
    since = max(step for step, usage in line if usage >= 0.9 * peak)
    return f"codebook usage fell from {_percent(peak)} to {_percent(line[-1][1])} since step {since:,}"


def _few_codes_are_used(history: History) -> str | None:
    recent = history.last("usage", history.lasting)
    begun = history.step >= max(USAGE_STEPS, BEGINNING * history.loop.steps)
    if not (recent and begun and max(recent) < FEW_CODES):
        return None
    peak = max(usage for _, usage in history.line("usage"))
    if peak >= FEW_CODES:
        return None
    return f"{_percent(recent[-1])} of the codes are in use, and there never were more than {_percent(peak)}"


def _discriminator_wins(history: History) -> str | None:
    count = history.lasting
    names = ("right_real", "right_fake", "adversarial_loss", "adaptive_weight")
    real, fake, losses, weights = (history.last(name, count) for name in names)
    if not (real and losses and min(weights) > 0 and min(fmean(real), fmean(fake)) >= WON):
        return None
    before, now = fmean(losses[: count // 2]), fmean(losses[count // 2 :])
    if now <= before:
        return None
    right = _percent((fmean(real) + fmean(fake)) / 2)
    return (
        f"the discriminator wins: {right} of its logits are on the right side, and the adversarial loss grows "
        f"({before:.3g}, now {now:.3g})"
    )


def _adversary_vanishes(history: History) -> str | None:
    weights = history.last("adaptive_weight", history.lasting)
    if not weights or min(weights) < VANISHED:
        return None
    what = "the discriminator gives no direction: its gradient is so small"
    return f"{what} that the adaptive weight is {weights[-1]:,.0f}"


def _detail_added(history: History) -> str | None:
    joined = next((step for step, weight in history.lines.get("adaptive_weight", ()) if weight > 0), None)
    line = history.line("heldout_detail", 3)
    if not line or joined is None or line[-2][0] <= joined:
        return None
    before = [(step, detail) for step, detail in line[:-2] if detail <= IMAGES_DETAIL]
    if not before or min(detail for _, detail in line[-2:]) <= ADDED_DETAIL:
        return None
    (step, detail), (_, now) = before[-1], line[-1]
    return (
        f"reconstructions got noisier than the images: their finest details have {now:.3g} times the energy "
        f"({detail:.2g} times at step {step:,}); the discriminator joined after step {joined - 1:,}"
    )


def _psnr_fell(history: History) -> str | None:
    line = history.line("heldout_psnr", 3)
    if not line:
        return None
    step, best = max(line, key=lambda point: point[1])
    if max(value for _, value in line[-2:]) > best - FALLEN_PSNR:
        return None
    return f"held-out PSNR fell from {best:.1f} dB at step {step:,}, its best, to {line[-1][1]:.1f} dB"


def _overfits(history: History) -> str | None:
    line = history.line("heldout_loss", 3)
    if not line:
        return None
    step, best = min(line, key=lambda point: point[1])
    if min(value for _, value in line[-2:]) < best + max(RISEN_LOSS * best, RISEN_LOSS):
        return None
    losses = history.lines.get(history.loss, [])
    before, after = ([loss for at, loss in losses if (at > step) == is_after] for is_after in (False, True))
    if not (before and after):
        return None
    old, new = fmean(before[-history.lasting :]), fmean(after[-history.lasting :])
    if new > (1 - RISEN_LOSS) * old:
        return None
    return (
        f"the images are learned by heart: the held-out loss rose from {best:.3g} at step {step:,}, its best, to "
        f"{line[-1][1]:.3g}, while the training loss fell from {old:.3g} to {new:.3g}"
    )


def _gradient_exploded(history: History) -> str | None:
    line = history.line("gradient_norm", history.lasting + EXPLODED_ROWS)
    losses = history.last(history.loss, EXPLODED_ROWS)
    if not (line and losses):
        return None
    norms = [norm for _, norm in line[-USUAL_ROWS:]]
    now, usual = min(norms[-EXPLODED_ROWS:]), median(norms[:-EXPLODED_ROWS])
    lower = median(loss for _, loss in history.lines[history.loss][-USUAL_ROWS:-EXPLODED_ROWS])
    if now < EXPLODED * usual or fmean(losses) <= lower:
        return None
    since = line[-EXPLODED_ROWS][0]
    return (
        f"gradients exploded: their norm is {norms[-1]:.3g} and was {usual:.3g} before step {since:,}; "
        f"the loss rose from {lower:.3g} to {fmean(losses):.3g}"
    )


def _loss_rose(history: History) -> str | None:
    losses = history.last(history.loss, history.lasting)
    if not losses or not 0 < RISEN * (first := history.lines[history.loss][0][1]) < min(losses):
        return None
    return f"the loss is higher than at the start: {first:.4g} then, {fmean(losses):.4g} now"


def _loss_is_flat(history: History) -> str | None:
    count = history.lasting
    line, rates = history.line(history.loss, 2 * count), history.line("learning_rate", 2 * count)
    if not (line and rates):
        return None
    first, now = (fmean(loss for _, loss in part) for part in (line[:count], line[-count:]))
    if now < FLAT * first:
        return None
    starts = [0, *(step for step, _ in rates)]
    reach = sum(rate * (step - start) for (step, rate), start in zip(rates, starts, strict=False))
    if reach > REACH:
        return None
    return (
        f"the loss has not fallen since the start ({first:.4g} then, {now:.4g} now): at these learning rates no weight "
        f"has moved by more than about {reach:.1g}"
    )


def _warmup_is_too_long(history: History) -> str | None:
    warmup, steps = history.optimizer.warmup_steps, history.loop.steps
    if warmup < steps or steps < TRIAL_STEPS:
        return None
    return f"the learning rate rises over {warmup:,} steps, but the run has only {steps:,}"


def _waits_for_data(history: History) -> str | None:
    shares = history.last("data_wait", history.lasting)
    if not shares or fmean(shares) < WAITING:
        return None
    return f"training waits for images in {_percent(fmean(shares))} of its time"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


_RESEED = "replace unused codes: `--set task.reseed_after=100`"
_DIVERGES = "lower `task.optimizer.learning_rate`, or bound its steps with `task.optimizer.clip_norm`"


class Sign(NamedTuple):
    """A sign that something goes wrong.

    Attributes:
        find: What the numbers show, or None if all is well.
        hint: What to do about it.
        section: The heading of its section in :data:`PAGE`, as links name it.
    """

    find: Callable[[History], str | None]
    hint: str
    section: str


SIGNS = {
    "usage_fell": Sign(_usage_fell, _RESEED, "few-codes-are-used"),
    "few_codes_are_used": Sign(_few_codes_are_used, _RESEED, "few-codes-are-used"),
    "discriminator_wins": Sign(
        _discriminator_wins,
        "lower `task.discriminator.learning_rate_share`, or let a penalty (`r1`) hold it back",
        "the-discriminator-wins",
    ),
    "adversary_vanishes": Sign(
        _adversary_vanishes,
        "lower `task.discriminator.r1` and `r2`, or let it learn before it counts (`discriminator_start`)",
        "the-discriminator-gives-no-direction",
    ),
    "detail_added": Sign(
        _detail_added,
        "lower `task.discriminator.weight`, or let it rise slowly (`ramp_steps`)",
        "reconstructions-were-good-until-the-discriminator-joined",
    ),
    "psnr_fell": Sign(
        _psnr_fell, "begin a new run from the best model, which has a file of its own", "held-out-psnr-falls"
    ),
    "overfits": Sign(
        _overfits,
        "stop it: the best model has a file of its own; then train for fewer steps, or with dropout",
        "the-images-are-learned-by-heart",
    ),
    "gradient_exploded": Sign(_gradient_exploded, _DIVERGES, "the-loss-rises"),
    "loss_rose": Sign(_loss_rose, _DIVERGES, "the-loss-rises"),
    "loss_is_flat": Sign(_loss_is_flat, "raise `task.optimizer.learning_rate`", "the-loss-does-not-fall"),
    "warmup_is_too_long": Sign(
        _warmup_is_too_long,
        "lower `task.optimizer.warmup_steps`, or train longer",
        "the-warm-up-is-longer-than-the-run",
    ),
    "waits_for_data": Sign(
        _waits_for_data,
        "raise `--workers`, or store the images in their final size",
        "training-waits-for-images",
    ),
}
"""By the name under which ``warnings.jsonl`` keeps them."""


class Watch:
    """Says each sign once in a run: through the logger, and as a line of ``warnings.jsonl``.

    Args:
        folder: The run's folder.
        history: Its numbers so far.

    Attributes:
        lines: The file.
    """

    def __init__(self, folder: RunFolder, history: History) -> None:
        self.lines, self._history = JsonLines(folder.warnings), history
        self._said = {row["sign"] for row in self.lines.read()}

    def look(self, step: int, row: Mapping[str, float]) -> None:
        """Adds a row, and says what it shows for the first time."""
        self._history.add({**row, "step": step})
        for name, sign in SIGNS.items():
            if name not in self._said and (text := sign.find(self._history)) is not None:
                self._said.add(name)
                hint = f"{sign.hint}; {PAGE}#{sign.section} says more"
                logger.warning("step %s: %s\nhint: %s", f"{step:,}", text, hint)
                self.lines.add({"step": step, "sign": name, "text": text, "hint": hint})
