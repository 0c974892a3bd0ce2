"""Training a prior from codes on disk, and encoding every batch on the fly.

The tokenizer is the original's of factor 16 at 256x256 pixels (preset `f16-tokenizer`, random weights), the prior has 6
layers of width 512 over 256 tokens, batch 2. Both sides read, augment and train with the same steps on the same
samples: ours from the folder that `vqgan encode --data` writes, the reference from PNGs. The first losses of both are
compared bit for bit.

    python benchmarks/codes.py [--quick] [--json PATH]
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from timing import compare, parse_arguments, report
from vqgan.conditioning import UnconditionalConfig
from vqgan.data import FolderConfig
from vqgan.data.codes import CodesSource
from vqgan.data.loader import training_batches
from vqgan.images import save_png
from vqgan.prior import PriorShape
from vqgan.runs import resolve
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.training.encoding import encode_samples
from vqgan.training.engine import Engine
from vqgan.training.observer import to_device
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.training.run import DataConfig, PriorRun, open_sources
from vqgan.training.started import synthesizer_config
from vqgan.training.task import LoopConfig
from vqgan.types import Batch

BATCH, IMAGES = 2, 13
"""One of the images is held out."""

QUICK = (
    "tokenizer.autoencoder.base_channels=32",
    "tokenizer.autoencoder.latent_channels=32",
    "tokenizer.autoencoder.resolution=32",
    "data.image_size=[32,32]",
)


class Side:
    """A prior's training, step by step, on batches of one kind."""

    def __init__(self, run: PriorRun, tokenizer: Tokenizer, batches: Iterator[Batch]) -> None:
        torch.manual_seed(0)
        synthesizer = Synthesizer(synthesizer_config(run, tokenizer))
        synthesizer.tokenizer.load_state_dict(tokenizer.state_dict(), strict=True)
        engine = Engine()
        self.task = PriorTask(
            synthesizer.to(engine.device), run.task, loop=run.training, engine=engine, seed=0
        )
        self.batches, self.losses = batches, list[float]()

    def step(self) -> None:
        """Reads a batch and trains on it."""
        batch = to_device(next(self.batches), self.task.engine.device)
        self.losses.append(float(self.task.train_step([batch], len(self.losses))["loss"]))


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    first = resolve("f16-tokenizer", QUICK if arguments.quick else ())
    shape = PriorShape(depth=1, width=32, num_heads=2) if arguments.quick else None
    side = first.data.image_size[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = torch.rand(IMAGES, 3, side, side * 5 // 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
        for number, image in enumerate(noise):
            save_png(image, folder / "images" / f"{number}.png")
        source = FolderConfig(path=str(folder / "images"))
        run = PriorRun(
            conditioner=UnconditionalConfig(),
            prior=shape or PriorShape(depth=6, width=512, num_heads=8),
            task=PriorTaskConfig(optimizer=OptimizerConfig(learning_rate=1e-4, betas=(0.9, 0.95))),
            data=DataConfig(source=source, image_size=first.data.image_size, flip=True),
            training=LoopConfig(steps=1000, batch_size=BATCH),
        )
        torch.manual_seed(0)
        tokenizer = Tokenizer(first.tokenizer).to(Engine().device).eval()
        begun = time.perf_counter()
        encode_samples(run, tokenizer, folder / "codes")
        encoding = time.perf_counter() - begun
        images, _ = open_sources(run.data)
        codes, transform = CodesSource(folder / "codes"), run.data.transform(tokenizer.image_channels)
        ours = Side(run, tokenizer, codes.training_batches(0, batch_size=BATCH))
        theirs = Side(run, tokenizer, training_batches(images, transform, batch_size=BATCH, seed=0))
        what = f"prior step from codes, {side}x{side}"
        row = compare(what, ours=ours.step, reference=theirs.step, amount=BATCH, unit="images/s", repeats=5)
        assert ours.losses == theirs.losses, "the losses differ"
    more = {"encoding_seconds": encoding, "encoded": len(images) + 1, "equal_losses": len(ours.losses)}
    report([row], quick=arguments.quick, path=arguments.json, more=more)


if __name__ == "__main__":
    main()
