"""``vqgan evaluate``: how good a model is, on images that it was not trained on."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from vqgan import quality
from vqgan.cli import training_commands
from vqgan.cli.flags import named_values
from vqgan.cli.outputs import check_targets, print_paths
from vqgan.cli.processes import require_alone
from vqgan.cli.progress import ProgressBar
from vqgan.evaluation.numbers import compared
from vqgan.output_files import make_folder, replace_file
from vqgan.quality.page import FILES, PICTURES, read_evaluation, write_evaluation
from vqgan.sampling import SamplingSettings

logger = logging.getLogger(__name__)


def evaluate(flags: training_commands.Evaluate) -> None:
    """Measures; prints the numbers, beside those of an earlier evaluation, and the paths of the results."""
    require_alone("evaluate")
    out = Path(flags.out)
    batches = (
        {"real": "reference.npz", "rebuilt": "reconstructions.npz", "drawn": "samples.npz"}
        if flags.npz
        else {}
    )
    check_targets(
        out, [*FILES, *(f"{name}.png" for name in PICTURES), *batches.values()], overwrite=flags.overwrite
    )
    before = None if flags.against is None else read_evaluation(Path(flags.against))
    settings = SamplingSettings(
        flags.temperature, flags.top_k, flags.top_p, flags.seed, guidance=flags.scales
    )
    with ProgressBar() as bar:
        found = quality.evaluate(
            flags.model,
            flags.data,
            size=flags.size,
            images=flags.images,
            samples=flags.samples,
            features=flags.features,
            reference=flags.reference,
            lpips=flags.lpips,
            judge=named_values("--judge", flags.judge, is_needed=False),
            settings=settings,
            config=flags.config,
            overrides=flags.set,
            memory=flags.memory_bytes,
            device=flags.device,
            precision=flags.precision,
            on_progress=bar,
        )
    own = found.conventions, found.numbers
    lines = [
        f"{part} {name}: {each.text()}" for part, numbers in own[1].items() for name, each in numbers.items()
    ]
    if before is not None:
        both = compared(before, own)
        lines = [f"{part} {name}: {now.text()}, before {then.text()}" for part, name, then, now in both]
    make_folder(out)
    paths = write_evaluation(out, found)
    for name, file in batches.items():
        if name in found.pictures:
            pixels = found.pictures[name]
            replace_file(out / file, partial(_save, pixels))
            paths.append(out / file)
    for note in found.notes:
        logger.warning("%s", note)
    for line in lines:
        print(line)
    print_paths(paths)


def _save(pixels: np.ndarray, path: Path) -> None:
    """As the public evaluator of guided diffusion reads it: 8-bit values (n, H, W, 3), named ``arr_0``."""
    with path.open("wb") as file:
        np.savez(file, arr_0=pixels)
