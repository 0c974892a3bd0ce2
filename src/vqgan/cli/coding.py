"""``vqgan reconstruct``, ``encode`` and ``decode``: images to codes and back."""

import logging
from collections.abc import Iterable
from itertools import pairwise
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
from vqgan.cli.processes import at_once, own, rank, require_alone, together
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


_Encoded = tuple[Path, np.ndarray, tuple[int, int]]
"""An image's file, its codes, its height and width."""


def encode(flags: training_commands.Encode) -> None:
    """Encodes; prints the paths of the two files, or the folder of a prior's samples."""
    if flags.for_ is not None:
        require_alone("encode --for")
        return _encode_samples(flags, flags.for_)
    found, out = find_images(flags.images), Path(flags.out)
    inputs = [path for _, path in found]
    check_targets(out, ["codes.npy", "codes.json"], inputs, overwrite=flags.overwrite)
    tokenizer, _, digest, memory = load_tokenizer(flags)
    mine, done = own(found), dict[str, _Encoded]()
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(mine, flags.size, tokenizer, flags.fit):
            # What padding added is not part of the image.
            height, width = map(min, each.size, each.images.shape[2:])
            grid = encode_within(tokenizer, each.images, memory, bar)[0].cpu().numpy()
            done[each.name] = (each.path, grid, (height, width))
            _require_one_size([next(iter(done.values())), done[each.name]])
            bar(Progress("encode", len(done), len(mine)))
    done = together(done, [name for name, _ in found])
    _require_one_size(done.values())
    path = out / "codes.npy"
    if rank() == 0:
        _, grids, sizes = zip(*done.values(), strict=True)
        save_codes(out, np.stack(grids), list(done), tokenizer, digest=digest, sizes=sizes)
    print_paths([path, path.with_suffix(".json")])


def _require_one_size(images: Iterable[_Encoded]) -> None:
    for (_, first, before), (path, grid, size) in pairwise(images):
        if grid.shape != first.shape:
            what = "has {}x{} pixels, the images before it {}x{}".format(*size, *before)
            raise DataError(
                f"`{printable(path)}` {what}", hint="bring them to one size with `--size HEIGHTxWIDTH`"
            )


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
    paths: dict[str, Path] = {}
    parts = torch.arange(len(grids)).split(at_once(flags.batch_size, len(grids)))
    with ProgressBar() as bar, torch.no_grad():
        for part in own(parts):
            images = decode_within(tokenizer, grids[part], memory, bar)
            for number, image in zip(part.tolist(), images, strict=True):
                height, width = sizes[number] if sizes else image.shape[1:]
                path, image = out / f"{names[number]}.png", image[:, :height, :width].float().cpu()
                paths[names[number]] = _save(image, path, info, tokenizer)
            bar(Progress("decode", int(part[-1]) + 1, len(grids)))
    print_paths(together(paths, names).values())


def reconstruct(flags: commands.Reconstruct) -> None:
    """Reconstructs; prints the paths of the results."""
    found, out = find_images(flags.images), Path(flags.out)
    names = [*(name for name, _ in found), *["comparison"] * flags.compare]
    targets = [f"{name}.png" for name in different(names)]
    check_targets(out, targets, [path for _, path in found], overwrite=flags.overwrite)
    tokenizer, header, _, memory = load_tokenizer(flags)
    info = settings_text(flags, header, tokenizer)
    mine, done = own(found), dict[str, tuple[Path, float]]()
    name, what = (
        ("accuracy", "labels kept: %.4f") if tokenizer.config.label_names else ("psnr", "PSNR %.2f dB")
    )
    shown: dict[str, list[Pixels]] = {}
    with ProgressBar() as bar, torch.no_grad():
        for each in read_named(mine, flags.size, tokenizer, flags.fit):
            height, width = each.size
            rows, columns = each.images.shape[2:]
            check_decoding(tokenizer, tokenizer.grid_size((rows, columns)), memory)
            indices = encode_within(tokenizer, each.images, memory, bar)
            result = decode_within(tokenizer, indices, memory, bar)[0, :, :height, :width].float().cpu()
            before, after = (_shown(x, tokenizer) for x in (each.images[0, :, :height, :width], result))
            is_same = (before == after).all(axis=2)  # labels have different colours
            number = float(is_same.mean()) if name == "accuracy" else pixels_psnr(before, after)
            text = {**info, name: f"{number:.{4 if name == 'accuracy' else 2}f}"}
            done[each.name] = (_save(result, out / f"{each.name}.png", text, tokenizer), number)
            if flags.compare and len(shown) < MAX_SHEET_IMAGES:
                shown[each.name] = [smaller(before, MAX_SHEET_SIDE), smaller(after, MAX_SHEET_SIDE)]
            bar(Progress("reconstruct", len(done), len(mine)))
            logger.info(f"`%s`: {what}", printable(each.path), number)
    paths, numbers = zip(*together(done, names).values(), strict=True)
    shown = together(shown, names)
    if rank() == 0 and flags.compare:
        sheet = [picture for both in [*shown.values()][:MAX_SHEET_IMAGES] for picture in both]
        paths = (*paths, save_png(side_by_side(sheet), out / targets[-1], info))
    logger.info(f"{what} in the mean of %d", sum(numbers) / len(numbers), len(numbers))
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
