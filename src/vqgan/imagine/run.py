"""A folder of pictures drawn from words: pictures, frames, films and a report; it goes on where it was killed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import printable, require
from vqgan.evaluation.growth_page import GrowthPage
from vqgan.evaluation.report import Chart, render_report
from vqgan.images import save_film, save_png
from vqgan.imagine.imagining import Imagining
from vqgan.output_files import write_text
from vqgan.types import Images, OnProgress, Progress

Row = dict[str, float]
"""The number of a step and its values."""

_TITLE = "How a picture came from words"

_SIMILAR = "similarity: "
"""Begins the name of a prompt's number."""

_MOST_FRAMES = 9999
"""Their names have four digits."""


@dataclass(frozen=True)
class Results:
    """What is written.

    Attributes:
        folder: Where.
        names: Of the pictures, without their endings, one for each of a run.
        every: Steps between two frames; after each all is saved.
        text: Text chunks for every picture: all that decides about the result. A run goes on only under the same.
        film: Beside the frames of each picture they are written as a film of this kind: ``gif``, ``webp``, ``mp4``.
    """

    folder: Path
    names: Sequence[str]
    every: int = 50
    text: Mapping[str, str] = field(default_factory=dict)
    film: str | None = None

    @property
    def frames(self) -> list[Path]:
        """The folder of each picture's frames."""
        return [self.folder / ("frames" if len(self.names) == 1 else f"{name}-frames") for name in self.names]


def draw(
    imagining: Imagining, results: Results, *, resume: bool = False, on_progress: OnProgress | None = None
) -> list[Path]:
    """Draws to the last step, and gives the paths of what was written: the pictures first.

    Args:
        imagining: Before its first step.
        results: What is written.
        resume: Go on after the newest step that was saved, if there is one: the result is the same, bit for bit.
        on_progress: Called after every step, with its loss and the similarity to each prompt.

    Raises:
        ConfigError: If the run was begun with other settings, or the folder is that of a training run.
        CheckpointError: If what was saved is damaged.
        DataError: If frames are.
        OutputError: If the disk refuses.
    """
    folder, steps, rows = RunFolder(results.folder), imagining.config.steps, list[Row]()
    pages = [GrowthPage(each, results.text, title=_TITLE) for each in results.frames]
    what = f"`{printable(folder.path)}` is the folder of a training run"
    require(not folder.config.exists(), what, hint="give another folder")
    what = f"`every` is {results.every}, expected at most {_MOST_FRAMES} frames of {steps} steps"
    require(steps < _MOST_FRAMES * results.every, what, hint=f"choose {steps // _MOST_FRAMES + 1} or more")
    if resume:
        folder.clean(0)
    if resume and folder.numbers():
        saved = folder.newest()
        _require_same(saved.values.get("text", {}), results.text, folder.path)
        imagining.load(saved.tensors["imagining"], saved.number)
        rows = saved.values["rows"]
        for page in pages:
            page.go_on([*range(0, saved.number, results.every), saved.number], steps, "steps")
    images = imagining.images().float().cpu()
    if imagining.done == 0:
        _show(images, 0, steps, pages)
    while imagining.done < steps:
        values = imagining.step()
        similarity = zip(imagining.prompts, imagining.similarity.mean(dim=0).tolist(), strict=True)
        row = {**values, **{_SIMILAR + each.text: value for each, value in similarity}}
        rows.append({"step": float(imagining.done), **row})
        if on_progress is not None:
            on_progress(Progress("imagining", imagining.done, steps, row))
        if imagining.done % results.every == 0 or imagining.done == steps:
            images = imagining.images().float().cpu()
            _show(images, imagining.done, steps, pages)
            state = {"text": dict(results.text), "rows": rows}
            folder.commit(imagining.done, {"imagining": imagining.tensors()}, state)
    info = [{**results.text, "seed": str(imagining.request.seed + number)} for number in range(len(images))]
    paths = [
        save_png(image, results.folder / f"{name}.png", text)
        for image, name, text in zip(images, results.names, info, strict=True)
    ]
    report = _report(imagining, results, paths, rows)
    for page in pages:
        paths += page.finish(tuple(images.shape[1:]), (1, 1))
        if results.film:
            paths.append(save_film(page.paths, page.paths[0].with_name(f"film.{results.film}")))
    write_text(folder.report, report)
    return [*paths, folder.report]


def _require_same(begun: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    for name in sorted({*begun, *now}):
        require(
            begun.get(name) == now.get(name),
            f"`{name}` is {now.get(name)}, but the pictures in `{printable(folder)}` were begun with {begun.get(name)}",
            hint="repeat the command as it was, or give another folder",
        )


def _show(images: Images, done: int, steps: int, pages: Sequence[GrowthPage]) -> None:
    for page, image in zip(pages, images, strict=True):
        page.add(image, done, steps, "steps")


def _report(imagining: Imagining, results: Results, files: Sequence[Path], rows: Sequence[Row]) -> str:
    stories, lines = imagining.request.stories, dict[str, list[tuple[float, float]]]()
    weights = {each.text: each.weight for story in stories for chapter in story for each in chapter}
    for row in rows:
        for name, value in row.items():
            lines.setdefault(name, []).append((row["step"], value))
    alike = {text: lines[_SIMILAR + text] for text in weights if _SIMILAR + text in lines}
    others = sorted(name for name in lines if name != "step" and not name.startswith(_SIMILAR))
    losses = {name: lines[name] for name in others}
    return render_report(
        "Pictures from words",
        paragraphs=[
            "The similarity of a picture and a prompt is the cosine of the angle between their embeddings, the mean "
            f"over the cut-outs of a step and over {len(files)} pictures."
        ],
        rows=[
            (text, f"{line[-1][1]:.3f}", f"{line[0][1]:.3f} at its first step; weight {weights[text]:g}")
            for text, line in alike.items()
        ],
        tables={"Settings": [("setting", "value"), *results.text.items()]},
        pictures={file: file.name for file in files},
        charts={"Similarity": Chart("cosine", alike, "step"), "Loss": Chart("", losses, "step")},
    )
