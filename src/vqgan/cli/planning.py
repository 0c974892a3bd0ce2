"""``vqgan plan``: what a training needs on each device."""

from vqgan import planning
from vqgan.cli import training_commands
from vqgan.types import duration


def plan(flags: training_commands.Plan) -> None:
    """Prints the prediction and, where it does not fit, what would need less."""
    found = planning.plan(
        flags.preset,
        tokenizer=flags.tokenizer,
        overrides=flags.set,
        devices=flags.devices,
        memory=None if flags.memory is None else int(min(flags.memory, 2**20) * 2**30),
        device=flags.device,
        precision=flags.precision,
    )
    loop, needed = found.run.training, sum(found.peak.values())
    print(f"batch       {flags.devices} x {loop.accumulate} x {loop.share(flags.devices)} images", end="")
    print(" (devices, micro-batches, images of each)")
    print("parameters  " + ", ".join(f"{name} {count:,}" for name, count in found.parameters.items()))
    print(f"operations  {found.flops / 1e12:.3g} TFLOP a step on each device")
    if found.seconds is not None:
        whole = duration(found.seconds * loop.steps)
        print(f"time        {found.seconds:.3g} s a step, {whole} for {loop.steps:,}")
    print("memory      at the peak      at most")
    for part, most in sorted(found.largest.items(), key=lambda item: -item[1]):
        print(f"  {part:<11}{_size(found.peak[part]):>10}   {_size(most):>10}")
    print(f"  {'together':<11}{_size(needed):>10}")
    if found.memory is not None:
        verdict = "fits in" if needed <= found.memory else "does NOT fit in"
        print(f"{verdict} {_size(found.memory)}")
        if needed > found.memory:
            more = "`--set training.accumulate=N` or `--precision bf16` needs less"
            print(f"hint: `--set training.recompute=true`, {more}")


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"
