"""``vqgan imagine``: pictures from words."""

from collections.abc import Sequence
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
from vqgan.images import check_film, check_size, picture_size, printable, read_images, save_film
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
from vqgan.output_files import locked, make_folder
from vqgan.sampling import check_seed
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.gradient import check_gradient
from vqgan.types import Images, Indices, next_sizes

_STARTS = ("codes", "sample", "noise", "gradient")

_UNTOLD = ("model", "out", "config", "set", "device", "overwrite", "seed", "film", "resume", "steps_each")
"""Flags that decide nothing about a picture, or are told in other words."""


def imagine(flags: Imagine) -> None:
    """Draws; prints the paths of pictures, films and reports."""
    check_seed(flags.seed, flags.count)
    out, story, config = Path(flags.out), _story(flags), _config(flags)
    if flags.film:
        check_film(f"film.{flags.film}")
    found = [] if flags.start in _STARTS else find_images([flags.start])
    require(not found or flags.count == 1, "`--count` is given beside pictures to start from", hint="omit it")
    names = [[Path(name).name] for name, _ in found] or [[f"{number:06d}" for number in range(flags.count)]]
    folders = [out / name for name, _ in found] if len(found) > 1 else [out]
    wanted = [
        Results(folder, each, every=flags.every, film=flags.film)
        for folder, each in zip(folders, names, strict=True)
    ]
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
            request = _request(flags, model, story, size, found[number][1] if found else None)
            imagining = Imagining(model, judge, request=request, config=config, memory=flags.memory_bytes)
            text = {**settings_text(flags, header, model), **_text(flags, config, size)}
            text |= {"picture": printable(found[number][0])} if found else {}
            make_folder(results.folder)
            with locked(results.folder / ".lock"):
                written = draw(imagining, replace(results, text=text), resume=flags.resume, on_progress=bar)
            paths, pictures = [*paths, *written], [*pictures, written[0]]
    if flags.film and len(found) > 1:
        paths.append(save_film(pictures, out / f"film.{flags.film}"))
    print_paths(paths)


def _sizes(flags: Imagine, model: Tokenizer | Synthesizer, paths: Sequence[Path]) -> list[Size]:
    """Of the pictures of each drawing; all are checked before the first is drawn."""
    tokenizer, sizes = tokenizer_of(model, flags.model), [flags.size or picture_size(path) for path in paths]
    if not paths and isinstance(model, Synthesizer):
        sizes = [Asked(size=flags.size).size_for(model)]
    elif not paths:
        shape = tokenizer.config.autoencoder
        sizes = [flags.size or ((256, 256) if shape is None else (shape.resolution, shape.resolution))]
    factor, is_coded = tokenizer.downsample_factor, flags.variables != "pixels"
    for name, size in zip(list(map(printable, paths)) or ["--size"], sizes, strict=True):
        (rows, rest), (columns, more) = (divmod(side, factor) for side in size)
        fits = not (is_coded and (rest or more))
        expected = "those of the first, for a film" if fits else f"multiples of {factor}"
        require(
            fits and not (flags.film and size != sizes[0]),
            f"`{name}` has {size[0]}x{size[1]} pixels, expected {expected}",
            hint=f"fit pictures by `--size HEIGHTxWIDTH`; {next_sizes(size, factor)}",
        )
        if is_coded:
            check_gradient(tokenizer, (flags.count, rows, columns), memory_of(flags, tokenizer))
        else:
            check_size(size)
    return sizes


def _story(flags: Imagine) -> Story:
    texts = parse_story(printable(flags.prompts)) if flags.prompts else ((),)
    pictures = []
    for prompt in map(parse_prompt, flags.image_prompt):
        image = read_images(prompt.text, channels=3)[0]
        pictures.append(replace(prompt, text=printable(prompt.text), image=image))
    story = tuple((*chapter, *pictures) for chapter in texts)
    hint = 'write `vqgan imagine MODEL "a red car" ...`, or give `--image-prompt FILE`'
    require(all(story), "nothing says what the pictures are to show", hint=hint)
    return story


def _config(flags: Imagine) -> ImagineConfig:
    changes = {
        name: numbers if len(numbers := _numbers(f"--augment {name}=", text)) > 1 else numbers[0]
        for name, text in named_values("--augment", flags.augment).items()
    }
    shift, names = (
        _numbers("--shift", flags.shift),
        ("optimizer", "learning_rate", "average", "keep_start", "prior_weight"),
    )
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
    out, overwrite = Path(flags.out), flags.overwrite or flags.resume
    if len(wanted) > 1:
        require(
            not out.resolve().is_relative_to(Path(flags.start).resolve()),
            f"the results in `{printable(out)}` would be among the pictures of `{printable(flags.start)}`",
            hint="give another folder with `--out`",
        )
        check_targets(out, [f"film.{flags.film}"], inputs, overwrite=overwrite)
    for results in wanted:
        begun = (results.folder / "state").exists()
        require(
            overwrite or not begun,
            f"`{printable(results.folder)}` holds pictures that were begun before",
            hint="add `--resume` to go on with them, `--overwrite` to begin anew, or give another folder",
        )
        files = [
            results.folder / name for name in ("report.html", *(f"{each}.png" for each in results.names))
        ]
        for folder in results.frames:
            files += [folder / f"film.{flags.film}", *earlier_files(folder)]
        check_targets(Path(), map(str, files), inputs, overwrite=flags.overwrite or begun)


def _request(
    flags: Imagine, model: Tokenizer | Synthesizer, story: Story, size: Size, path: Path | None
) -> Request:
    """What is asked for, beginning with the picture of a path if there is one."""
    begins, tokenizer, condition = flags.start == "sample", tokenizer_of(model, flags.model), None
    require(
        bool(flags.prior_weight or begins or not (flags.class_ or flags.condition)),
        "`--class` or `--condition` is given, but no prior judges or begins",
        hint="add `--prior-weight 0.1` or `--start sample`, or omit it",
    )
    if isinstance(model, Synthesizer) and (flags.prior_weight or begins):
        condition = asked_of(replace(flags, size=size), model).only()
    if path is not None:
        start: Images | Indices = read_images(path, flags.size)
    elif begins and isinstance(model, Synthesizer):
        memory = memory_of(flags, tokenizer)
        start = (
            model.sample(flags.count, size, condition, seed=flags.seed, memory=memory).float().clamp(-1, 1)
        )
    elif begins:
        raise ConfigError("`--start sample` needs a prior", hint="open a run of a prior, or start otherwise")
    elif flags.start == "codes":
        start = random_codes(tokenizer, tokenizer.grid_size(size), count=flags.count, seed=flags.seed)
    else:
        # Noise is random in each pixel, a gradient at its corners alone.
        sides = size if flags.start == "noise" else (2, 2)
        generators = (torch.Generator().manual_seed(flags.seed + number) for number in range(flags.count))
        drawn = torch.cat([2 * torch.rand(1, 3, *sides, generator=each) - 1 for each in generators])
        start = F.interpolate(drawn, size, mode="bilinear", align_corners=True)
    return Request([story], start, flags.seed, condition)


def _text(flags: Imagine, config: ImagineConfig, size: Size) -> dict[str, str]:
    """Text chunks for every picture: all that decides about it."""
    given = {each.name: getattr(flags, each.name) for each in fields(flags) if each.name not in _UNTOLD}
    given |= {"steps": config.steps, "size": f"{size[0]}x{size[1]}", "first_seed": flags.seed}
    return {
        name.rstrip("_"): printable(" ".join(value) if isinstance(value, list | tuple) else value)
        for name, value in given.items()
    }
