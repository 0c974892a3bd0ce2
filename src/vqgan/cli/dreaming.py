"""``vqgan dream``: a game played inside a prior."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from msgspec import structs
from torch import Tensor

from vqgan.cli import commands
from vqgan.cli.conditions import asked_of, class_values
from vqgan.cli.inputs import find_images, load_synthesizer, memory_of
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.progress import ProgressBar
from vqgan.conditioning import ClassLabel
from vqgan.data import open_source, parse_source
from vqgan.data.atari import AtariConfig
from vqgan.data.grand_challenge import GrandChallengeConfig
from vqgan.dreaming import dream as dreamed
from vqgan.dreaming import frames_read
from vqgan.errors import require
from vqgan.evaluation.growth_page import GrowthPage, earlier_files
from vqgan.images import Pixels, fit, read_pixels, save_png, to_float, with_channels
from vqgan.output_files import make_folder
from vqgan.types import ACTION, previous


def dream(flags: commands.Dream) -> None:
    """Dreams; prints the paths of the frames, the animation and the page."""
    out, words = Path(flags.out), class_values(flags.actions, flag="--actions")
    names = [f"{number:06d}.png" for number in range(len(words))]
    frames_there = [f"frames/{path.name}" for path in earlier_files(out / "frames")]
    game = parse_source(flags.start)
    given = [] if isinstance(game, AtariConfig) else _files(flags)
    check_targets(out, [*names, *frames_there], given, overwrite=flags.overwrite)
    model, header = load_synthesizer(flags)
    before, memory = frames_read(model), memory_of(flags, model.tokenizer)
    action = next(part for part in model.conditioner.parts if part.name == ACTION)
    assert isinstance(action, ClassLabel), "an action is a class"
    words = class_values(flags.actions, action.config.class_names, flag="--actions")
    numbers = action.tokens({ACTION: words}, len(words), (1, 1))[:, 0].tolist()
    if isinstance(game, AtariConfig):
        held = game.actions or (0,) * max(before)
        pixels, count = _played(structs.replace(game, actions=(*held, *numbers))), len(held)
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


def _files(flags: commands.Dream) -> list[Path]:
    """The frames to start from, and those of the true game after them."""
    # Screens of the Atari Grand Challenge follow each other faster than the images that training takes of them.
    is_recorded = Path(flags.start).resolve().parent.parent.name == "screens"
    every = flags.every or (GrandChallengeConfig(path="").every if is_recorded else 1)
    return [path for _, path in find_images([flags.start])][::every]


def _played(game: AtariConfig) -> list[Pixels]:
    """The frames of a game after each action."""
    require(
        len(game.games) == 1, f"`--start` names {len(game.games)} games, expected one game", hint="name one"
    )
    source = open_source(structs.replace(game, max_frames=len(game.actions)))
    return [source.read(index).pixels for index in range(len(source))]


def _fitted(flags: commands.Dream, pixels: Sequence[Pixels]) -> Float[Tensor, "b c rows columns"]:
    sizes = {each.shape[:2] for each in pixels}
    require(
        len(sizes) == 1,
        f"the frames of `{flags.start}` have the sizes {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}, expected one",
        hint="give frames of one game",
    )
    return to_float(np.stack([fit(each, flags.size) if flags.size else each for each in pixels]))
