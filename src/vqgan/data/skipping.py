"""Files that cannot be read: counted, logged once, and too many of them stop the run."""

import logging
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from vqgan.data.base import Source
from vqgan.errors import DataError
from vqgan.types import Batch

logger = logging.getLogger(__name__)

MAX_SHARE = 0.05
"""Tolerated share of images that cannot be read."""

ENOUGH_TRIED = 100
"""Before so many images (or all there are) were tried, nothing is said about the share."""

ENOUGH_BAD = 5
"""Fewer bad images are tolerated in any case: in a small folder, one alone can be more than the share."""


class Read(NamedTuple):
    """A batch and the numbers of the images that were tried for it; ``bad`` are those in ``batch.skipped``."""

    batch: Batch
    tried: tuple[int, ...]
    bad: tuple[int, ...]


def reason_of(error: DataError, label: str) -> str:
    """Why an image is skipped, without its name, which stands beside it."""
    return error.message.removeprefix(f"cannot read `{label}`: ")


def check_source(source: Source, channels: int) -> None:
    """Looks at images before a training, evenly spread over the source.

    Raises:
        DataError: If too many of them cannot be read, see :class:`SkippedImages`.
    """
    count = min(len(source), source.checked)
    watch, animated = SkippedImages(count), list[str]()
    for number in range(count):
        index = number * len(source) // count
        label = source.label(index)
        try:
            if source.check(index, channels) > 1:
                animated.append(label)
        except DataError as error:
            watch.note(number, label, reason_of(error, label))
    watch.check(count)
    if animated:
        what = "of %d files with several frames the first is taken (as of `%s`); `data.frames: all` takes all"
        logger.warning(what, len(animated), animated[0])


class SkippedImages:
    """Watches over the batches of one loader. An image counts once, however often it is met again.

    Args:
        total: How many images there are.
    """

    def __init__(self, total: int) -> None:
        self._tried = np.zeros(total, dtype=np.bool_)
        self._bad = np.zeros(total, dtype=np.bool_)
        self._reasons: dict[str, str] = {}

    def add(self, read: Read) -> None:
        """Counts what was read and logs each file the first time that it is skipped.

        Raises:
            DataError: If 5 images and more than 5 % of at least 100 tried (or of all there are) cannot be
                read, or none of them can.
        """
        self._tried[list(read.tried)] = True
        if not read.bad:
            return
        for index, (path, reason) in zip(read.bad, read.batch.skipped, strict=True):
            if path not in self._reasons:
                logger.warning("skipped `%s`: %s", path, reason)
            self.note(index, path, reason)
        self.check(int(np.count_nonzero(self._tried)))

    def note(self, index: int, path: str, reason: str) -> None:
        """Counts an image that cannot be read."""
        self._bad[index] = True
        self._reasons.setdefault(path, reason)

    def check(self, tried: int) -> None:
        """Raises DataError, as :meth:`add` does, if too many of so many images cannot be read."""
        bad = np.count_nonzero(self._bad)
        if not bad or tried < min(ENOUGH_TRIED, len(self._tried)):
            return
        if bad == tried or (bad >= ENOUGH_BAD and bad > MAX_SHARE * tried):
            raise DataError(
                f"too many images cannot be read: {bad} of {tried} tried, "
                f"at most {MAX_SHARE:.0%} are skipped\n{self._table()}",
                hint="repair or remove these files, or give a list that leaves them out",
            )

    def _table(self) -> str:
        """The most frequent reasons, each with the number of files and one of them."""
        files: dict[str, list[str]] = defaultdict(list)
        for path, reason in self._reasons.items():
            files[reason].append(path)
        rows = sorted(files.items(), key=lambda row: -len(row[1]))
        lines = [f"  {len(paths):6}  {reason}  (`{paths[0]}`)" for reason, paths in rows[:5]]
        if len(rows) > 5:
            lines.append(f"  {sum(len(paths) for _, paths in rows[5:]):6}  for other reasons")
        return "\n".join(lines)
