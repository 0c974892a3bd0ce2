"""``vqgan compare``: runs beside each other, by the files in their folders."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli import training_commands
from vqgan.config import flattened, to_mapping
from vqgan.errors import printable, require
from vqgan.evaluation.report import NUM_COLOURS, Chart, line_of, read_rows, render_report
from vqgan.output_files import write_text
from vqgan.training.report import CHARTS, MEANINGS, newest_pictures, number_text, warning_tables
from vqgan.training.run import read_run

logger = logging.getLogger(__name__)


def compare(flags: training_commands.Compare) -> None:
    """Writes the page; prints the loss, what was measured on held-out images, and the page's path."""
    paths, out = [*map(Path, flags.runs)], Path(flags.out)
    require(out.suffix == ".html", f"`--out` is `{out}`, expected a page", hint="let it end in `.html`")
    what = f"`vqgan compare` is given {len(paths)} folders, expected 2 to {NUM_COLOURS} of different runs"
    require(2 <= len({path.resolve() for path in paths}) == len(paths) <= NUM_COLOURS, what)
    folders = {str(path): RunFolder(path) for path in paths}
    runs = {name: read_run(folder) for name, folder in folders.items()}
    rows = {name: read_rows(folder.metrics) for name, folder in folders.items()}
    notes = [f"`{name}` has no numbers yet" for name, each in rows.items() if not each]
    kinds = {name: run.__struct_config__.tag for name, (run, _) in runs.items()}
    if len({*kinds.values()}) > 1:
        what = ", ".join(f"`{name}` trains a {kind}" for name, kind in kinds.items())
        notes.append(f"{what}: numbers of the same name may mean different things")
    for note in notes:
        logger.warning("%s", note)
    last = [{key: number_text(row[key]) for row in each for key in row} for each in rows.values()]
    settings = [flattened({**begun, **to_mapping(run)}) for run, begun in runs.values()]
    texts = _table([{key: json.dumps(each[key]).strip('"') for key in each} for each in settings])
    differing = [(*line, "") for line in texts if len({*line[1:]}) > 1]
    explained = [(*line, MEANINGS.get(line[0], "")) for line in _table(last)]
    page = render_report(
        f"Comparison of {', '.join(folders)}",
        paragraphs=notes,
        tables={
            **warning_tables(folders),
            "Last numbers": [("what", *folders, "how to read it"), *explained],
            "What differs in their settings": [("key", *folders, ""), *differing],
        },
        pictures={},
        beside=_pictures(folders),
        charts=dict(_charts(rows)),
    )
    write_text(out, page)
    lines = [
        ("", *folders),
        *(line for line in _table(last) if line[0].startswith(("step", "loss", "heldout"))),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print(printable("  ".join(map(str.rjust, line, widths))))
    print(printable(out))


def _table(columns: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    """For each key its value in each column; a dash where there is none."""
    for key in dict.fromkeys(key for column in columns for key in column):
        yield (key, *(column.get(key, "-") for column in columns))


def _charts(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, Chart]]:
    """One for each number, with a line for each run that has it."""
    for unit, shown in CHARTS.values():
        for number in shown:
            lines = {name: line for name, each in rows.items() if (line := line_of(each, number))}
            yield number, Chart(unit, lines)


def _pictures(folders: Mapping[str, RunFolder]) -> list[dict[Path, str]]:
    """The newest pictures, those of a kind together."""
    kinds: dict[str, dict[Path, str]] = {}
    for name, folder in folders.items():
        for path, caption in newest_pictures(folder.images).items():
            kinds.setdefault(path.stem.rpartition("-")[0], {})[path] = f"{name}: {caption}"
    return [*kinds.values()]
