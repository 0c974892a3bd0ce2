"""Files that cannot be read: counted, logged once, and too many of them stop the run."""

import logging
from collections import defaultdict

from vqgan.errors import DataError
from vqgan.types import Batch

logger = logging.getLogger(__name__)

MAX_SHARE = 0.05
"""Tolerated share of images that cannot be read."""

ENOUGH_TRIED = 100
"""Below this number of tried images, one bad file says nothing about the share."""


class SkippedImages:
    """Watches over the batches of one loader.

    Args:
        total: How many images there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._tried = 0
        self._bad = 0
        self._reasons: dict[str, str] = {}

    def add(self, batch: Batch) -> None:
        """Counts a batch and logs each file the first time that it is skipped.

        Raises:
            DataError: If more than 5 % of at least 100 tried images, or all there are, could not be read.
        """
        self._tried += len(batch.sample) + len(batch.skipped)
        self._bad += len(batch.skipped)
        for path, reason in batch.skipped:
            if path not in self._reasons:
                self._reasons[path] = reason
                logger.warning("skipped `%s`: %s", path, reason)
        limit = MAX_SHARE * self._tried if self._tried >= ENOUGH_TRIED else self._tried - 1
        if self._bad > limit and self._tried >= min(ENOUGH_TRIED, self._total):
            raise DataError(
                f"too many images cannot be read: {self._bad} of {self._tried} tried, "
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
