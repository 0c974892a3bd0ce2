"""Trains with several processes on this machine, as ``torchrun --nproc-per-node N`` would.

    python processes.py FOLDER PORT N

Runs and what each process thought of them go to FOLDER.
"""

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # what takes long to import is paid for once, before the processes part
import torch.utils.tensorboard

import tiny
from vqgan.checkpoints.format import digest_of, save_model
from vqgan.cli.main import main as command_line
from vqgan.conditioning import UnconditionalConfig
from vqgan.errors import VqganError
from vqgan.images import save_png
from vqgan.prior import PriorShape
from vqgan.runs import train
from vqgan.training import exchange, loop, observer
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.exchange import GradientExchange
from vqgan.training.loop import Loop
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.training.run import PriorRun, TokenizerRun
from vqgan.training.sharding import part_of
from vqgan.training.tokenizer_task import TokenizerTaskConfig
from vqgan.types import Batch

PLAIN = {"steps": 3, "batch_size": 8, "accumulate": 2, "evaluate_every": 2, "save_every": 2}


def tokenizer_run(source) -> TokenizerRun:
    """The codes are running means, and the discriminator has all that steadies one."""
    run = tiny.tokenizer_run(source, **{**PLAIN, "accumulate": 1})
    terms = {"loss": "relativistic", "norm": "spectral", "r1": 0.5, "r2": 0.5, "lecam": 0.1}
    sizes = {"start": 1, "discriminator_start": 0, "base_channels": 4, "num_layers": 1}
    discriminator = DiscriminatorConfig(**terms, **sizes)
    how = {"pixels": "l1+l2", "hard_share": 0.1, "codebook_decay": 0.9, "discriminator": discriminator}
    task = TokenizerTaskConfig(optimizer=tiny.OPTIMIZER, **how)
    return TokenizerRun(tokenizer=run.tokenizer, task=task, data=run.data, training=run.training)


def game_run(source) -> TokenizerRun:
    """With batch statistics, the adaptive weight and codes that are re-seeded."""
    return tiny.tokenizer_run(source, **{**PLAIN, "steps": 4})


def prior_run(source) -> PriorRun:
    """Without dropout."""
    run = tiny.prior_run(source, **PLAIN)
    shape = PriorShape(depth=1, width=16, num_heads=2)
    return PriorRun(
        conditioner=UnconditionalConfig(), prior=shape, task=run.task, data=run.data, training=run.training
    )


def sharded_run(source) -> PriorRun:
    """Its layers are read between, its gradients clipped; it is evaluated and draws pictures."""
    run, shape = prior_run(source), PriorShape(depth=2, width=16, num_heads=2)
    optimizer = OptimizerConfig(learning_rate=1e-3, betas=(0.5, 0.9), weight_decay=0.1, clip_norm=0.05)
    task = PriorTaskConfig(optimizer=optimizer, token_keep_probability=0.7, alignment=0.5)
    training = tiny.loop(**PLAIN, pictures=2, shard=True, recompute=True)
    what = {"conditioner": run.conditioner, "data": run.data}
    return PriorRun(**what, prior=shape, task=task, training=training)


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


def used(folder: Path, out: Path) -> dict[str, list[object]]:
    """Commands that share their images; the exit code, the last printed paths and the last line on stderr of each."""
    found = {}
    for name, words in {
        "sample": ["--count", "5", "--batch-size", "2", "--seed", "3"],
        "judged": ["--count", "6", "--judge", folder / "judge.safetensors", "--keep-best", "0.5"],
        "complete": [folder / "photos", "--batch-size", "2"],
        "score": [folder / "photos"],
        "reconstruct": [folder / "photos", "--compare"],
        "encode": [folder / "photos"],
        "decode": [out / "encode", "--batch-size", "2"],
        "extract": [folder / "photos"],
    }.items():
        first = "edges" if name == "extract" else folder / "prior"
        command = "sample" if name == "judged" else name
        printed, said = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(said):
            code = command_line([str(each) for each in (command, first, *words, "--out", out / name)])
        if torch.distributed.is_initialized():  # the next command may read what the first process writes last
            torch.distributed.barrier()
        paths = [Path(line).relative_to(out).as_posix() for line in printed.getvalue().splitlines()]
        found[name] = [code, paths, said.getvalue().splitlines()[-1:]]
    return found


def work(rank: int, folder: Path, notes: dict[str, object]) -> None:
    """What each of the processes does."""
    source = tiny.IdxConfig(path=str(folder / "images"))
    real = Loop.run

    def noting(self, *arguments, **keywords):
        try:
            real(self, *arguments, **keywords)
        finally:
            state = self.task.state
            if self.task.loop.shard:
                found = [*state.model.parameters(), *state.optimizers["prior"].tensors().values()]
                held = [[each.numel() for each in tensors] for tensors in (map(part_of, found), found)]
                notes.setdefault("held", []).append([*map(sum, held)])
            else:
                notes.setdefault("digests", []).append(digest_of(state.tensors()["model"]))

    mock.patch.object(Loop, "run", noting).start()

    def counting(self, _real=GradientExchange.finish):
        notes.setdefault("buckets", []).append([len(self._sent), len(self._buckets)])
        _real(self)

    mock.patch.object(GradientExchange, "finish", counting).start()
    mock.patch.object(exchange, "BUCKET_BYTES", 4000).start()
    reports: list[object] = []
    with in_float64():
        train(tokenizer_run(source), out=folder / "tokenizer", device="cpu", on_progress=reports.append)
        train(game_run(source), out=folder / "game", device="cpu")
        train(prior_run(source), out=folder / "prior", tokenizer=folder / "tokenizer", device="cpu")
        train(sharded_run(source), out=folder / "sharded", tokenizer=folder / "tokenizer", device="cpu")
    notes["reports"] = len(reports)
    if torch.distributed.get_world_size() > 2:
        return
    with in_float64():
        train(None, resume=folder / "begun", device="cpu", overrides=["training.steps=5"])

    def poisoned(self, batch, step=None, _real=PriorTask._losses, **how):
        losses = _real(self, batch, step, **how)
        return {**losses, "loss": losses["loss"] * (torch.nan if (rank, step) == (1, 1) else 1)}

    with mock.patch.object(PriorTask, "_losses", poisoned):
        train(sharded_run(source), out=folder / "poisoned", tokenizer=folder / "tokenizer", device="cpu")
    notes["used"] = used(folder, folder / "used")
    said = io.StringIO()
    with redirect_stderr(said):
        notes["refused"] = [command_line(["info", str(folder / "prior")]), said.getvalue()]

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
    """Becomes several processes and works in all."""
    folder, port, world = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    save_model(tiny.classifier(), folder / "judge.safetensors")
    for number, image in enumerate(tiny.images(5)):
        save_png(image, folder / "photos" / f"{number}.png", {})
    (folder / "photos" / "1-broken.png").write_bytes(b"no picture")
    rank, others = 0, list[int]()
    for number in range(1, world):
        if rank == 0 and not (child := os.fork()):
            rank = number
        elif rank == 0:
            others.append(child)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
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
        code = max(code, *(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) for other in others))
    os._exit(code)


if __name__ == "__main__":
    main()
