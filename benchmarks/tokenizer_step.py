"""How much a training step of the tokenizer gains from passing through every network once.

The reference is the step as it is usually written, and as in the original, on the same networks: a forward pass of the
tokenizer for its own update and another for the discriminator's, the adaptive weight by two gradients at the last layer
through the perceptual network and the discriminator, and then the backward pass of each loss.

    python benchmarks/tokenizer_step.py [--quick] [--json PATH]
"""

import sys

from timing import compare, parse_arguments, peak_memory_row, print_peak_memory, report
from train import Step, textbook_update, tokenizer_task


def step(side: str, *, quick: bool) -> Step:
    """A step of the task, as training runs it; or the same networks in a textbook's."""
    task, batch = tokenizer_task(quick=quick, with_perceptual=True)
    reference = textbook_update(task, batch, freezes=False)
    return reference if side == "reference" else lambda: task.train_step([batch], 0)


def main() -> None:
    if "--peak" in sys.argv:
        side, quick = sys.argv[sys.argv.index("--peak") + 1], "--quick" in sys.argv
        print_peak_memory(lambda: step(side, quick=quick))
        return
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    time_row = compare(
        "tokenizer step, 1 x 32x32" if quick else "tokenizer step, 4 x 128x128",
        ours=step("ours", quick=quick),
        reference=step("reference", quick=quick),
        amount=1 if quick else 4,
        unit="images/s",
        repeats=2 if quick else 5,
    )
    memory_row = peak_memory_row(__file__, "ours", "reference", quick=quick)
    report([time_row, memory_row], quick=quick, path=arguments.json)


if __name__ == "__main__":
    main()
