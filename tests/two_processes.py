"""Trains with two processes on this machine, as ``torchrun --nproc-per-node 2`` would.

    python two_processes.py FOLDER PORT

Runs and what each process thought of them go to FOLDER.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # what takes long to import is paid for once, before the processes part
import torch.utils.tensorboard

import tiny
from vqgan.checkpoints.format import digest_of
from vqgan.conditioning import UnconditionalConfig
from vqgan.errors import VqganError
from vqgan.prior import PriorShape
from vqgan.runs import train
from vqgan.training import loop, observer
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.loop import Loop
from vqgan.training.run import PriorRun, TokenizerRun
from vqgan.training.tokenizer_task import TokenizerTaskConfig
from vqgan.types import Batch

PLAIN = {"steps": 3, "batch_size": 8, "accumulate": 2, "evaluate_every": 2, "save_every": 2}


def tokenizer_run(source) -> TokenizerRun:
    """Without what depends on the share of a process: batch statistics, the adaptive weight, re-seeding.

    The codes are running means, and a discriminator with all that steadies one learns, but is not felt.
    """
    run = tiny.tokenizer_run(source, **PLAIN)
    terms = {"loss": "relativistic", "norm": "spectral", "r1": 0.5, "r2": 0.5, "lecam": 0.1}
    sizes = {"start": 100, "discriminator_start": 0, "base_channels": 4, "num_layers": 1}
    discriminator = DiscriminatorConfig(**terms, **sizes)
    how = {"pixels": "l1+l2", "hard_share": 0.1, "codebook_decay": 0.9, "discriminator": discriminator}
    task = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, **how)
    return TokenizerRun(tokenizer=run.tokenizer, task=task, data=run.data, training=run.training)


def prior_run(source) -> PriorRun:
    """Without dropout."""
    run = tiny.prior_run(source, **PLAIN)
    shape = PriorShape(depth=1, width=16, num_heads=2)
    return PriorRun(
        conditioner=UnconditionalConfig(), prior=shape, task=run.task, data=run.data, training=run.training
    )


@contextmanager
def in_float64() -> Iterator[None]:
    """Everything is computed in float64: there a difference is a mistake and no rounding."""

    def to_double(batch: Batch, device: torch.device) -> Batch:
        return Batch(batch.images.double(), batch.condition, batch.sample, batch.skipped)

    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(loop, "to_device", to_double),
            mock.patch.object(observer, "to_device", to_double),
        ):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def work(rank: int, folder: Path, notes: dict[str, object]) -> None:
    """What each of the two processes does."""
    source = tiny.IdxConfig(path=str(folder / "images"))
    real = Loop.run

    def noting(self, *arguments, **keywords):
        try:
            real(self, *arguments, **keywords)
        finally:
            model = self.task.state.tensors()["model"]
            learned = {name: t for name, t in model.items() if "running_" not in name}
            notes.setdefault("digests", []).append(digest_of(learned))

    mock.patch.object(Loop, "run", noting).start()
    reports: list[object] = []
    with in_float64():
        train(tokenizer_run(source), out=folder / "tokenizer", device="cpu", on_progress=reports.append)
        train(prior_run(source), out=folder / "prior", tokenizer=folder / "tokenizer", device="cpu")
    notes["reports"] = len(reports)
    train(tiny.tokenizer_run(source), out=folder / "game", device="cpu")

    def interrupted(self, step, batches, _real=Loop._step):
        if rank == 1 and step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return _real(self, step, batches)

    try:
        with mock.patch.object(Loop, "_step", interrupted):
            train(tiny.tokenizer_run(source), out=folder / "stopped", device="cpu")
    except VqganError as error:
        notes["stopped"] = [error.exit_code, error.message]

    def spoiled(batch, device, _real=loop.to_device):
        batch = _real(batch, device)
        batch.images[(batch.sample >= 6) & (batch.sample < 20)] = torch.nan
        return batch

    with mock.patch.object(loop, "to_device", spoiled):
        train(tiny.tokenizer_run(source, steps=6, save_every=1), out=folder / "diverged", device="cpu")
    try:
        train(tiny.tokenizer_run(source, batch_size=3), out=folder / "odd", device="cpu")
    except VqganError as error:
        notes["odd"] = [error.exit_code, error.message]


def main() -> None:
    """Becomes two processes and works in both."""
    folder, port = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    other = os.fork()
    rank = 0 if other else 1
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    notes: dict[str, object] = {}
    code = 1
    try:
        work(rank, folder, notes)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        code = 0
    except BaseException:
        traceback.print_exc()
    (folder / f"{rank}.json").write_text(json.dumps(notes))
    sys.stderr.flush()
    if rank == 0:
        code = max(code, os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
    os._exit(code)


if __name__ == "__main__":
    main()
