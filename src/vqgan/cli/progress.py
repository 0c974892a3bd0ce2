"""The only place with a progress bar: draws what ``on_progress`` reports."""

import sys
from contextlib import ExitStack

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from vqgan.cli.processes import rank
from vqgan.types import Progress

_SHOWN = (
    "loss",
    "reconstruction_loss",
    "usage",
    "heldout_psnr",
    "heldout_miou",
    "heldout_loss",
    "images_per_second",
)

_SECONDS_IN_FILES = 30.0
"""A bar that is redrawn twice a second is a nuisance in a log file."""


class ProgressBar(ExitStack):
    """One bar per phase on stderr, with the rate, the time left and a few values; use it in a ``with`` block."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[None] | None = None
        self._phase = ""
        self._values: dict[str, float | str] = {}
        self.enter_context(logging_redirect_tqdm())
        self.callback(self._close)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        """Draws one report."""
        if self._bar is None or progress.phase != self._phase or progress.step < self._bar.n:
            self._close()
            self._bar = tqdm(
                total=progress.total,
                desc=progress.phase,
                initial=progress.step - 1,
                file=sys.stderr,
                disable=rank() > 0,
                mininterval=0.5 if sys.stderr.isatty() else _SECONDS_IN_FILES,
                dynamic_ncols=True,
            )
            self._phase, self._values = progress.phase, {}
        self._values |= {name: value for name, value in progress.values.items() if name in _SHOWN}
        self._bar.set_postfix(self._values, refresh=False)
        self._bar.update(progress.step - self._bar.n)
