"""``vqgan imagine``: pictures from words."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vqgan.checkpoints.format import tokenizer_of
from vqgan.checkpoints.load import load_with_header
from vqgan.cli.conditions import Asked, asked_of
from vqgan.cli.flags import Size, named_values
from vqgan.cli.imagine_flags import Imagine
from vqgan.cli.inputs import find_images, memory_of
from vqgan.cli.outputs import check_targets, print_paths, settings_text
from vqgan.cli.progress import ProgressBar
from vqgan.config import from_mapping
from vqgan.errors import ConfigError, require
from vqgan.evaluation.growth_page import earlier_files
from vqgan.images import check_film, picture_size, printable, read_images, save_film
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
from vqgan.sampling import check_seed
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import Condition, Images, Indices, next_sizes

_STARTS: dict[str, Callable[[torch.Generator, Size], Images]] = {
    "noise": lambda generator, size: 2 * torch.rand(1, 3, *size, generator=generator) - 1,
    "gradient": lambda generator, size: F.interpolate(
        2 * torch.rand(1, 3, 2, 2, generator=generator) - 1, size, mode="bilinear", align_corners=True
    ),
}
"""Pictures to begin with: random pixels, and colours that change evenly between random corners."""

_FREE = ("model", "out", "config", "set", "device", "overwrite", "seed", "film", "resume")
"""Flags that decide nothing about a picture, or are told in other words."""


def imagine(flags: Imagine) -> None:
    """Draws; prints the paths of pictures, films and reports."""
    check_seed(flags.seed, flags.count)
    out, story, config = Path(flags.out), _story(flags), _config(flags)
    if flags.film:
        check_film(f"film.{flags.film}")
    is_named = flags.start in ("codes", "sample", *_STARTS)
    found = [] if is_named else find_images([flags.start])
    require(is_named or flags.count == 1, "`--count` is given beside pictures to start from", hint="omit it")
    names = [Path(name).name for name, _ in found] or [f"{number:06d}" for number in range(flags.count)]
    wanted = [Results(out, names, every=flags.every, film=flags.film)]
    if len(found) > 1:
        wanted = [replace(wanted[0], folder=out / name, names=[Path(name).name]) for name, _ in found]
    _check(flags, wanted, [path for _, path in found])
    model, header = load_with_header(
        Path(flags.model), flags.config, flags.set, device=flags.device, precision=flags.precision
    )
    if not isinstance(model, Synthesizer):
        model = tokenizer_of(model, flags.model)
    sizes = _sizes(flags, model, [path for _, path in found])
    judge = open_judge(flags.judge, flags.device)
    paths, pictures = list[Path](), list[Path]()
    with ProgressBar() as bar:
        for number, (results, size) in enumerate(zip(wanted, sizes, strict=True)):
            asked = _condition(flags, model, size)
            start = read_images(found[number][1], flags.size) if found else _start(flags, model, size, asked)
            request = Request([story], start, flags.seed, asked)
            imagining = Imagining(model, judge, request=request, config=config, memory=flags.memory_bytes)
            text = {**settings_text(flags, header, model), **_text(flags)}
            text |= {"picture": printable(found[number][0])} if found else {}
            written = draw(imagining, replace(results, text=text), resume=flags.resume, on_progress=bar)
            paths, pictures = [*paths, *written], [*pictures, written[0]]
    if flags.film and len(found) > 1:
        paths.append(save_film(pictures, out / f"film.{flags.film}"))
    print_paths(paths)


def _sizes(flags: Imagine, model: Tokenizer | Synthesizer, paths: Sequence[Path]) -> list[Size]:
    """Of the pictures of each drawing; all to start from are looked at before the first is drawn."""
    factor = (model if isinstance(model, Tokenizer) else model.tokenizer).downsample_factor
    sizes = [flags.size or picture_size(path) for path in paths]
    for path, (height, width) in zip(paths, sizes, strict=True):
        fits = height % factor == width % factor == 0
        expected = f"multiples of {factor}" if not fits else "those of the first, for a film"
        require(
            (fits or flags.variables == "pixels") and not (flags.film and sizes[0] != (height, width)),
            f"`{printable(path)}` has {height}x{width} pixels, expected {expected}",
            hint=f"fit pictures by `--size HEIGHTxWIDTH`; {next_sizes((height, width), factor)}",
        )
    if paths:
        return sizes
    if isinstance(model, Synthesizer):
        return [Asked(size=flags.size).size_for(model)]
    shape = model.config.autoencoder
    return [flags.size or ((256, 256) if shape is None else (shape.resolution, shape.resolution))]


def _story(flags: Imagine) -> Story:
    texts = parse_story(printable(flags.prompts)) if flags.prompts else ((),)
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
    shift = _numbers("--shift", flags.shift)
    require(
        len(shift) == 2, f"`--shift` is `{flags.shift}`, expected two numbers", hint="write `--shift 1,0`"
    )
    changes = {
        name: numbers if len(numbers := _numbers(f"--augment {name}=", text)) > 1 else numbers[0]
        for name, text in named_values("--augment", flags.augment).items()
    }
    names = "optimizer", "learning_rate", "average", "keep_start", "prior_weight"
    chapters = flags.prompts.count("^") + 1
    mapping: dict[str, Any] = {
        **{name: getattr(flags, name) for name in names},
        "steps": flags.steps if flags.steps_each is None else flags.steps_each * chapters,
        "variables": {"kind": flags.variables},
        "cut_outs": {"count": flags.cuts, "power": flags.cut_power, **changes},
        "motion": {"zoom": flags.zoom, "turn": flags.turn, "shift": shift, "every": flags.every},
    }
    config: ImagineConfig = from_mapping(mapping, ImagineConfig, where="the flags")
    return config


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        what = f"`{flag}` is `{text}`, expected numbers"
        raise ConfigError(what, hint="write `--augment noise=0.1`, `--shift 1,0`") from None


def _check(flags: Imagine, wanted: Sequence[Results], inputs: Sequence[Path]) -> None:
    """Raises ConfigError if a result would replace an input or what vqgan did not write, or another run."""
    inputs = [*inputs, *(Path(parse_prompt(text).text) for text in flags.image_prompt)]
    out, film = Path(flags.out), f"film.{flags.film}"
    if len(wanted) > 1:
        require(
            not out.resolve().is_relative_to(Path(flags.start).resolve()),
            f"the results in `{printable(out)}` would be among the pictures of `{printable(flags.start)}`",
            hint="give another folder with `--out`",
        )
        check_targets(out, [film], inputs, overwrite=flags.overwrite or flags.resume)
    for results in wanted:
        begun = (results.folder / "state").exists()
        require(
            flags.resume or flags.overwrite or not begun,
            f"`{printable(results.folder)}` holds pictures that were begun before",
            hint="add `--resume` to go on with them, `--overwrite` to begin anew, or give another folder",
        )
        frames = {folder: [film, *(each.name for each in earlier_files(folder))] for folder in results.frames}
        files = {results.folder: ["report.html", *(f"{name}.png" for name in results.names)], **frames}
        for folder, names in files.items():
            check_targets(folder, names, inputs, overwrite=flags.overwrite or begun)


def _condition(flags: Imagine, model: Tokenizer | Synthesizer, size: Size) -> Condition | None:
    """What steers the prior, if it is needed."""
    is_needed = flags.prior_weight or flags.start == "sample"
    require(
        bool(is_needed or not (flags.class_ or flags.condition)),
        "`--class` or `--condition` is given, but no prior judges or begins",
        hint="add `--prior-weight 0.1` or `--start sample`, or omit it",
    )
    if not isinstance(model, Synthesizer) or not is_needed:
        return None
    return asked_of(replace(flags, size=size), model).only()


def _start(
    flags: Imagine, model: Tokenizer | Synthesizer, size: Size, condition: Condition | None
) -> Images | Indices:
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
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
    return random_codes(tokenizer, tokenizer.grid_size(size), count=flags.count, seed=flags.seed)


def _text(flags: Imagine) -> dict[str, str]:
    """Text chunks for every picture: all that decides about it."""
    given = {
        each.name.rstrip("_"): getattr(flags, each.name) for each in fields(flags) if each.name not in _FREE
    }
    joined = {
        name: " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in given.items()
    }
    return {**{name: printable(text) for name, text in joined.items()}, "first_seed": str(flags.seed)}
