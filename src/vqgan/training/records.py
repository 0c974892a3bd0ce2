"""Files that could not be read: listed once each in ``skipped.jsonl``."""

import json
from pathlib import Path

from vqgan.output_files import output_errors
from vqgan.types import Batch


class SkippedFiles:
    """Collects the skipped files of a run.

    Args:
        path: The list on disk; files that it already names are not repeated.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known: set[str] = {json.loads(row)["path"] for row in rows}

    def add(self, batch: Batch) -> list[tuple[str, str]]:
        """Takes note of what a batch skipped.

        Returns:
            What is new in the list, as (path, reason).

        Raises:
            OutputError: If the disk refuses.
        """
        new = []
        for name, reason in batch.skipped:
            if name not in self._known:
                self._known.add(name)
                new.append((name, reason))
                with output_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"path": name, "reason": reason}) + "\n")
        return new
