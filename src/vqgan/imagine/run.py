"""A folder of pictures drawn from words: pictures, frames, films and a report; it goes on where it was killed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.errors import printable, require
from vqgan.evaluation.growth_page import GrowthPage
from vqgan.evaluation.report import Chart, render_report
from vqgan.images import save_film, save_png
from vqgan.imagine.imagining import Imagining
from vqgan.output_files import write_text
from vqgan.types import OnProgress, Progress

Row = dict[str, float]
"""The number of a step and its values."""

_TITLE = "How a picture came from words"

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
            page.go_on(saved.number, "steps")
    else:
        _show(imagining, pages)
    while imagining.done < steps:
        values = imagining.step()
        similarity = zip(imagining.prompts, imagining.similarity.mean(dim=0).tolist(), strict=True)
        row = {**values, **{f"similarity: {each.text}": value for each, value in similarity}}
        rows.append({"step": float(imagining.done), **row})
        if on_progress is not None:
            on_progress(Progress("imagining", imagining.done, steps, row))
        if imagining.done % results.every == 0 or imagining.done == steps:
            _show(imagining, pages)
            state = {"text": dict(results.text), "rows": rows}
            folder.commit(imagining.done, {"imagining": imagining.tensors()}, state)
    return list(_finish(imagining, results, pages, rows))


def _require_same(begun: Mapping[str, str], now: Mapping[str, str], folder: Path) -> None:
    for name in sorted({*begun, *now}):
        require(
            begun.get(name) == now.get(name),
            f"`{name}` is {now.get(name)}, but the pictures in `{printable(folder)}` were begun with {begun.get(name)}",
            hint="repeat the command as it was, or give another folder",
        )


def _show(imagining: Imagining, pages: Sequence[GrowthPage]) -> None:
    for page, image in zip(pages, imagining.images().float().cpu(), strict=True):
        page.add(image, imagining.done, imagining.config.steps, "steps")


def _finish(
    imagining: Imagining, results: Results, pages: Sequence[GrowthPage], rows: Sequence[Row]
) -> Iterator[Path]:
    images = imagining.images().float().cpu()
    info = [{**results.text, "seed": str(imagining.request.seed + number)} for number in range(len(images))]
    files = [
        save_png(image, results.folder / f"{name}.png", text)
        for image, name, text in zip(images, results.names, info, strict=True)
    ]
    yield from files
    for page in pages:
        yield from page.finish(tuple(images.shape[1:]), (1, 1))
        if results.film:
            yield save_film(page.paths, page.paths[0].with_name(f"film.{results.film}"))
    report = results.folder / "report.html"
    write_text(report, _report(imagining, results, files, rows))
    yield report


def _report(imagining: Imagining, results: Results, files: Sequence[Path], rows: Sequence[Row]) -> str:
    prompts = {
        each.text: each for story in imagining.request.stories for chapter in story for each in chapter
    }
    alike, losses = (
        {name: [(row["step"], row[key]) for row in rows if key in row] for name, key in wanted.items()}
        for wanted in (
            {text: f"similarity: {text}" for text in prompts},
            {name: name for name in ("loss", "prompts", "keep_start", "prior")},
        )
    )
    table = [
        (text, f"{line[-1][1]:.3f}", f"{line[0][1]:.3f} at its first step; weight {prompts[text].weight:g}")
        for text, line in alike.items()
        if line
    ]
    return render_report(
        "Pictures from words",
        paragraphs=[
            "The similarity of a picture and a prompt is the cosine of the angle between their embeddings, the mean "
            f"over the cut-outs of a step and over {len(files)} pictures.",
        ],
        rows=table,
        tables={"Settings": [("setting", "value"), *results.text.items()]},
        pictures={file: file.name for file in files},
        charts={"Similarity": Chart("cosine", alike, "step"), "Loss": Chart("", losses, "step")},
    )
