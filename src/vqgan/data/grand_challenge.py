"""Games that people played, in the folders of the Atari Grand Challenge (Kurin et al. 2017, arXiv 1705.10998)."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from vqgan.config import Config, Count
from vqgan.data.atari import ACTIONS
from vqgan.data.image_files import FileSource, read_lines
from vqgan.data.source import Steps
from vqgan.errors import DataError, printable
from vqgan.images import list_images

_ENDS = {"0": False, "false": False, "1": True, "true": True}
_ACTIONS = {str(number): number for number in range(len(ACTIONS))}
_SHOWN = 5


class GrandChallengeConfig(Config, frozen=True, tag_field="kind", tag="agc"):
    """``screens/GAME/EPISODE/FRAME.png`` and ``trajectories/GAME/EPISODE.txt``; each game is a class.

    Attributes:
        path: The folder with both.
        every: One of so many screens is an image. Between two images stands the action that most screens in between
            were followed by; of equally many, that with the smallest number.
    """

    path: str
    every: Count = 4


def open_grand_challenge(config: GrandChallengeConfig) -> FileSource:
    """Lists the screens with the actions between them.

    The action in row ``t`` leads from screen ``t`` to the next. Screens count from 0, or from 1 if there is no 0. After
    a row with ``terminal`` another episode begins.

    Raises:
        DataError: If screens and trajectories do not fit; it tells how many times, and of the first five why.
    """
    root, problems = Path(config.path).expanduser(), list[str]()
    screens: dict[str, dict[int, str]] = defaultdict(dict)
    for path in list_images(root / "screens"):
        episode, _, name = path.rpartition("/")
        number = name.partition(".")[0]
        if episode.count("/") == 1 and number.isdecimal():
            screens[episode][int(number)] = path
        else:
            problems.append(f"`{printable(path)}` is not `GAME/EPISODE/FRAME.png`")
    paths, episodes, actions, count = list[str](), list[int](), list[int](), 0
    for episode, shots in screens.items():
        rows = _read(root / "trajectories" / f"{episode}.txt", problems)
        first, name = int(0 not in shots), printable(episode)
        if rows:  # one screen may follow the last row
            expected = range(first, first + len(rows))
            problems += [f"`{name}` has no screen {each}" for each in expected if each not in shots]
            problems += [f"screen {each} of `{name}` has no row" for each in shots if each > expected.stop]
        if problems:
            continue
        chosen = range(0, len(rows) + (first + len(rows) in shots), config.every)
        done, ended = np.array([row[0] for row in rows]), np.cumsum([0, *(row[1] for row in rows)])
        between = (done[max(0, place - config.every) : place] for place in chosen)
        paths += [shots[first + place] for place in chosen]
        actions += [int(np.bincount(each, minlength=1).argmax()) for each in between]
        episodes += [count + int(ended[place]) for place in chosen]
        count += int(ended[-1]) + 1
    if problems:
        lines = [f"  {each}" for each in problems[:_SHOWN]]
        lines += [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        what = f"screens and trajectories of `{printable(root)}` do not fit in {len(problems)} places:"
        hint = "unpack both archives again, or remove the episodes that are damaged"
        raise DataError("\n".join([what, *lines]), hint=hint)
    classes = [path.partition("/")[0] for path in paths]
    source = FileSource(name=printable(root), root=root / "screens", paths=paths, classes=classes)
    source.steps = Steps(np.array(episodes), np.array(actions), ACTIONS)
    return source


def _read(file: Path, problems: list[str]) -> list[tuple[int, bool]]:
    """The action of each row and whether the game ended with it; what is wrong is added to ``problems``."""
    name, rows, start = printable(file), list[tuple[int, bool]](), 0
    if not file.is_file():
        problems.append(f"`{name}` is missing")
        return rows
    header, *lines = [[word.strip() for word in line.split(",")] for line in read_lines(file)[1:]] or [[]]
    if not {"frame", "terminal", "action"} <= {*header}:
        problems.append(f"line 2 of `{name}` lacks the names `frame`, `terminal` and `action`")
        return rows
    for number, words in enumerate(lines, start=3):
        if words == [""]:
            continue
        row = dict.fromkeys(header, "") | dict(zip(header, words, strict=False))
        if not rows and row["frame"] == "1":
            start = 1
        known = {"frame": [str(start + len(rows))], "action": _ACTIONS, "terminal": _ENDS}
        problems += [
            f"line {number} of `{name}` has `{printable(row[each])}` as `{each}`, expected {', '.join(values)}"
            for each, values in known.items()
            if row[each].lower() not in values
        ]
        rows.append((_ACTIONS.get(row["action"], 0), _ENDS.get(row["terminal"].lower(), False)))
    if not rows:
        problems.append(f"`{name}` has no rows")
    return rows
