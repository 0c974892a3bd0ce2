"""``vqgan imagine``: pictures from words."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vqgan.checkpoints.format import tokenizer_of
from vqgan.checkpoints.load import load_with_header
from vqgan.cli.conditions import asked_of
from vqgan.cli.flags import Size, named_values
from vqgan.cli.imagine_flags import Imagine
from vqgan.cli.inputs import find_images, memory_of
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.progress import ProgressBar
from vqgan.config import from_mapping
from vqgan.errors import ConfigError, require
from vqgan.evaluation.growth_page import earlier_files
from vqgan.images import check_film, printable, read_images, save_film
from vqgan.imagine import (
    ImagineConfig,
    Imagining,
    Request,
    Story,
    open_judge,
    parse_prompt,
    parse_story,
    random_codes,
)
from vqgan.imagine.run import Results, draw
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import Condition, Images, Indices

_STARTS: dict[str, Callable[[torch.Generator, Size], Images]] = {
    "noise": lambda generator, size: 2 * torch.rand(1, 3, *size, generator=generator) - 1,
    "gradient": lambda generator, size: F.interpolate(
        2 * torch.rand(1, 3, 2, 2, generator=generator) - 1, size, mode="bilinear", align_corners=True
    ),
}
"""Pictures to begin with: random pixels, and colours that change evenly between random corners."""


def imagine(flags: Imagine) -> None:
    """Draws; prints the paths of pictures, films and reports."""
    out, story, config = Path(flags.out), _story(flags), _config(flags)
    if flags.film:
        check_film(f"film.{flags.film}")
    is_named = flags.start in ("codes", "sample", *_STARTS)
    found = [] if is_named else find_images([flags.start])
    names = [name for name, _ in found] or [f"{number:06d}" for number in range(flags.count)]
    require(is_named or flags.count == 1, "`--count` is given beside pictures to start from", hint="omit it")
    folders = [out / name for name in names] if len(found) > 1 else [out]
    _check(flags, names, folders, [path for _, path in found])
    model, header = load_with_header(
        Path(flags.model), flags.config, flags.set, device=flags.device, precision=flags.precision
    )
    if not isinstance(model, Synthesizer):
        model = tokenizer_of(model, flags.model)
    judge = open_judge(flags.judge, flags.device)
    paths, results = list[Path](), list[Path]()
    with ProgressBar() as bar:
        for number, folder in enumerate(folders):
            size = flags.size or _usual(model)
            if found:
                start: Images | Indices = read_images(found[number][1], flags.size)
                size = (start.shape[2], start.shape[3])
            asked = _condition(flags, model, size)
            if not found:
                start = _start(flags, model, size, asked)
            request = Request([story], start, flags.seed, asked)
            imagining = Imagining(model, judge, request=request, config=config, memory=flags.memory_bytes)
            own = names[number : number + 1] if found else names
            text = {**settings_text(flags, header, model), **_text(flags, own if found else ())}
            wanted = Results(folder, own, every=flags.every, text=text, film=flags.film)
            written = draw(imagining, wanted, resume=flags.resume, on_progress=bar)
            paths, results = [*paths, *written], [*results, *written[: len(own)]]
    if flags.film and len(found) > 1:
        paths.append(save_film(results, out / f"film.{flags.film}"))
    print_paths(paths)


def _usual(model: Tokenizer | Synthesizer) -> Size:
    """The size of the pictures that the model was trained on."""
    if isinstance(model, Synthesizer):
        rows, columns = model.config.window
        return rows * model.tokenizer.downsample_factor, columns * model.tokenizer.downsample_factor
    sizes = model.config.autoencoder
    return (256, 256) if sizes is None else (sizes.resolution, sizes.resolution)


def _story(flags: Imagine) -> Story:
    texts = parse_story(flags.prompts) if flags.prompts else ((),)
    pictures = []
    for text in flags.image_prompt:
        prompt = parse_prompt(text)
        pictures.append(
            replace(prompt, text=printable(prompt.text), image=read_images(prompt.text, channels=3)[0])
        )
    story = tuple((*chapter, *pictures) for chapter in texts)
    hint = 'write `vqgan imagine MODEL "a red car" ...`, or give `--image-prompt FILE`'
    require(all(story), "nothing says what the pictures are to show", hint=hint)
    return story


def _config(flags: Imagine) -> ImagineConfig:
    steps = flags.steps if flags.steps_each is None else flags.steps_each * (flags.prompts.count("^") + 1)
    shift = flags.shift.split(",")
    try:
        right, down = map(float, shift)
    except ValueError:
        raise ConfigError(
            f"`--shift` is `{flags.shift}`, expected two numbers", hint="write `--shift 1,0`"
        ) from None
    changes = {name: _number(text, name) for name, text in named_values("--augment", flags.augment).items()}
    cuts = {"count": flags.cuts, "power": flags.cut_power, **changes}
    mapping: Mapping[str, Any] = {
        **{
            name: getattr(flags, name)
            for name in ("optimizer", "learning_rate", "average", "keep_start", "prior_weight")
        },
        "steps": steps,
        "variables": {"kind": flags.variables},
        "cut_outs": cuts,
        "motion": {"zoom": flags.zoom, "turn": flags.turn, "shift": [right, down], "every": flags.every},
    }
    config: ImagineConfig = from_mapping(mapping, ImagineConfig, where="the flags")
    return config


def _number(text: str, name: str) -> float | list[float]:
    try:
        numbers = [float(each) for each in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"`--augment {name}=` is `{text}`, expected a number", hint="write `--augment noise=0.1`"
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]


def _check(flags: Imagine, names: list[str], folders: list[Path], inputs: list[Path]) -> None:
    """Raises ConfigError if a result would replace an input or what vqgan did not write, or another run."""
    for folder in folders:
        kinds = ["png", *([flags.film] if flags.film else [])]
        check_targets(
            folder, [f"{name}.{kind}" for name in names for kind in kinds], inputs, overwrite=flags.overwrite
        )
        check_targets(folder / "frames", [each.name for each in earlier_files(folder / "frames")])
        require(
            flags.resume or flags.overwrite or not (folder / "state").exists(),
            f"`{printable(folder)}` holds pictures that were begun before",
            hint="add `--resume` to go on with them, `--overwrite` to begin anew, or give another folder",
        )


def _condition(flags: Imagine, model: Tokenizer | Synthesizer, size: Size) -> Condition | None:
    """What steers the prior, if it is needed."""
    if not isinstance(model, Synthesizer) or not (flags.prior_weight or flags.start == "sample"):
        return None
    asked = asked_of(replace(flags, size=size), model)
    return asked.only()


def _start(
    flags: Imagine, model: Tokenizer | Synthesizer, size: Size, condition: Condition | None
) -> Images | Indices:
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    grid = tokenizer.grid_size(size)
    if flags.start == "sample":
        if not isinstance(model, Synthesizer):
            raise ConfigError(
                "`--start sample` needs a prior", hint="open a run of a prior, or start otherwise"
            )
        memory = memory_of(flags, tokenizer)
        return model.sample(flags.count, size, condition, seed=flags.seed, memory=memory).float().clamp(-1, 1)
    if flags.start in _STARTS:
        generators = [torch.Generator().manual_seed(flags.seed + number) for number in range(flags.count)]
        return torch.cat([_STARTS[flags.start](generator, size) for generator in generators])
    return random_codes(tokenizer, grid, count=flags.count, seed=flags.seed)


def _text(flags: Imagine, start: list[str] | tuple[()]) -> dict[str, str]:
    """Text chunks for every picture: all that decides about it."""
    names = (
        "prompts", "judge", "start", "keep_start", "steps", "steps_each", "optimizer", "learning_rate", "variables",
        "average", "cuts", "cut_power", "prior_weight", "zoom", "turn", "shift", "every", "count", "class_",
    )  # fmt: skip
    text = {name.rstrip("_"): str(getattr(flags, name)) for name in names}
    for name in ("image_prompt", "augment", "condition"):
        text[name] = " ".join(getattr(flags, name))
    size = "" if flags.size is None else "x".join(map(str, flags.size))
    return {**text, "size": size, "first_seed": str(flags.seed), **({"picture": start[0]} if start else {})}
