"""``vqgan sample`` and ``vqgan complete``: new images, and the rest of given ones."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.format import Header
from vqgan.cli import commands
from vqgan.cli.conditions import Asked, asked_of
from vqgan.cli.inputs import find_images, kept_pixels, load_synthesizer, memory_of, read_named
from vqgan.cli.judging import Judging, judging_of
from vqgan.cli.outputs import check_frames, check_targets, print_paths, settings_text, side_by_side
from vqgan.cli.processes import at_once, own, rank, together, world
from vqgan.cli.progress import ProgressBar
from vqgan.evaluation.growth import Frames, write_rows
from vqgan.images import TilePyramid, printable, read_pixels, save_png, smaller
from vqgan.inpainting import inpaint, least_likely
from vqgan.output_files import make_folder
from vqgan.sampling import SamplingSettings
from vqgan.synthesizer import Synthesizer
from vqgan.types import Condition, DrawnTokens, Images, OnProgress, Progress

logger = logging.getLogger(__name__)

MAX_GRID_IMAGES, MAX_GRID_SIDE = 64, 512
"""The overview shows at most this many images, with a longer side of at most this many pixels: all of thousands would
be larger than what can be looked at, and than the memory."""

Wanted = tuple[str, Mapping[str, str], Any]
"""An image to be drawn: its file's name, what its file says beside the settings, and what it is drawn from."""


def sample(flags: commands.Sample) -> None:
    """Samples; prints the paths of the images."""
    out = Path(flags.out)
    check_frames(out / "frames", flags.frames, overwrite=flags.overwrite)
    model, header = load_synthesizer(flags)
    asked = asked_of(flags, model)
    wanted = [each for each in asked.classes for _ in range(flags.count)]
    names = [f"{number:06d}.png" for number in range(len(wanted))]
    tiles = [each for name in names for each in TilePyramid.names(Path(name).stem)]
    check_targets(out, [*names, *(tiles if flags.zoom else ["grid.png"])], overwrite=flags.overwrite)
    if flags.temperature == 0 and flags.count > 1:
        of_class = " of a class" if wanted[0] else ""
        logger.warning("at `--temperature 0` all %d images%s are the same", flags.count, of_class)

    if flags.zoom:
        _draw_rows(flags, model, header, asked, list(zip(names, wanted, strict=True)))
        return

    info = [{**asked.text, **_text(each)} for each in wanted]
    judging = judging_of(flags, model, [{**asked.shared, **each} for each in wanted], info)

    def draw(part: Sequence[Condition], **settings: Any) -> Images:
        condition = {**asked.shared, **{name: [each[name] for each in part] for name in part[0]}}
        start = settings["seed"] - flags.seed
        beam = None if judging is None else judging.beam_for(start, len(part))
        pictures = model.sample(len(part), asked.size, condition, beam=beam, **settings)
        if judging is not None:
            judging.score(start, pictures)
        return pictures

    images = zip(names, info, wanted, strict=True)
    _draw(flags, model, header, images, count=len(wanted), draw=draw, overview=asked.text, judging=judging)


def _draw_rows(
    flags: commands.Sample,
    model: Synthesizer,
    header: Header,
    asked: Asked,
    wanted: Sequence[tuple[str, Condition]],
) -> None:
    """Draws one image after the other, each written while it is decoded; prints the paths of pictures and pages."""
    out, memory, paths = Path(flags.out), memory_of(flags, model.tokenizer), dict[str, list[Path]]()
    make_folder(out)
    channels, size = model.tokenizer.image_channels, asked.size_for(model)
    with ProgressBar() as bar:
        for number, (name, condition) in own([*enumerate(wanted)]):
            settings = SamplingSettings(seed=flags.seed + number, **_settings(flags))
            text = {**settings_text(flags, header, model), "size": f"{size[0]}x{size[1]}"}
            info = {**text, "seed": str(settings.seed), **asked.text, **_text(condition)}
            whole = {**asked.shared, **condition}
            bands = model.sample_rows(size, whole, settings, memory=memory, on_progress=bar)
            frames = None if number else flags.frames
            paths[name] = write_rows(bands, out / name, size, channels=channels, info=info, frames=frames)
    print_paths(path for each in together(paths, [name for name, _ in wanted]).values() for path in each)


