"""``vqgan score``: how probable each part of images is."""

import logging
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vqgan.cli import commands
from vqgan.cli.conditions import asked_of
from vqgan.cli.inputs import find_images, load_synthesizer, memory_of, read_named
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.processes import own, together
from vqgan.cli.progress import ProgressBar
from vqgan.images import Pixels, printable, save_png, to_float, to_uint8
from vqgan.output_files import make_folder, replace_file, write_json
from vqgan.types import Progress

logger = logging.getLogger(__name__)


def score(flags: commands.Score) -> None:
    """Scores; prints the paths of the results."""
    found, out = find_images(flags.images), Path(flags.out)
    targets = [f"{name}{ending}" for name, _ in found for ending in (".png", ".npy", ".json")]
    check_targets(out, targets, [path for _, path in found], overwrite=flags.overwrite)
    model, header = load_synthesizer(flags)
    asked, tokenizer = asked_of(flags, model), model.tokenizer
    condition = asked.only()
    memory, text = memory_of(flags, tokenizer), settings_text(flags, header, model)
    guess = math.log(tokenizer.codebook_size)
    make_folder(out)
    mine, paths = own(found), dict[str, Path]()
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(mine, asked.size, tokenizer, "crop"):
            height, width = each.images.shape[2:]
            scores = -model.log_probability(each.images, condition, memory=memory)
            nats = scores.view(tokenizer.grid_size((height, width))).float().cpu().numpy()
            mean = float(nats.mean())
            table = {
                "codebook_size": tokenizer.codebook_size,
                "mean_nats": mean,
                "model": header.digest,
                "size": [height, width],
            }
            path = out / f"{each.name}.png"
            paths[each.name] = path
            replace_file(path.with_suffix(".npy"), partial(_save, nats))
            write_json(path.with_suffix(".json"), table)
            shown = heat_map(to_uint8(each.images[0]).numpy(), nats / guess)
            save_png(to_float(shown), path, {**text, "mean_nats": f"{mean:.4f}"})
            logger.info("`%s`: %.3f nats a token, a guess has %.3f", printable(each.path), mean, guess)
            bar(Progress("score", len(paths), len(mine)))
    written = together(paths, [name for name, _ in found])
    print_paths(
        name
        for path in written.values()
        for name in (path, path.with_suffix(".npy"), path.with_suffix(".json"))
    )


def _save(nats: Float[np.ndarray, "h w"], path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, nats, allow_pickle=False)


def heat_map(pixels: Pixels, heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "H W 3"]:
    """An image in grey under the colours of its parts: black 0, then red, yellow, and white from 1 on."""
    factor = pixels.shape[0] // heat.shape[0]
    each = np.kron(heat, np.ones((factor, factor)))[:, :, None]
    colours = np.clip(3 * each - np.arange(3), 0, 1)
    grey = pixels.mean(axis=2, keepdims=True) / 255
    return np.rint(255 * (0.6 * colours + 0.4 * grey)).astype(np.uint8)
