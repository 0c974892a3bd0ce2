"""``vqgan demo``: both stages, end to end."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from vqgan.cli.options import OptionalText


@dataclass(kw_only=True)
class Demo:
    """Trains both stages on real images in minutes on a CPU, and writes pictures and a report.

    Frames of Montezuma's Revenge with the extra `demo`, else scikit-learn's digits. Stopped by Ctrl-C, the same
    command goes on where it was.
    """

    out: Annotated[OptionalText, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Where everything goes; by default `runs/demo`, or `runs/demo-quick`."""

    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Everything small, in under a minute: shows that it works, not what it can do."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """`auto` (CUDA, MPS, CPU in that order), `cpu`, `cuda`, `cuda:1` or `mps`."""

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """The same seed gives the same result."""

    def run(self) -> None:
        """Runs the demo; prints its main numbers and the path of the report."""
        from pathlib import Path

        from vqgan.cli.progress import ProgressBar
        from vqgan.demo import run_demo

        folder = Path(self.out or ("runs/demo-quick" if self.quick else "runs/demo"))
        with ProgressBar() as bar:
            numbers = run_demo(folder, quick=self.quick, seed=self.seed, device=self.device, on_progress=bar)
        print(
            f"reconstruction {numbers['reconstruction_psnr']:.1f} dB, nearest training frame "
            f"{numbers['nearest_frame_psnr']:.1f} dB"
        )
        print(folder / "report.html")