def complete(flags: commands.Complete) -> None:
    """Completes; prints the paths of the results."""
    found, out = find_images(flags.images), Path(flags.out)
    keep = flags.keep or "top=0.5"
    inputs = [*(path for _, path in found), Path(keep)]
    check_frames(out / "frames", flags.frames, inputs, overwrite=flags.overwrite)
    check_targets(out, [f"{name}.png" for name, _ in found], inputs, overwrite=flags.overwrite)
    model, header = load_synthesizer(flags)
    asked = asked_of(flags, model)
    condition = asked.only()
    tokenizer, size = model.tokenizer, asked.size_for(model)
    tokenizer.grid_size(size)
    mask = kept_pixels(keep, size) if flags.redraw is None else None
    more: dict[str, Any] = {"margin": flags.margin, "paste": not flags.no_paste, "refine": flags.refine}

    def draw(part: Sequence[Any], **settings: Any) -> Images:
        images, memory = torch.cat([*part]), settings["memory"]
        if mask is not None:
            kept = mask.expand(len(part), -1, -1)
        else:
            kept = least_likely(model, images, flags.redraw or 0, condition, memory=memory)
        return inpaint(model, images, kept, condition, **more, **settings)

    info = {"keep": printable(keep)} if flags.redraw is None else {"redraw": str(flags.redraw)}
    info |= {**asked.text, **_text(asked.classes[0])}
    images = ((f"{each.name}.png", info, each.images) for each in read_named(found, size, tokenizer))
    _draw(flags, model, header, images, count=len(found), draw=draw)


def _text(condition: Condition) -> dict[str, str]:
    return {name: str(value) for name, value in condition.items()}


def _settings(flags: commands.Drawing) -> dict[str, Any]:
    """How every image is drawn, beside its seed."""
    names = ("temperature", "top_k", "top_p", "jacobi", "window_stride")
    return {"guidance": flags.scales, **{name: getattr(flags, name) for name in names}}


def _draw(
    flags: commands.Drawing,
    model: Synthesizer,
    header: Header,
    images: Iterable[Wanted],
    *,
    count: int,
    draw: Callable[..., Images],
    overview: Mapping[str, str] | None = None,
    judging: Judging | None = None,
) -> None:
    """Draws batch after batch, writes each image as soon as it is drawn, and prints all paths.

    Args:
        flags: How they are drawn; image ``i`` has the seed ``flags.seed + i``, and ``flags.frames`` follow the first.
        model: What draws.
        header: Of its file.
        images: What is drawn.
        count: Their number, or more where some cannot be read.
        draw: Draws a batch, given what each image is drawn from, with the settings of ``Synthesizer.sample``.
        overview: Also write the first images side by side as ``grid.png``, with this beside the first one's settings.
        judging: Scores each image in ``draw``; all but the best are removed at the end.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    out, text = Path(flags.out), settings_text(flags, header, model)
    tokenizer, memory = model.tokenizer, memory_of(flags, model.tokenizer)
    make_folder(out)  # now, not when everything is drawn
    written, grown, frames, rest = dict[int, Path](), list[Path](), None, iter(images)
    size, number = at_once(flags.batch_size, count), 0
    with ProgressBar() as bar:
        while part := list(islice(rest, size)):
            done, number = number, number + len(part)
            if done // size % world() != rank():
                continue
            if flags.frames is not None and not done:
                first = {**text, "seed": str(flags.seed), **part[0][1]}
                frames = Frames(tokenizer, out / "frames", memory=memory, count=flags.frames, info=first)
            pictures = draw(
                [given for _, _, given in part],
                **_settings(flags),
                seed=flags.seed + done,
                memory=memory,
                on_progress=partial(_report, bar, frames, done, len(part), count),
            )
            for index, (picture, (name, info, _)) in enumerate(zip(pictures, part, strict=True), done):
                image, (height, width) = picture.float().cpu(), picture.shape[1:]
                text |= {"size": f"{height}x{width}", "seed": str(flags.seed + index)}
                written[index] = save_png(image, out / name, {**text, **info})
                if frames is not None:
                    grown, frames = frames.finish(image), None
    paths = [*together(written, range(number)).values()]
    if judging is not None:
        paths = judging.keep(paths)
    if overview is not None and rank() == 0:
        text.update(overview, seed=str(flags.seed))
        paths.append(save_png(_overview(paths, tokenizer.image_channels), out / "grid.png", text))
    print_paths([*paths, *grown])


def _overview(paths: Sequence[Path], channels: int) -> Float[Tensor, "c R C"]:
    """The first pictures, as they were written: in grey, RGB or RGBA."""
    channels = 1 if channels < 3 else min(channels, 4)
    first = (read_pixels(path, channels) for path in paths[:MAX_GRID_IMAGES])
    return side_by_side([smaller(each, MAX_GRID_SIDE) for each in first])


def _report(
    bar: OnProgress, frames: Frames | None, done: int, part: int, count: int, progress: Progress
) -> None:
    """Shows the tokens of the next ``part`` images as a part of all ``count``; frames follow the first image."""
    if not isinstance(progress, DrawnTokens):
        bar(progress)
        return
    of_each = progress.total // part
    bar(Progress("tokens", done * of_each + progress.step, of_each * count))
    if frames is not None:
        frames(progress)
