"""``vqgan reconstruct``, ``encode`` and ``decode``: images to codes and back."""

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan import runs
from vqgan.checkpoints.codes import load_codes, save_codes
from vqgan.cli import commands, training_commands
from vqgan.cli.flags import named_values
from vqgan.cli.inputs import different, find_images, load_tokenizer, read_named
from vqgan.cli.outputs import check_targets, print_paths, settings_text, side_by_side
from vqgan.cli.progress import ProgressBar
from vqgan.errors import ConfigError, DataError, require
from vqgan.evaluation.psnr import pixels_psnr
from vqgan.images import Pixels, in_colours, printable, save_labels, save_png, smaller, to_uint8
from vqgan.tokenizer import Tokenizer, check_decoding, decode_within, encode_within
from vqgan.training.encoding import encode_samples
from vqgan.training.run import PriorRun
from vqgan.types import Progress

logger = logging.getLogger(__name__)

MAX_SHEET_IMAGES, MAX_SHEET_SIDE = 32, 256
"""The comparison sheet shows at most this many images, with a longer side of at most this many pixels."""


def encode(flags: training_commands.Encode) -> None:
    """Encodes; prints the paths of the two files, or the folder of a prior's samples."""
    if flags.for_ is not None:
        return _encode_samples(flags, flags.for_)
    found, out = find_images(flags.images), Path(flags.out)
    inputs = [path for _, path in found]
    check_targets(out, ["codes.npy", "codes.json"], inputs, overwrite=flags.overwrite)
    tokenizer, _, digest, memory = load_tokenizer(flags)
    codes: dict[str, np.ndarray] = {}
    sizes: list[tuple[int, int]] = []
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(found, flags.size, tokenizer, flags.fit):
            # What padding added is not part of the image.
            height, width = map(min, each.size, each.images.shape[2:])
            grid = encode_within(tokenizer, each.images, memory, bar)[0].cpu().numpy()
            if codes and grid.shape != next(iter(codes.values())).shape:
                before = "x".join(map(str, sizes[-1]))
                problem = (
                    f"`{printable(each.path)}` has {height}x{width} pixels, the images before it {before}"
                )
                raise DataError(problem, hint="bring them to one size with `--size HEIGHTxWIDTH`")
            codes[each.name] = grid
            sizes.append((height, width))
            bar(Progress("encode", len(codes), len(found)))
    array = np.stack(list(codes.values()))
    path = save_codes(out, array, list(codes), tokenizer, digest=digest, sizes=sizes)
    print_paths([path, path.with_suffix(".json")])


def _encode_samples(flags: training_commands.Encode, run: str) -> None:
    """Encodes the samples of a prior's training."""
    overrides = [each for each in flags.set if each.startswith("data.")]
    flags.set = [each for each in flags.set if each not in overrides]
    overrides += [f"data.image_size={list(flags.size)}"] if flags.size else []
    beside = named_values("--condition", flags.condition, is_needed=False)
    settings = runs.resolve(run, overrides, data=flags.data, conditions=beside)
    if not isinstance(settings, PriorRun):
        raise ConfigError(f"`{run}` trains no prior", hint="give `--for` the preset or file of a prior")
    what = f"`--precision` is {flags.precision}, but training encodes in fp32"
    require(flags.precision == "fp32", what, hint="omit it: other codes would be learned")
    tokenizer, out = load_tokenizer(flags)[0], Path(flags.out)
    with ProgressBar() as bar:
        encode_samples(settings, tokenizer, out, copies=flags.copies, seed=flags.seed, on_progress=bar)
    print_paths([out])


def decode(flags: commands.Decode) -> None:
    """Decodes; prints the paths of the results."""
    out = Path(flags.out)
    tokenizer, header, digest, memory = load_tokenizer(flags)
    codes, names, sizes = load_codes(Path(flags.codes), digest=digest)
    check_targets(out, [f"{name}.png" for name in names], overwrite=flags.overwrite)
    grids = torch.from_numpy(codes.astype("int64"))
    check_decoding(tokenizer, (grids.shape[1], grids.shape[2]), memory)
    info = settings_text(flags, header, tokenizer)
    paths: list[Path] = []
    with ProgressBar() as bar, torch.no_grad():
        for part in grids.split(flags.batch_size):
            for image in decode_within(tokenizer, part, memory, bar):
                height, width = sizes[len(paths)] if sizes else image.shape[1:]
                path = out / f"{names[len(paths)]}.png"
                paths.append(_save(image[:, :height, :width].float().cpu(), path, info, tokenizer))
            bar(Progress("decode", len(paths), len(grids)))
    print_paths(paths)


def reconstruct(flags: commands.Reconstruct) -> None:
    """Reconstructs; prints the paths of the results."""
    found, out = find_images(flags.images), Path(flags.out)
    names = [*(name for name, _ in found), *["comparison"] * flags.compare]
    targets = [f"{name}.png" for name in different(names)]
    check_targets(out, targets, [path for _, path in found], overwrite=flags.overwrite)
    tokenizer, header, _, memory = load_tokenizer(flags)
    info = settings_text(flags, header, tokenizer)
    paths, numbers = [], []
    name, what = (
        ("accuracy", "labels kept: %.4f") if tokenizer.config.label_names else ("psnr", "PSNR %.2f dB")
    )
    shown: list[Pixels] = []
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(found, flags.size, tokenizer, flags.fit):
            height, width = each.size
            rows, columns = each.images.shape[2:]
            check_decoding(tokenizer, tokenizer.grid_size((rows, columns)), memory)
            indices = encode_within(tokenizer, each.images, memory, bar)
            result = decode_within(tokenizer, indices, memory, bar)[0, :, :height, :width].float().cpu()
            before, after = (_shown(x, tokenizer) for x in (each.images[0, :, :height, :width], result))
            is_same = (before == after).all(axis=2)  # labels have different colours
            numbers.append(float(is_same.mean()) if name == "accuracy" else pixels_psnr(before, after))
            text = {**info, name: f"{numbers[-1]:.{4 if name == 'accuracy' else 2}f}"}
            paths.append(_save(result, out / f"{each.name}.png", text, tokenizer))
            if flags.compare and len(shown) < 2 * MAX_SHEET_IMAGES:
                shown += [smaller(before, MAX_SHEET_SIDE), smaller(after, MAX_SHEET_SIDE)]
            bar(Progress("reconstruct", len(paths), len(found)))
            logger.info(f"`%s`: {what}", printable(each.path), numbers[-1])
    logger.info(f"{what} in the mean of %d", sum(numbers) / len(numbers), len(numbers))
    if flags.compare:
        paths.append(save_png(side_by_side(shown), out / targets[-1], info))
    print_paths(paths)


def _save(image: Float[Tensor, "c H W"], path: Path, info: dict[str, str], tokenizer: Tokenizer) -> Path:
    """Writes a decoded image; of a tokenizer of label maps, the most likely labels."""
    if tokenizer.config.label_names:
        return save_labels(image.argmax(dim=0), path, info)
    return save_png(image, path, info)


def _shown(image: Float[Tensor, "k H W"], tokenizer: Tokenizer) -> Pixels:
    """A picture of an image; of a label map, in colours."""
    if tokenizer.config.label_names:
        image = in_colours(image.argmax(dim=0)[None])[0]
    return to_uint8(image).numpy()
