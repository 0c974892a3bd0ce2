"""The numbers of a run: rows of ``metrics.jsonl``, and TensorBoard events where it is installed."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.images.pixels import to_picture, to_uint8
from vqgan.output_files import output_errors

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends rows to ``metrics.jsonl`` and mirrors them to TensorBoard.

    The rows are the record: a run stops when they cannot be written. The mirror is not: it is given up.

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
            return
        with self._mirroring():
            self._board = SummaryWriter(
                str(folder.path / "tensorboard"), purge_step=start + 1 if start else None
            )

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; a number that is not finite is written as the word, never as 0.

        Raises:
            OutputError: If the disk refuses.
        """
        clean = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        with output_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **clean}) + "\n")
        if self._board is not None:
            with self._mirroring():
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Float[Tensor, "c rows columns"]) -> None:
        """Mirrors a picture with values in [-1, 1] to TensorBoard."""
        if self._board is not None:
            with self._mirroring():
                pixels = np.asarray(to_picture(to_uint8(image).cpu().numpy()).convert("RGB"))
                self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes what is left."""
        if self._board is not None:
            with self._mirroring():
                self._board.close()

    @contextmanager
    def _mirroring(self) -> Iterator[None]:
        """Gives TensorBoard up when it fails, whatever the reason: it must not cost a step."""
        try:
            yield
        except Exception as error:
            logger.warning("no more TensorBoard events: %s", error)
            self._board = None
