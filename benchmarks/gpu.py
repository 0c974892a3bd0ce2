"""Everything that needs a CUDA card, the most important first: tests, sampling, large images, training, words.

Each step is a separate process with a time limit. Results are written after each step, so a later one that hangs loses
nothing. It needs neither network nor installation: ``PYTHONPATH=src`` is enough.

    python benchmarks/gpu.py [--quick] [--device cpu] [--seconds 480] [--json PATH]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "gpu.json"


def steps(*, quick: bool, device: str) -> dict[str, tuple[list[str], int]]:
    """Name of each step, its command and its time limit in seconds."""
    small = ["--quick"] if quick else []
    units = ["prior/test_recorded.py", "tokenizer/test_streaming.py", "images/test_edges.py"]
    units += ["imagine/test_on_cuda.py", "sampling/test_beam.py", "conditioning/test_text.py"]
    tests = [f"tests/unit/{name}" for name in units]
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "cuda or graph"]
    return {
        "tests": ([*pytest, *tests], 150),
        "sampling": ([str(HERE / "sample.py"), *small], 150),
        "images": ([__file__, "--images", device, *small], 90),
        "training": ([str(HERE / "tokenizer_step.py"), *small], 60),
        "prior": ([__file__, "--prior", device, *small], 60),
        "words": ([__file__, "--words", device, *small], 60),
        "likelihood": ([str(HERE / "trained_prior.py"), *small], 60),
    }


def run(name: str, command: list[str], seconds: float) -> dict[str, Any]:
    """One step: what it wrote, or how it failed."""
    wanted = Path(os.environ.get("TMPDIR", "/tmp")) / f"vqgan-gpu-{os.getpid()}-{name}.json"
    arguments = [] if "pytest" in command else ["--json", str(wanted)]
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    begun = time.perf_counter()
    row: dict[str, Any] = {"command": " ".join(command)}
    try:
        done = subprocess.run(
            [sys.executable, *command, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        row |= {"code": done.returncode, "output": done.stdout.splitlines()[-40:]}
        if done.returncode:
            row["error"] = done.stderr.splitlines()[-20:]
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        row |= {"code": None, "error": [f"stopped after {seconds:.0f} s"]}
        row["output"] = (output.decode() if isinstance(output, bytes) else output).splitlines()[-40:]
    if wanted.exists():
        row["result"] = json.loads(wanted.read_text(encoding="utf-8"))
        wanted.unlink()
    return {**row, "seconds": time.perf_counter() - begun}


def write(path: Path, record: dict[str, Any]) -> None:
    """Replaces the file in one move: a run that is stopped leaves the steps before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def images(device: str, *, quick: bool, path: Path) -> None:
    """Encoding and decoding: whole in fp32 and bf16, and streamed, with memory of the card."""
    import torch

    from streaming import build, decibels, picture
    from timing import compare
    from vqgan.tokenizer import decode_within, encode_within

    on_cuda, rows = device != "cpu", []
    wait = torch.cuda.synchronize if on_cuda else lambda: None
    for side in (64, 128) if quick else (256, 2048):
        for dtype in (torch.float32, torch.bfloat16) if on_cuda else (torch.float32,):
            tokenizer, image = build().to(device, dtype), picture(side).to(device, dtype)
            few = (120 if quick else 1000) * 1_000_000

            def pass_within(memory: int) -> torch.Tensor:
                result = decode_within(tokenizer, encode_within(tokenizer, image, memory), memory)  # noqa: B023
                wait()
                return result

            with torch.no_grad():
                row = compare(
                    f"{side}x{side} {dtype}: in bands and whole",
                    ours=lambda: pass_within(few),  # noqa: B023
                    reference=lambda: pass_within(10**12),
                    amount=1,
                    unit="images/s",
                    repeats=3,
                )
                indices = tokenizer.encode(image)
                alike = decibels(
                    decode_within(tokenizer, indices, few).float(), tokenizer.decode(indices).float()
                )
            peak = torch.cuda.max_memory_allocated() / 1e6 if on_cuda else None
            rows.append({**asdict(row), "signal_to_difference_db": alike, "peak_mb": peak})
            path.write_text(json.dumps(rows), encoding="utf-8")
            print(rows[-1], flush=True)


