"""Large images in bands of rows, compared with the whole pass: difference, speed and memory.

The original's sizes (72 M parameters, f16) with random weights. ``--long`` adds 4096x4096 pixels.

    python benchmarks/streaming.py [--quick] [--long] [--json PATH]
"""

import json
import math
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timing import compare, environment, parse_arguments
from vqgan.checkpoints.zoo import model_config
from vqgan.tokenizer import Tokenizer, TokenizerConfig, decode_within, encode_within

MEGABYTE = 1_000_000
LONG = "--long"


def build() -> Tokenizer:
    config = model_config("vqgan_imagenet_f16_1024")
    assert isinstance(config, TokenizerConfig)
    torch.manual_seed(0)
    return Tokenizer(config).eval()


def picture(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=generator)
    return F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1) * 2 - 1


def anonymous() -> int:
    """Anonymous memory of the process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


class Peak:
    """Peak anonymous memory while entered, sampled every ten milliseconds."""

    def __enter__(self) -> "Peak":
        self.bytes, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, anonymous())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@torch.no_grad()
def print_peak(side: int, memory: int) -> None:
    """The work of a separate process."""
    tokenizer = build()
    tokenizer.decode(tokenizer.encode(picture(32)))  # libraries load what they need
    before, image = anonymous(), picture(side)
    with Peak() as peak:
        begun = time.perf_counter()
        indices = encode_within(tokenizer, image, memory)
        encoded, encode_peak = time.perf_counter(), peak.bytes
        result = decode_within(tokenizer, indices, memory)
        ended = time.perf_counter()
    row = {
        "work": f"{side}x{side}",
        "budget_mb": memory / MEGABYTE,
        "encode_peak_mb": (encode_peak - before) / MEGABYTE,
        "peak_mb": (peak.bytes - before) / MEGABYTE,
        "encode_seconds": encoded - begun,
        "decode_seconds": ended - encoded,
        "finite": bool(result.isfinite().all()),
    }
    print(json.dumps(row))


def measured_peak(side: int, memory: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--peak", str(side), str(memory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(done.stdout.strip(), flush=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def decibels(values: Tensor, others: Tensor) -> float:
    return 10 * math.log10(float(others.double().var() / (values - others).double().square().mean()))


@torch.no_grad()
def main() -> None:
    if "--peak" in sys.argv:
        print_peak(*map(int, sys.argv[sys.argv.index("--peak") + 1 :][:2]))
        return
    is_long = LONG in sys.argv
    if is_long:
        sys.argv.remove(LONG)
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    side, memory = (128, 150 * MEGABYTE) if quick else (1024, 600 * MEGABYTE)
    tokenizer, image = build(), picture(side)
    indices = tokenizer.encode(image)
    rows = []
    for name, ours, reference in (
        ("encode", lambda: encode_within(tokenizer, image, memory), lambda: tokenizer.encode(image)),
        ("decode", lambda: decode_within(tokenizer, indices, memory), lambda: tokenizer.decode(indices)),
    ):
        work = f"{name} {side}x{side}, in bands and whole"
        rows.append(
            compare(
                work, ours=ours, reference=reference, amount=1, unit="images/s", repeats=1 if quick else 3
            )
        )
        print(json.dumps(asdict(rows[-1])), flush=True)
    decoded, streamed = tokenizer.decode(indices), decode_within(tokenizer, indices, memory)
    alike = {
        "side": side,
        "signal_to_difference_db": decibels(streamed, decoded),
        "largest_difference": float((streamed - decoded).abs().max() / decoded.abs().max()),
        "codes_equal": float((encode_within(tokenizer, image, memory) == indices).float().mean()),
    }
    print(json.dumps(alike), flush=True)
    peaks = [measured_peak(side, 10**11), measured_peak(side, memory)]
    peaks += [] if quick else [measured_peak(2048, 1000 * MEGABYTE)]
    peaks += [measured_peak(4096, 2000 * MEGABYTE)] if is_long else []
    if arguments.json is not None:
        record = {
            "quick": quick,
            "environment": environment(),
            "rows": [asdict(row) for row in rows],
            "alike": alike,
            "memory": peaks,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
