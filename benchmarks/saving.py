"""What saving a step costs the training beside which it is written, and what checking it costs the one who goes on.

What the loop waits for includes the look whether all is finite.

Both sides of a row save the same state: ours copies it and has it written, the reference waits until it is on the disk.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import torch

from timing import Row, Timing, parse_arguments, report
from vqgan.checkpoints import run_folder
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.saving import Saver
from vqgan.training.task import LoopConfig, Session
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig
from vqgan.types import Batch

SIZE = 32
"""Side of the images: small, so that a step is short beside the state that it changes."""


def make_task(width: int) -> TokenizerTask:
    """A tokenizer's training with averaged weights: its state is four times as large as the weights."""
    config = TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=3,
            base_channels=width,
            channel_multipliers=(1, 2, 4),
            num_residual_blocks=2,
            latent_channels=64,
            resolution=SIZE,
            attention_resolutions=(),
        ),
        quantizer=VectorQuantizerConfig(codebook_size=1024, codebook_dim=64),
    )
    optimizer, engine = OptimizerConfig(learning_rate=1e-4, betas=(0.5, 0.9)), Engine("auto")
    loop = LoopConfig(steps=10_000, batch_size=4, ema_decay=0.99)
    task = TokenizerTaskConfig(optimizer=optimizer, pixels="l1")
    return TokenizerTask(Tokenizer(config).to(engine.device), task, loop=loop, engine=engine, seed=0)


def measure(width: int, folder: Path, repeats: int) -> tuple[Row, str, dict[str, object]]:
    """One size: what the loop waits for a save, by either way, and a line and numbers about the rest."""
    task, run = make_task(width), RunFolder(folder)
    run.create()
    batch = Batch(torch.rand(4, 3, SIZE, SIZE, device=task.engine.device) * 2 - 1, {}, torch.arange(4))
    saver = Saver(Session(task, run, task.engine, {"seed": 0}), lambda: None)

    def step() -> None:
        task.train_step([batch], 1)
        if task.engine.device.type == "cuda":
            torch.cuda.synchronize()

    step()
    size = sum(
        t.numel() * t.element_size() for group in task.state.tensors().values() for t in group.values()
    )
    saver.save(0, None)  # gets its memory
    saver.wait()
    beside, waiting, alone, slowed = [], [], [], []
    for number in range(1, 2 * repeats, 2):
        alone.append(seconds(step))
        waiting.append(seconds(lambda number=number: saver.save(number, {}, is_last=True)))
        beside.append(seconds(lambda number=number: (task.state.is_finite(), saver.save(number + 1, {}))))
        while any(thread.name == "save" for thread in threading.enumerate()):
            slowed.append(seconds(step))
        saver.wait()

    def go_on() -> None:
        with ThreadPoolExecutor(1) as beside:
            step = beside.submit(run.newest)
            again = make_task(width)
        again.state.load(step.result().tensors, where="")

    checked, unchecked = [], []
    for _ in range(repeats):
        checked.append(seconds(go_on))
        with mock.patch.object(run_folder, "verify", return_value=None):
            unchecked.append(seconds(go_on))
    numbers = {
        "state_bytes": size,
        "step_seconds": statistics.median(alone),
        "step_seconds_while_saving": statistics.median(slowed) if slowed else None,
        "stall_seconds": statistics.median(beside),
        "going_on_seconds": statistics.median(checked),
        "going_on_unchecked_seconds": statistics.median(unchecked),
    }
    ours, theirs = timing(beside), timing(waiting)
    name = f"save {size / 1e6:.0f} MB"
    row = Row(name, "saves/s", 1 / ours.median, 1 / theirs.median, theirs.median / ours.median, ours, theirs)
    step_alone, step_beside = (timing(each).median * 1e3 for each in (alone, slowed or alone))
    line = (
        f"{name}: the loop waits {ours.median * 1e3:.0f} ms (at most {ours.slowest * 1e3:.0f}), a step takes "
        f"{step_alone:.0f} ms alone and {step_beside:.0f} ms while it is written; "
        f"going on takes {timing(checked).median:.2f} s, and {timing(unchecked).median:.2f} s without the check"
    )
    return row, line, numbers


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def timing(times: Sequence[float]) -> Timing:
    return Timing(statistics.median(times), min(times), max(times))


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    widths = (32,) if arguments.quick else (64, 192)
    rows, facts = [], []
    for width in widths:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            row, line, numbers = measure(width, Path(folder) / "run", 1 if arguments.quick else 5)
        rows.append(row)
        facts.append(numbers)
        print(line)
    report(rows, quick=arguments.quick, path=arguments.json, more={"facts": facts})


if __name__ == "__main__":
    main()