def prior_step(device: str, *, quick: bool, path: Path) -> None:
    """A training step of a prior, the tokenizer's encoding included, in bf16 and in fp32."""
    import msgspec
    import torch

    from timing import compare
    from vqgan.runs import resolve
    from vqgan.synthesizer import Synthesizer
    from vqgan.tokenizer import Tokenizer
    from vqgan.training.build import synthesizer_config
    from vqgan.training.engine import Engine
    from vqgan.training.prior_task import PriorTask
    from vqgan.types import Batch

    names = ("laptop-prior", "laptop-tokenizer") if quick else ("half-prior", "f16-tokenizer")
    run, codes = map(resolve, names)
    count = 2 if quick else run.training.batch_size
    loop = msgspec.structs.replace(run.training, batch_size=count, accumulate=1)
    images = torch.rand(count, 3, *run.data.image_size, device=device) * 2 - 1
    batch = Batch(images, {}, torch.arange(count))

    def step(precision: str) -> Callable[[], object]:
        synthesizer = Synthesizer(synthesizer_config(run, Tokenizer(codes.tokenizer))).to(device)
        engine = Engine(device, precision)
        task = PriorTask(synthesizer, run.task, loop=loop, engine=engine, seed=0)
        return lambda: {name: value.item() for name, value in task.train_step([batch], 0).items()}

    name, ours, reference = f"prior step, {count} images: bf16 and fp32", step("bf16"), step("fp32")
    row = compare(name, ours=ours, reference=reference, amount=count, unit="images/s", repeats=3)
    path.write_text(json.dumps(asdict(row)), encoding="utf-8")
    print(row, flush=True)


def words(device: str, *, quick: bool, path: Path) -> None:
    """Steps of a picture from words, with a judge of the sizes of CLIP ViT-B/32: seconds, and memory of the card."""
    import torch

    from imagine import whole

    on_cuda, rows = device != "cpu", []
    wait = torch.cuda.synchronize if on_cuda else lambda: None
    for side in (32, 64) if quick else (256, 512, 1024):
        step, seconds = whole("ours", side, quick=quick), []
        if on_cuda:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(4):
            begun = time.perf_counter()
            step()
            wait()
            seconds.append(time.perf_counter() - begun)
        peak = torch.cuda.max_memory_allocated() / 1e6 if on_cuda else None
        rows.append({"work": f"whole step, {side}x{side}", "seconds": seconds[1:], "peak_mb": peak})
        path.write_text(json.dumps(rows), encoding="utf-8")
        print(rows[-1], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="cpu only to try the script"
    )
    parser.add_argument("--seconds", type=float, default=480, help="most seconds for all steps")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go, step by step")
    parser.add_argument("--images", help=argparse.SUPPRESS)
    parser.add_argument("--prior", help=argparse.SUPPRESS)
    parser.add_argument("--words", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.images:
        images(arguments.images, quick=arguments.quick, path=arguments.json)
        return 0
    if arguments.prior:
        prior_step(arguments.prior, quick=arguments.quick, path=arguments.json)
        return 0
    if arguments.words:
        words(arguments.words, quick=arguments.quick, path=arguments.json)
        return 0
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA card here: `--device cpu --quick` tries the script")
        return 2
    from timing import environment

    record: dict[str, Any] = {"quick": arguments.quick, "environment": environment(), "steps": {}}
    begun = time.perf_counter()
    for name, (command, most) in steps(quick=arguments.quick, device=arguments.device).items():
        left = arguments.seconds - (time.perf_counter() - begun)
        row = (
            run(name, command, min(most, left)) if left > 5 else {"code": None, "error": ["not run: no time"]}
        )
        record["steps"][name] = row
        write(arguments.json, record)
        print(f"{name}: {'ok' if row['code'] == 0 else 'FAILED ' + row['error'][-1]}", flush=True)
    failed = [name for name, row in record["steps"].items() if row["code"] != 0]
    print(f"failed or not run: {', '.join(failed) or 'none'}; results in {arguments.json}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
