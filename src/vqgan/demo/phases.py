"""The phases of a demo: what each takes is measured, and an interrupted demo continues where it was."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from vqgan.checkpoints.load import load
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.data import SourceConfig
from vqgan.errors import require
from vqgan.evaluation.memory import peak_memory
from vqgan.images import grid, save_png
from vqgan.output_files import make_folder, write_json
from vqgan.runs import train
from vqgan.synthesizer import Synthesizer
from vqgan.types import Images, OnProgress

QUICK = ("training.steps=30", "training.batch_size=4", "training.evaluate_images=64", "training.pictures=4")
"""What makes the stages of a demo small."""


class Demo:
    """A demo in its folder: what is asked for, and the time of each phase and the most memory, over interruptions too.

    Args:
        folder: Where its runs, its pictures and its report go.
        quick: Everything small, in a minute or less; the pictures then show no more than that all works.
        seed: Of all trainings and samples.
        device: Where to train.
        on_progress: Told about every step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        quick: bool = False,
        seed: int = 0,
        device: str = "auto",
        on_progress: OnProgress | None = None,
    ) -> None:
        self.folder, self.quick, self.seed, self.device = folder, quick, seed, device
        self.on_progress: OnProgress = on_progress or (lambda progress: None)
        self._path, self._kept = folder / "resources.json", dict[str, Any]()

    def begin(self, **kind: bool) -> None:
        """Makes the folder, or goes on in it.

        Raises:
            ConfigError: If it holds a demo of another request, or of another ``kind``.
        """
        request = {**kind, "quick": self.quick, "seed": self.seed}
        self._kept = {"request": request, "seconds": {}, "peak_memory_bytes": 0}
        if self._path.exists():
            self._kept |= {"request": {}} | json.loads(self._path.read_text(encoding="utf-8"))
        require(
            self._kept["request"].items() >= request.items(),
            f"`{self.folder}` holds another demo (large, quick or not, other images or seed), or one of an earlier "
            "version",
            hint="give another folder with `out=`, or remove this one to start over",
        )
        make_folder(self.folder)
        write_json(self._path, self._kept)

    @contextmanager
    def phase(self, name: str, *, resumed: bool = False) -> Iterator[None]:
        """Measures a block; the time of a ``resumed`` one is added to what it took before."""
        begun = time.perf_counter()
        before = self._kept["seconds"].get(name, 0.0) if resumed else 0.0
        try:
            yield
        finally:
            self._kept["seconds"][name] = before + time.perf_counter() - begun
            self._kept["peak_memory_bytes"] = max(self._kept["peak_memory_bytes"], peak_memory())
            write_json(self._path, self._kept)

    def train(
        self,
        stage: str,
        preset: str,
        changes: Sequence[str] = (),
        *,
        small: Sequence[str] = (),
        data: SourceConfig | None = None,
        conditions: Mapping[str, str | Path] | None = None,
    ) -> None:
        """Trains a stage in a folder of its name and as a phase, or continues its run; priors on the stage `tokenizer`.

        Args:
            stage: Its name.
            preset: What is trained.
            changes: Overrides of the preset.
            small: What else changes in a quick demo, beside ``QUICK``.
            data: In place of the preset's source.
            conditions: As in :func:`~vqgan.runs.train`.

        Raises:
            ConfigError: If a package that has the data is not installed.
            Preempted: After a signal; everything is saved.
        """
        out = self.folder / stage
        started = partial(train, device=self.device, on_progress=self.on_progress)
        with self.phase(stage, resumed=True):
            if RunFolder(out).numbers():
                started(None, resume=out)
                return
            started(
                preset,
                data=data,
                out=out,
                tokenizer=self.folder / "tokenizer" if preset.endswith("-prior") else None,
                conditions=conditions,
                overrides=(*changes, *((*QUICK, *small) if self.quick else ())),
                precision="auto",  # everything is measured in fp32
                seed=self.seed,
            )

    def prior(self, stage: str = "prior", *, device: str = "cpu") -> Synthesizer:
        """The trained model of a stage."""
        model = load(self.folder / stage, device=device)
        assert isinstance(model, Synthesizer), "a prior's run holds a synthesizer"
        return model

    def save(self, name: str, pictures: Images, *, columns: int, scale: int = 1) -> None:
        """Writes pictures side by side as ``NAME.png``, each pixel ``scale`` times as wide and high."""
        large = pictures.float().cpu().repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
        save_png(grid(large, columns=columns), self.folder / f"{name}.png", {"command": "demo"})

    def finish(
        self, numbers: Mapping[str, Any], write_report: Callable[[Path, Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        """Writes ``report.json`` and the report; gives the numbers of both, with the seconds of each phase and of all.

        Raises:
            OutputError: If a file cannot be written.
        """
        kept = {name: self._kept[name] for name in ("seconds", "peak_memory_bytes")}
        whole = {**numbers, "quick": self.quick, **kept, "seconds_total": sum(kept["seconds"].values())}
        write_json(self.folder / "report.json", whole)
        write_report(self.folder, whole)
        return whole
