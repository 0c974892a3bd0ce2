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
from vqgan.conditioning import ClassLabel
from vqgan.data.atari import play_actions
from vqgan.dreaming import dream as dreamed
from vqgan.dreaming import frames_read
from vqgan.errors import require
from vqgan.evaluation.growth_page import GrowthPage, earlier_files
from vqgan.images import fit, read_pixels, save_png, to_float, with_channels
from vqgan.output_files import make_folder
from vqgan.synthesizer import Synthesizer
from vqgan.types import ACTION, Images, previous


def dream(flags: commands.Dream) -> None:
    """Dreams; prints the paths of the frames, the animation and the page."""
    out, words = Path(flags.out), class_values(flags.actions, flag="--actions")
    names = [f"{number:06d}.png" for number in range(len(words))]
    check_targets(out, names, overwrite=flags.overwrite)
    check_targets(
        out / "frames", [each.name for each in earlier_files(out / "frames")], overwrite=flags.overwrite
    )
    model, header = load_synthesizer(flags)
    before, parts = frames_read(model), {part.name: part for part in model.conditioner.parts}
    action, memory, paths = parts.get(ACTION), memory_of(flags, model.tokenizer), list[Path]()
    numbers = [0] * len(words)
    if isinstance(action, ClassLabel):
        words = class_values(flags.actions, action.config.class_names, flag="--actions")
        numbers = action.tokens({ACTION: words}, len(words), (1, 1))[:, 0].tolist()
    starts, truth = _game(flags, numbers, action, max(before), model)
    apart, (height, width) = [ACTION, *map(previous, before)], starts[0].shape[2:]
    asked = asked_of(replace(flags, size=(height, width)), model, apart)
    settings = {name: getattr(flags, name) for name in ("temperature", "top_k", "top_p", "seed")}
    text = {**settings_text(flags, header, model), "start": flags.start, "actions": flags.actions}
    with ProgressBar() as bar:
        frames = dreamed(
            model,
            starts,
            numbers,
            asked.only(),
            guidance=flags.scales,
            memory=memory,
            on_progress=bar,
            **settings,
        )
        make_folder(out)
        page = GrowthPage(out / "frames", text, title="A dreamed game")
        for step, (name, word, frame) in enumerate(zip(names, words, frames, strict=True)):
            own = {**text, "seed": str(flags.seed + step), "action": str(word)}
            image = frame[0].float().cpu()
            paths.append(save_png(image, out / name, own))
            beside = [truth[step] if step < len(truth) else torch.ones_like(image)] if truth else []
            shown = torch.cat([image, *beside], dim=2)
            what = f"frames, after {word}" + "; left the dream, right the game" * bool(truth)
            page.add(shown, step + 1, len(names), what)
        print_paths([*paths, *page.finish(tuple(shown.shape), (1, 1))])


def _game(
    flags: commands.Dream, actions: Sequence[int], action: object, count: int, model: Synthesizer
) -> tuple[list[Images], list[torch.Tensor]]:
    """The frames to start from, and the true frames (c H W) after them, as far as they are known."""
    channels = model.tokenizer.image_channels
    kind, _, game = flags.start.partition(":")
    if kind == "atari" and game:
        title, _, before = game.partition("@")
        held = [0] * count
        if before and isinstance(action, ClassLabel):
            words = class_values(before, action.config.class_names, flag="--start")
            held = action.tokens({ACTION: words}, len(words), (1, 1))[:, 0].tolist()
        played = play_actions(title, [*held, *actions])
        pixels, given = [with_channels(each, channels) for each in played], len(held)
    else:
        pixels = [read_pixels(path, channels) for _, path in find_images([flags.start])]
        given = min(count, len(pixels))
    sizes = {each.shape[:2] for each in pixels}
    require(
        len(sizes) == 1,
        f"the frames of `{flags.start}` have the sizes {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}, expected one",
        hint="give frames of one game",
    )
    fitted = [fit(each, flags.size) if flags.size else each for each in pixels[: given + len(actions)]]
    frames = to_float(np.stack(fitted))
    return [*frames[:given, None]], [*frames[given:]]
