"""What depends on what a prior has learned: guessing ahead (Jacobi), and half precision.

Jacobi decoding draws the same tokens in fewer passes if the next ones are easy to guess, which random weights cannot
show. The same holds for what bf16 costs in likelihood.

    python benchmarks/trained_prior.py [--model RUN] [--quick] [--json PATH]

``--model`` is the run of a prior without condition, by default the demo's (``make demo``). Its held-out images
are scored.
"""

import argparse
import itertools
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from timing import Row, compare, report
from vqgan.checkpoints.load import load
from vqgan.data import open_source
from vqgan.images import to_float
from vqgan.prior import to_tokens
from vqgan.runs import resolve
from vqgan.sampling import SamplingSettings, fill_grids
from vqgan.synthesizer import Synthesizer
from vqgan.types import Progress

BLOCKS = (4, 8, 16, 32)
IMAGES = 512


class Bench:
    """A trained prior and its measurements."""

    def __init__(self, run: Path, *, quick: bool) -> None:
        self.run, self.quick = run, quick
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load(run, device=self.device)
        assert isinstance(model, Synthesizer)
        self.model = model.eval()

    def draw(
        self, batch: int, jacobi: int | None, seeds: Iterator[int], on_progress: object = None
    ) -> Tensor:
        """New grids of the prior's own size, of the next seed."""
        indices = torch.zeros(batch, *self.model.config.window, dtype=torch.int64, device=self.device)
        return fill_grids(
            self.model.prior,
            self.model.conditioner.tokens(None, batch, self.model.config.window).to(self.device),
            indices,
            indices.bool(),
            window=self.model.config.window,
            lengths=self.model.conditioner.lengths,
            settings=SamplingSettings(seed=next(seeds), jacobi=jacobi),
            memory=2**32,
            on_progress=on_progress,
        )

    def jacobi(self, batch: int, block: int) -> tuple[Row, dict[str, float]]:
        """Blocks of guesses, compared with one token after the other, with the same noise."""
        reports: list[Progress] = []
        ours, reference = itertools.count(0, batch), itertools.count(0, batch)
        guessed, single = (
            torch.cat([draw() for _ in range(3 if self.quick else 10)])
            for draw in (
                partial(self.draw, batch, block, ours, reports.append),
                partial(self.draw, batch, None, reference),
            )
        )
        passes = [float(report.values["passes"]) for report in reports if report.step == report.total]
        row = compare(
            f"Jacobi, blocks of {block}, batch {batch}",
            ours=partial(self.draw, batch, block, ours),
            reference=partial(self.draw, batch, None, reference),
            amount=batch * single[0].numel(),
            unit="tokens/s",
            repeats=2 if self.quick else 7,
        )
        same = float((guessed == single).double().mean())
        return row, {
            "batch": batch,
            "block": block,
            "grids": len(guessed),
            "tokens_per_pass": single[0].numel() * len(passes) / sum(passes),
            "same_tokens": same,
        }

    def likelihood(self) -> list[dict[str, float | str]]:
        """Nats per token of held-out images, by the weights' precision; the codes are those of fp32."""
        run = resolve(self.run / "config.yaml")
        source = open_source(run.data.source).part("heldout")
        count = min(len(source), 64 if self.quick else IMAGES)
        chosen = np.linspace(0, len(source) - 1, count).astype(int)
        images = to_float(np.stack([source.read(int(index)).pixels for index in chosen]))
        with torch.no_grad():
            grids = torch.cat([self.model.tokenizer.encode(part) for part in images.split(64)])
        tokens = to_tokens(grids, self.model.config.token_order)
        condition = self.model.conditioner.tokens(None, len(tokens), self.model.config.window).to(self.device)
        scores, lines = {}, []
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            prior = deepcopy(self.model.prior).to(dtype)
            with torch.no_grad():
                scores[name] = torch.cat(
                    [
                        prior.log_probability(part, seen).double()
                        for part, seen in zip(tokens.split(16), condition.split(16), strict=True)
                    ]
                )
            moved = (scores[name] - scores["fp32"]).abs()
            lines.append(
                {
                    "precision": name,
                    "images": count,
                    "nats_per_token": -float(scores[name].mean()),
                    "mean_change": float(moved.mean()),
                    "largest_change": float(moved.max()),
                }
            )
        return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("runs/demo/prior"), help="the run of a prior")
    parser.add_argument("--quick", action="store_true", help="few images: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    arguments = parser.parse_args()
    if not arguments.model.is_dir():
        print(f"no run of a prior in `{arguments.model}`: `make demo` trains one, or give `--model RUN`")
        return
    bench = Bench(arguments.model, quick=arguments.quick)
    likelihood = bench.likelihood()
    found = [
        bench.jacobi(batch, block) for batch in (1, 8) for block in BLOCKS[: 2 if arguments.quick else 4]
    ]
    passes = [line for _, line in found]
    report(
        [row for row, _ in found],
        quick=arguments.quick,
        path=arguments.json,
        more={"jacobi": passes, "likelihood": likelihood},
    )
    for line in (*passes, *likelihood):
        shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in line.items()}
        print(", ".join(f"{name} {value}" for name, value in shown.items()))


if __name__ == "__main__":
    main()
