"""Numbers of labels: from those of a segmentation model, by their names, to those of a label set."""

import logging
import re
from collections.abc import Sequence
from importlib.resources import files

from vqgan.errors import ConfigError, closest, require
from vqgan.images import MAX_LABELS

logger = logging.getLogger(__name__)

LABEL_SETS = {
    "coco-stuff": ("coco-stuff.txt", 1),
    "s-flckr": ("coco-stuff.txt", 0),
    "ade20k": ("ade20k.txt", 1),
}
"""Files of names in the official order, synonyms after `;`, and the number of the first: 1 where 0 is unknown.
COCO-Stuff (Caesar et al. 2018) has 182 labels, of which 171 occur, ADE20K (Zhou et al. 2017) 150. The published prior
of S-FLCKR counts COCO-Stuff's from 0, without unknown."""


def numbers_of(names: Sequence[str], labels: str) -> list[int]:
    """The number in a set (a key of :data:`LABEL_SETS`, or ``own``: the model's) of each label of a model, by name.

    Names may differ in capitals, hyphens and underscores, go on after a comma, and end in `merged`, as in COCO's
    panoptic labels. Where 0 is unknown, up to a tenth of them may not be in the set: they become 0.

    Raises:
        ConfigError: If there is no such set, more names are not in it, or there are more than 256 labels.

    Example:
        >>> numbers_of(["wall", "door, double door", "flag"], "ade20k")
        [1, 15, 150]
    """
    if labels == "own":
        require(len(names) <= MAX_LABELS, f"the model has {len(names)} labels, a map holds {MAX_LABELS}")
        return list(range(len(names)))
    require(labels in LABEL_SETS, f"unknown labels `{labels}`", hint=closest(labels, (*LABEL_SETS, "own")))
    file, start = LABEL_SETS[labels]
    synonyms = [[_plain(name) for name in line.split(";")] for line in _lines(file)]
    table = {first: number for number, (first, *_) in enumerate(synonyms, start)}
    for number, (_, *others) in enumerate(synonyms, start):
        table = {**dict.fromkeys(others, number), **table}
    found = [table.get(_plain(name), table.get(_plain(re.split("[,;]", name)[0]))) for name in names]
    lost = [f"`{name}`" for name, number in zip(names, found, strict=True) if number is None]
    what = f"{len(lost)} of the model's {len(names)} labels are not in `{labels}`: {', '.join(lost[:5])}"
    if lost and (start == 0 or len(lost) * 10 > len(names)):
        hint = 'give a model of that data set, or other labels; `labels="own"` keeps all'
        raise ConfigError(what, hint=hint)
    if lost:
        logger.warning("%s; they become 0, unknown", what)
    return [number or 0 for number in found]


def set_with(count: int) -> str:
    """The set whose maps have so many labels, unknown ones included; else ``own``.

    Example:
        >>> [set_with(count) for count in (151, 182, 183, 5)]
        ['ade20k', 's-flckr', 'coco-stuff', 'own']
    """
    return next(
        (name for name, (file, start) in LABEL_SETS.items() if len(_lines(file)) + start == count), "own"
    )


def _lines(file: str) -> list[str]:
    return files("vqgan.extraction").joinpath(file).read_text(encoding="utf-8").splitlines()


def _plain(name: str) -> str:
    return re.sub("[ _-]+", " ", re.sub("[ _-]merged$", "", name.strip().casefold()))
