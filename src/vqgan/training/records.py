"""Files that could not be read: listed once each in ``skipped.jsonl`` and in the log."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from vqgan.checkpoints.files import output_errors
from vqgan.types import Batch

logger = logging.getLogger(__name__)


class SkippedFiles:
    """Collects the skipped files of a run.

    Args:
        path: The list on disk; files that it already names are not repeated.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()
        if path.exists():
            rows = path.read_text(encoding="utf-8").splitlines()
            self._known = {json.loads(row)["path"] for row in rows if row.endswith("}")}

    def add(self, batches: Iterable[Batch]) -> None:
        """Takes note of what the batches skipped."""
        for name, reason in (entry for batch in batches for entry in batch.skipped):
            if name in self._known:
                continue
            self._known.add(name)
            logger.warning("skipped `%s`: %s", name, reason)
            with output_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"path": name, "reason": reason}) + "\n")
