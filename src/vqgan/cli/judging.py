"""The judge of ``vqgan sample``: it scores each image as it is drawn; in the end only the best of each class stay."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vqgan.checkpoints.load import load_with_header
from vqgan.classifier import Classifier
from vqgan.cli import commands
from vqgan.conditioning import ClassLabel
from vqgan.errors import CheckpointError, closest, require
from vqgan.sampling.judge import best_of
from vqgan.synthesizer import Synthesizer
from vqgan.types import ACTION, Condition, Images

logger = logging.getLogger(__name__)


@dataclass
class Judging:
    """Scores images in the order in which they are drawn.

    Attributes:
        judge: What recognises the classes.
        share: The share of each class that is kept.
        classes: The class that each image shall show, as the judge counts them; None where none is asked for.
        info: What each image's file says; its score is added.
        scores: Those of the images so far.
    """

    judge: Classifier
    share: float
    classes: Sequence[int | None]
    info: Sequence[dict[str, str]]
    scores: list[float] = field(default_factory=list)

    def score(self, images: Images) -> None:
        """Scores the next images: the probability of the class that is asked for, or else the highest of any."""
        start = len(self.scores)
        classes = [each for each in self.classes[start : start + len(images)] if each is not None]
        self.scores += self.judge.scores(images, classes or None).tolist()
        for info, score in zip(self.info[start:], self.scores[start:], strict=False):
            info["score"] = f"{score:.4f}"

    def keep(self, paths: Sequence[Path]) -> list[Path]:
        """Removes the files of all but the best; those that stay, class after class, the best first."""
        scores, kept = torch.tensor(self.scores), []
        for asked in dict.fromkeys(self.classes):
            own = torch.tensor([number for number, each in enumerate(self.classes) if each == asked])
            kept += own[best_of(scores[own], self.share)].tolist()
        for number in set(range(len(paths))) - set(kept):
            paths[number].unlink()
        what = "%d of %d images are kept: their mean score is %.3f, that of all %.3f"
        logger.info(what, len(kept), len(paths), scores[kept].mean(), scores.mean())
        return [paths[number] for number in kept]


def judging_of(
    flags: commands.Sample, model: Synthesizer, wanted: Sequence[Condition], info: Sequence[dict[str, str]]
) -> Judging | None:
    """The judge of ``--judge``, if one is asked for.

    Raises:
        CheckpointError: If the file holds no classifier.
        ConfigError: If it knows other channels or not the class.
    """
    if flags.judge is None:
        return None
    judge, header = load_with_header(Path(flags.judge), device=flags.device)
    if not isinstance(judge, Classifier):
        hint = "train one: `vqgan train classifier PRESET --data ... --out RUN`"
        raise CheckpointError(f"`{flags.judge}` holds a {header.kind}, expected a classifier", hint=hint)
    ours, channels = judge.image_channels, model.tokenizer.image_channels
    what = f"the judge takes images of {ours} channels, the prior draws {channels}"
    hint = "train a classifier on such images: `--set encoder.image_channels=...`"
    require(ours == channels, what, hint=hint)
    for each in info:
        each.update(judge=header.digest[:12], keep_best=f"{flags.keep_best:g}")
    return Judging(judge, flags.keep_best, [_class_of(each, model, judge) for each in wanted], info)


def _class_of(condition: Condition, model: Synthesizer, judge: Classifier) -> int | None:
    """The number that the judge has for a class of the prior: that of its name, or the same where it has none.

    An action is no class: it says what was done, not what the image shows.
    """
    known = judge.config.class_names
    for part in model.conditioner.parts:
        if isinstance(part, ClassLabel) and part.name != ACTION and part.name in condition:
            number, own = int(part.tokens(condition, 1, (1, 1))), part.config.class_names
            name = own[number] if own else known[number] if number < len(known) else str(number)
            require(name in known, f"the judge does not know the class `{name}`", hint=closest(name, known))
            return known.index(name)
    return None
