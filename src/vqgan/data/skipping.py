"""Images that cannot be read: too many of them stop a run."""

import logging
from collections import defaultdict
from collections.abc import Mapping

from vqgan.data.source import Source
from vqgan.errors import DataError

logger = logging.getLogger(__name__)

MAX_SHARE = 0.05
"""Tolerated share of images that cannot be read."""

MIN_TRIED = 100
"""Before this many images (or all there are) were tried, nothing is said about the share."""

MIN_BAD = 5
"""Fewer bad images are always tolerated: in a small folder, a single one can be more than the share."""


def reason_of(error: DataError, label: str) -> str:
    """Why an image is skipped, without the name, which is shown next to it."""
    return error.message.removeprefix(f"cannot read `{label}`: ")


def check_source(source: Source, channels: int) -> None:
    """Checks images before a training, evenly spread over the source.

    Raises:
        DataError: If too many of them cannot be read, see :func:`refuse_too_many`.
    """
    count = min(len(source), source.max_checked)
    bad: dict[str, str] = {}
    animated: list[str] = []
    for index in (number * len(source) // count for number in range(count)):
        label = source.label(index)
        try:
            if source.check(index, channels) > 1:
                animated.append(label)
        except DataError as error:
            bad[label] = reason_of(error, label)
    refuse_too_many(bad, count, count)
    if animated:
        what = "of %d files with several frames the first is taken (as of `%s`); `data.frames: all` takes all"
        logger.warning(what, len(animated), animated[0])


def refuse_too_many(bad: Mapping[str, str], tried: int, total: int) -> None:
    """Raises DataError if too many images cannot be read.

    These are 5 images and more than 5 % of at least 100 tried (or of all there are), or all that were tried.

    Args:
        bad: Those that cannot be read: label to reason.
        tried: How many were tried.
        total: How many there are.
    """
    if not bad or tried < min(MIN_TRIED, total):
        return
    if len(bad) == tried or (len(bad) >= MIN_BAD and len(bad) > MAX_SHARE * tried):
        raise DataError(
            f"too many images cannot be read: {len(bad)} of {tried} tried, "
            f"at most {MAX_SHARE:.0%} are skipped\n{_table(bad)}",
            hint="repair or remove these files, or give a list without them",
        )


def _table(bad: Mapping[str, str]) -> str:
    """The most frequent reasons, each with the number of files and one of them."""
    labels: dict[str, list[str]] = defaultdict(list)
    for label, reason in bad.items():
        labels[reason].append(label)
    rows = sorted(labels.items(), key=lambda row: -len(row[1]))
    lines = [f"  {len(own):6}  {reason}  (`{own[0]}`)" for reason, own in rows[:5]]
    if len(rows) > 5:
        lines.append(f"  {sum(len(own) for _, own in rows[5:]):6}  for other reasons")
    return "\n".join(lines)
