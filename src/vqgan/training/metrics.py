"""The numbers of a run: rows of ``metrics.jsonl``, and TensorBoard events where it is installed."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vqgan.checkpoints.files import output_errors
from vqgan.checkpoints.run_folder import RunFolder

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends rows to ``metrics.jsonl`` and mirrors them to TensorBoard.

    Args:
        folder: The run's folder.
        start: Steps already done; events after it are superseded.
    """

    def __init__(self, folder: RunFolder, start: int) -> None:
        self._path = folder.metrics
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("no TensorBoard events: install them with `pip install vqgan[log]`")
        else:
            self._board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=start)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; a number that is not finite is written as the word, never as 0."""
        clean = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        with output_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **clean}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """Mirrors a picture (c H W, values in [-1, 1]) to TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, (image.detach().float().cpu().clamp(-1, 1) + 1) / 2, step)

    def close(self) -> None:
        """Flushes what is left."""
        if self._board is not None:
            self._board.close()
