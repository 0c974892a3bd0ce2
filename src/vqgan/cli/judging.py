"""The judge of ``vqgan sample``: it scores each image as it is drawn; in the end only the best of each class stay."""

import logging
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean

import torch

from vqgan.checkpoints.load import load_with_header
from vqgan.classifier import Classifier
from vqgan.cli import commands
from vqgan.cli.processes import rank, together
from vqgan.conditioning import ClassLabel
from vqgan.errors import CheckpointError, closest, printable, require
from vqgan.imagine import open_judge
from vqgan.sampling import Beam
from vqgan.sampling.judge import Judge, best_of, now, scores_by
from vqgan.synthesizer import Synthesizer
from vqgan.types import ACTION, Condition, Images

logger = logging.getLogger(__name__)


@dataclass
class Judging:
    """Scores images as they are drawn, and chooses among continuations of them.

    Attributes:
        judges: What scores each image; the images of one judge are compared with each other.
        share: The share of these that is kept.
        info: What each image's file says; its score is added.
        beam: What chooses among continuations; it counts the seconds of all judging.
        scores: Those of the images so far, by number; in the end in their order.
        began: When drawing began.
    """

    judges: Sequence[Judge]
    share: float
    info: Sequence[dict[str, str]]
    beam: Beam
    scores: dict[int, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def beam_for(self, start: int, count: int) -> Beam:
        """What chooses among continuations of so many images from number ``start``."""
        return replace(self.beam, judge=self.judges[start : start + count])

    def score(self, start: int, images: Images) -> None:
        """Scores the images from number ``start``."""
        began = now(images)
        found = scores_by(self.judges[start : start + len(images)], images).tolist()
        self.beam.seconds.append(now(images) - began)
        for number, score in enumerate(found, start):
            self.scores[number] = score
            self.info[number]["score"] = f"{score:.4f}"

    def keep(self, paths: Sequence[Path]) -> list[Path]:
        """The first process removes all files but the best; those that stay, judge after judge, the best first."""
        self.scores = together(self.scores, range(len(paths)))
        if rank():
            return []
        scores, kept = torch.tensor([*self.scores.values()]), []
        for judge in dict.fromkeys(self.judges):
            own = torch.tensor([number for number, each in enumerate(self.judges) if each is judge])
            kept += own[best_of(scores[own], self.share)].tolist()
        for number in set(range(len(paths))) - set(kept):
            paths[number].unlink()
        line = "%d of %d %s: their mean score is %.3f, that of all %.3f"
        best = [self.scores[number] for number in kept]
        logger.info(line, len(best), len(paths), "images are kept", fmean(best), fmean(self.scores.values()))
        if every := self.beam.all:
            those = self.beam.kept
            logger.info(line, len(those), len(every), "continuations went on", fmean(those), fmean(every))
        taken = sum(self.beam.seconds) / (time.perf_counter() - self.began)
        logger.info("judging took %.0f %% of the time", 100 * taken)
        return [paths[number] for number in kept]


def judging_of(
    flags: commands.Sample, model: Synthesizer, wanted: Sequence[Condition], info: Sequence[dict[str, str]]
) -> Judging | None:
    """The judge of ``--judge``, if one is asked for; ``wanted`` are the whole conditions of the images.

    Raises:
        CheckpointError: If it is neither a classifier nor a text-image model.
        ConfigError: If it knows other channels or not the class, or has no text.
    """
    if flags.judge is None:
        return None
    name, channels = flags.judge, model.tokenizer.image_channels
    is_hub = re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name) and not Path(name.partition("/")[0]).is_dir()
    own = {"judge": printable(name), "keep_best": f"{flags.keep_best:g}"}
    own |= {"beam": str(flags.beam), "beam_rows": str(flags.beam_rows)}
    if is_hub or os.path.isfile(Path(name) / "config.json"):
        judges = _text_judges(flags, name, channels, wanted)
        own |= {} if flags.prompt is None else {"prompt": printable(flags.prompt)}
    else:
        judge, header = load_with_header(Path(name), device=flags.device)
        if not isinstance(judge, Classifier):
            hint = "train one: `vqgan train classifier PRESET --data ... --out RUN`"
            raise CheckpointError(f"`{name}` holds a {header.kind}, expected a classifier", hint=hint)
        what = f"the judge takes images of {judge.image_channels} channels, the prior draws {channels}"
        hint = "train a classifier on such images: `--set encoder.image_channels=...`"
        require(judge.image_channels == channels, what, hint=hint)
        what = f"`--prompt` was given, but `{name}` is a classifier"
        require(flags.prompt is None, what, hint="omit `--prompt`")
        own["judge"] = header.digest[:12]
        by = cache(lambda asked: lambda images: judge.scores(images, asked * len(images) or None))
        judges = [by(_class_of(each, model, judge)) for each in wanted]
    for each in info:
        each.update(own)
    return Judging(judges, flags.keep_best, info, Beam(judges, flags.beam, flags.beam_rows))


def _text_judges(
    flags: commands.Sample, name: str, channels: int, wanted: Sequence[Condition]
) -> list[Judge]:
    """How well each image fits its text; images of one text and class have the same judge."""
    texts = [flags.prompt or each.get("text") for each in wanted]
    what = f"`{printable(name)}` compares images with a text"
    require(all(isinstance(each, str) for each in texts), what, hint="give it: `--prompt TEXT`")
    what = f"the judge takes images in RGB or grey, the prior draws {channels} channels"
    require(channels in (1, 3), what, hint="give a classifier of such images")
    opened = open_judge(name, flags.device)
    by = cache(lambda text, *_: opened.by([text]))
    classes = [[value for value in each.values() if isinstance(value, int | str)] for each in wanted]
    return [by(text, *its) for text, its in zip(texts, classes, strict=True)]


def _class_of(condition: Condition, model: Synthesizer, judge: Classifier) -> tuple[int, ...]:
    """The number that the judge has for a class of the prior, if any: that of its name, or the same where it has none.

    An action is no class: it says what was done, not what the image shows.
    """
    known = judge.config.class_names
    for part in model.conditioner.parts:
        if isinstance(part, ClassLabel) and part.name != ACTION and part.name in condition:
            number, own = int(part.tokens(condition, 1, (1, 1))), part.config.class_names
            name = own[number] if own else known[number] if number < len(known) else str(number)
            require(name in known, f"the judge does not know the class `{name}`", hint=closest(name, known))
            return (known.index(name),)
    return ()
