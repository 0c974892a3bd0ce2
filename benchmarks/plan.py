"""How well ``vqgan plan`` predicts memory and time of a training step.

*Ours* is predicted, *reference* measured in a process of its own that runs steps of the same task: what PyTorch's
allocator holds at most (MB), by how much the process grows beside its libraries (MB, RSS), the median of three steps.

    python benchmarks/plan.py [--quick] [--json PATH]

Run it on one thread (``OMP_NUM_THREADS=1``): then both sides count the processor's seconds.
"""

import gc
import json
import statistics
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.profiler import profile

from timing import Row, Timing, most_resident, parse_arguments, report
from vqgan.planning import _batch, _task, _tokenizer_of, plan
from vqgan.runs import resolve
from vqgan.training.engine import Engine
from vqgan.training.run import PriorRun
from vqgan.types import Batch

RUNS = (
    ("words-tokenizer",),
    ("demo-prior", "prior.depth=4"),
    ("laptop-prior",),
    ("small-tokenizer", "training.batch_size=4"),
    ("small-tokenizer", "training.batch_size=4", "training.recompute=true"),
    ("small-prior", "training.batch_size=4"),
)
STEPS = 3
ON_CUDA = torch.cuda.is_available()
CLOCK = time.process_time if torch.get_num_threads() == 1 and not ON_CUDA else time.perf_counter


def prepare(preset: str, overrides: list[str]) -> tuple[Any, list[Batch], int]:
    """The task of a run, with weights, its micro-batches and a step near its end."""
    run, engine = resolve(preset, overrides), Engine("auto")
    tokenizer = _tokenizer_of(preset, None) if isinstance(run, PriorRun) else None
    task, _ = _task(run, engine, tokenizer)
    loop = run.training
    batches = [_batch(run, task, engine, loop.share(1)) for _ in range(loop.accumulate)]
    for batch in batches:
        batch.images.uniform_(-1, 1)
    return task, batches, loop.steps - 1


def resident() -> int:
    """Bytes of memory that this process has now, on Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def measure(preset: str, overrides: list[str]) -> tuple[float, float, float]:
    """Bytes of tensors, bytes by which the process grows, and seconds of real steps."""
    for other in ("digits-tokenizer", "digits-prior"):  # what libraries take is not the run's
        few = ("training.batch_size=2", "training.steps=4")
        task, batches, step = prepare(other, [*few])
        task.train_step(batches, step)
    del task, batches
    before = resident()
    task, batches, step = prepare(preset, overrides)
    seconds = list[float]()
    for _ in range(1 + STEPS):
        started = CLOCK()
        task.train_step(batches, step)
        if ON_CUDA:
            torch.cuda.synchronize()
        seconds.append(CLOCK() - started)
    most = torch.cuda.max_memory_allocated() if ON_CUDA else most_resident() - before
    del task, batches
    gc.collect()
    return held(preset, overrides), most, statistics.median(seconds[1:])


def held(preset: str, overrides: list[str]) -> int:
    """The most bytes that PyTorch's allocator has given out at the same time, up to the end of a second step."""
    if ON_CUDA:
        return torch.cuda.max_memory_allocated()
    with profile(profile_memory=True) as seen:
        task, batches, step = prepare(preset, overrides)
        for _ in range(2):
            task.train_step(batches, step)
    events = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    return max(accumulate(each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())))


def main() -> None:
    if "--measure" in sys.argv:
        preset, *overrides = sys.argv[sys.argv.index("--measure") + 1 :]
        print(json.dumps(measure(preset, overrides)))
        return
    arguments = parse_arguments(__doc__.splitlines()[0])
    rows: list[Row] = []
    for preset, *overrides in RUNS[:1] if arguments.quick else RUNS:
        found = plan(preset, overrides=overrides)
        command = [sys.executable, __file__, "--measure", preset, *overrides]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        held_most, process, seconds = json.loads(result.stdout)
        work = " ".join([preset, *(each.removeprefix("training.") for each in overrides)])
        needed, predicted = sum(found.peak.values()) / 1e6, found.seconds or 0.0
        for unit, ours, theirs in (
            ("MB", needed, held_most / 1e6),
            ("MB, RSS", needed, process / 1e6),
            ("ms", 1e3 * predicted, 1e3 * seconds),
        ):
            times = Timing(*[predicted] * 3), Timing(*[seconds] * 3)
            rows.append(Row(work, unit, ours, theirs, ours / theirs, *times))
        report(rows, quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
