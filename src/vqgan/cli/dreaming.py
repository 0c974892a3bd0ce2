"""``vqgan dream``: a game played inside a prior."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vqgan.cli import commands
from vqgan.cli.conditions import asked_of, class_values
from vqgan.cli.inputs import find_images, load_synthesizer, memory_of
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.progress import ProgressBar
from vqgan.conditioning import ClassLabel, Conditioner
from vqgan.data.atari import play_actions
from vqgan.dreaming import dream as dreamed
from vqgan.dreaming import frames_read
from vqgan.errors import require
from vqgan.evaluation.growth_page import GrowthPage, earlier_files
from vqgan.images import Pixels, fit, read_pixels, save_png, to_float, with_channels
from vqgan.output_files import make_folder
from vqgan.types import ACTION, Images, previous


def dream(flags: commands.Dream) -> None:
    """Dreams; prints the paths of the frames, the animation and the page."""
    out, words = Path(flags.out), class_values(flags.actions, flag="--actions")
    names = [f"{number:06d}.png" for number in range(len(words))]
    frames_there = [f"frames/{path.name}" for path in earlier_files(out / "frames")]
    is_game = flags.start.startswith("atari:") and flags.start != "atari:"
    given = [] if is_game else [path for _, path in find_images([flags.start])]
    check_targets(out, [*names, *frames_there], given, overwrite=flags.overwrite)
    model, header = load_synthesizer(flags)
    before, memory = frames_read(model), memory_of(flags, model.tokenizer)
    action = next(part for part in model.conditioner.parts if part.name == ACTION)
    words, numbers = _numbers(action, flags.actions, "--actions")
    if is_game:
        pixels, count = _played(flags.start, numbers, action, max(before))
    else:
        used = given[: max(before) + len(numbers)]
        pixels, count = [read_pixels(path, model.tokenizer.image_channels) for path in used], max(before)
    frames = _fitted(flags, [with_channels(each, model.tokenizer.image_channels) for each in pixels])
    starts, truth = [*frames[:count, None]], [*frames[count : count + len(numbers)]]
    size = (starts[0].shape[2], starts[0].shape[3])
    asked = asked_of(replace(flags, size=size), model, [ACTION, *map(previous, before)])
    settings = {name: getattr(flags, name) for name in ("temperature", "top_k", "top_p", "seed")}
    text = {**settings_text(flags, header, model), "start": flags.start, "actions": flags.actions}
    with ProgressBar() as bar:
        settings |= {"guidance": flags.scales, "memory": memory, "on_progress": bar}
        drawn = dreamed(model, starts, numbers, asked.only(), **settings)
        make_folder(out)
        page, paths = GrowthPage(out / "frames", text, title="A dreamed game"), list[Path]()
        for step, (name, word, frame) in enumerate(zip(names, words, drawn, strict=True)):
            own = {**text, "seed": str(flags.seed + step), "action": str(word)}
            shown = image = frame[0].float().cpu()
            paths.append(save_png(image, out / name, own))
            if truth:
                true = truth[step] if step < len(truth) else torch.ones_like(image)
                shown = torch.cat([image, true], dim=2)
            what = f"frames, after {word}" + "; left the dream, right the game" * bool(truth)
            page.add(shown, step + 1, len(names), what)
        print_paths([*paths, *page.finish(tuple(shown.shape), (1, 1))])


def _numbers(action: Conditioner, text: str, flag: str) -> tuple[list[int | str], list[int]]:
    """Actions as they are given, and their numbers."""
    assert isinstance(action, ClassLabel), "an action is a class"
    words = class_values(text, action.config.class_names, flag=flag)
    return words, action.tokens({ACTION: words}, len(words), (1, 1))[:, 0].tolist()


def _played(start: str, actions: Sequence[int], action: Conditioner, count: int) -> tuple[list[Pixels], int]:
    """The frames of a game from its beginning, and how many of them are before the first action."""
    title, _, before = start.partition(":")[2].partition("@")
    held = _numbers(action, before, "--start")[1] if before else [0] * count
    return [*play_actions(title, [*held, *actions])], len(held)


def _fitted(flags: commands.Dream, pixels: Sequence[Pixels]) -> Images:
    sizes = {each.shape[:2] for each in pixels}
    require(
        len(sizes) == 1,
        f"the frames of `{flags.start}` have the sizes {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}, expected one",
        hint="give frames of one game",
    )
    return to_float(np.stack([fit(each, flags.size) if flags.size else each for each in pixels]))
