"""Frames of Atari games through ale-py: real pictures that need no download, class = game.

Played frames are kept in the cache folder. Training and held-out frames come from two seeds, played in
parallel by :mod:`vqgan.data.atari_explorer`.
"""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle, islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64

from vqgan.cache import cache_folder
from vqgan.config import Bounds, Config, Count, Natural
from vqgan.data import atari_explorer
from vqgan.data.atari_explorer import Played, Walk
from vqgan.data.source import ArraySource, Source, Split, Steps
from vqgan.errors import ConfigError, DataError, OutputError, closest, needing, require
from vqgan.types import OnProgress, Progress

ACTIONS = (
    *("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE"),
    *("RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE"),
)
"""The joystick's, by their number, the same for all games; most games react to a few."""

_NUMBERS = {word: number for number, name in enumerate(ACTIONS) for word in (name, str(number))}

logger = logging.getLogger(__name__)


class AtariConfig(Config, frozen=True, tag_field="kind", tag="atari"):
    """Frames of one or more games. They are a function of these settings and of ale-py's version.

    Attributes:
        games: Names as in ``MontezumaRevenge``; each is a class.
        player: ``"explorer"`` goes back to states that it has seen and continues from there, so that it leaves the
            first room; ``"random"`` does not. Both keep only frames that differ from all kept before.
        frames: Emulator frames to play for each game and seed; some 7,000 a second on one core.
        seed: Of the player of the training frames.
        heldout_seed: Of the player of the held-out frames.
        scale: Side of the blocks of pixels that are averaged; the screen is 210 x 160.
        rows: First row to keep, and the first below that is cut off, after scaling.
        max_frames: Maximum of frames to keep of each game and seed, shared equally by the rooms of a game.
        actions: By number or name, in place of player, seeds and ``frames``: each is held for four emulator frames and
            gives a frame, again and again up to ``max_frames``. They begin with the game; held out are walks of 40.
    """

    games: tuple[str, ...]
    player: Literal["explorer", "random"] = "explorer"
    frames: Annotated[int, Bounds("at least 4", lambda value: value >= atari_explorer.SKIP)] = 400_000
    seed: Natural = 7
    heldout_seed: Natural = 2
    scale: Literal[1, 2, 4] = 2
    rows: tuple[int, int] = (3, 99)
    max_frames: Count = 3_000
    actions: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.games) > 0, "`games` is empty, expected at least one game")
        require(len(set(map(_plain, self.games))) == len(self.games), "`games` names a game twice")
        require(
            self.seed != self.heldout_seed,
            f"`seed` and `heldout_seed` are both {self.seed}",
            hint="held-out frames must come from another seed",
        )
        require(0 <= self.rows[0] < self.rows[1], f"`rows` is {self.rows}, expected first < end")
        for each in map(str, self.actions):
            require(each in _NUMBERS, f"unknown action `{each}`", hint=closest(each, ACTIONS))


@dataclass(eq=False, kw_only=True)
class AtariSource(ArraySource):
    """The kept frames of all games.

    Attributes:
        rooms: The number of the room of each frame; 0 where a game has no known rooms.
    """

    rooms: Int64[np.ndarray, " n"]

    def part(self, split: Split) -> Source:
        """The frames of one seed; their fingerprint does not depend on those of the other seed."""
        if split == "all" or self.classes is None or self.held_out is None:
            return super().part(split)
        own = np.asarray(self.held_out == (split == "heldout"))
        images, classes, rooms = self.images[own], self.classes[own], self.rooms[own]
        steps = None if self.steps is None else self.steps.of(own)
        return replace(self, images=images, classes=classes, rooms=rooms, steps=steps, held_out=None)


def open_atari(
    config: AtariConfig, on_progress: OnProgress | None = None, *, consecutive: bool = False
) -> AtariSource:
    """Loads the frames of both seeds of every game from the cache, after playing those that are not there.

    A damaged file in the cache is played again.

    Args:
        config: What to play.
        on_progress: Gets the emulator frames played so far.
        consecutive: Keep whole walks of the player, of up to 40 frames, one for each action that was held for four
            emulator frames. The rooms in which they begin share ``max_frames``.

    Raises:
        ConfigError: If ale-py is not installed, does not know a game, or ``rows`` do not fit its screen.
        DataError: If a player fails.
        OutputError: If the cache folder cannot be written.
    """
    version, roms = _ale(config.games)
    if config.actions:
        found = [[_listed(config, rom)] for rom in roms]
    else:
        least = atari_explorer.WALK * atari_explorer.SKIP
        require(
            not consecutive or config.frames >= least,
            f"`frames` is {config.frames}, expected at least {least}, one walk of the player",
            hint="raise it",
        )
        seeds = config.seed, config.heldout_seed
        jobs = [[_job(config, rom, seed, version, consecutive=consecutive) for seed in seeds] for rom in roms]
        found = [_cached(pair, on_progress) for pair in jobs]
    parts = [played for each in found for played in each]
    require(
        {played.frames.shape[1] for played in parts} == {config.rows[1] - config.rows[0]},
        f"`rows` is {config.rows}, but not every screen has that many",
        hint="before scaling a screen has 210 rows, of a few games 250",
    )
    counts, players = [len(played.rooms) for played in parts], np.arange(len(parts))
    return AtariSource(
        name="atari",
        images=np.concatenate([played.frames for played in parts]),
        classes=np.repeat(players // len(found[0]), counts),
        class_names=config.games,
        held_out=None if config.actions else np.repeat(players % 2 == 1, counts),
        rooms=np.concatenate([played.rooms for played in parts]),
        steps=_steps(parts) if consecutive or config.actions else None,
    )


def _listed(config: AtariConfig, rom: str) -> Played:
    """What is seen after each of the listed actions, from the beginning of a game; after 40 another walk begins."""
    numbers, length = [_NUMBERS[str(each)] for each in config.actions], atari_explorer.WALK
    actions = list(islice(cycle(numbers), config.max_frames))
    walks = [Walk(None, 0, actions[first : first + length]) for first in range(0, len(actions), length)]
    played = atari_explorer.rerun(rom, walks, config.scale)
    return played._replace(frames=played.frames[:, config.rows[0] : config.rows[1]])


def _steps(parts: Sequence[Played]) -> Steps:
    """Those of several players, each of whom counts the walks from 0."""
    offset = np.cumsum([0, *(played.episodes.max() + 1 for played in parts)])
    episodes = [played.episodes + first for played, first in zip(parts, offset, strict=False)]
    return Steps(np.concatenate(episodes), np.concatenate([played.actions for played in parts]), ACTIONS)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _ale(games: Sequence[str]) -> tuple[str, list[str]]:
    """ale-py's version and its names of the games."""
    with needing("ale-py", "the data source `atari`", "demo"):
        import ale_py
        from ale_py import roms
    known = {_plain(name): name for name in roms.get_all_rom_ids()}
    for game in games:
        if _plain(game) not in known:
            titles = ["".join(part.capitalize() for part in name.split("_")) for name in known.values()]
            raise ConfigError(f"ale-py has no game `{game}`", hint=closest(game, titles))
    return ale_py.__version__, [known[_plain(game)] for game in games]


def _job(
    config: AtariConfig, rom: str, seed: int, version: str, *, consecutive: bool = False
) -> dict[str, Any]:
    """What one player is told; the name of its file is a hash of all that its frames depend on."""
    job = {name: getattr(config, name) for name in ("player", "frames", "scale", "rows", "max_frames")}
    job |= {"rom": rom, "seed": seed, **({"walks": True} if consecutive else {})}
    text = json.dumps({**job, "ale": version, "explorer": atari_explorer.VERSION}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {**job, "path": str(cache_folder() / "atari" / f"{rom}-{digest}.npz")}


def _cached(jobs: Sequence[dict[str, Any]], on_progress: OnProgress | None) -> list[Played]:
    """What the players of one game kept: from the cache, or played now where a file is missing or damaged."""
    found: dict[str, Played] = {}
    for path in (job["path"] for job in jobs):
        try:
            if Path(path).exists():
                found[path] = _load(path)
        except DataError as error:
            logger.warning("%s; these frames are played again", error.message)
    if missing := [job for job in jobs if job["path"] not in found]:
        _play(missing, on_progress)
    return [found.get(job["path"]) or _load(job["path"]) for job in jobs]


def _play(jobs: Sequence[dict[str, Any]], on_progress: OnProgress | None) -> None:
    """Runs the players of one game in parallel; each writes its file, and prints its progress or why it failed."""
    total = sum(job["frames"] for job in jobs)
    used, reasons = [0] * len(jobs), [""] * len(jobs)
    with ExitStack() as stack:
        players = []
        for job in jobs:
            # -P: nothing is imported from the folder of the script: `data/` has modules with common names.
            # -u: reports are not buffered.
            command = [sys.executable, "-uP", str(atari_explorer.__file__), json.dumps(job)]
            player = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            players.append(stack.enter_context(player))
            stack.callback(player.kill)
        # Players report equally often and are equally fast, so reading them in turns loses nothing.
        for lines in zip_longest(*(player.stdout or () for player in players), fillvalue=""):
            for number, line in enumerate(map(str.strip, lines)):
                if line.isdigit():
                    used[number] = int(line)
                elif line:
                    reasons[number] = line
            if on_progress is not None:
                on_progress(Progress(f"playing {jobs[0]['rom']}", sum(used), total))
        for job, player, reason in zip(jobs, players, reasons, strict=True):
            if player.wait() == atari_explorer.CANNOT_WRITE:
                hint = "free some space, or set `VQGAN_CACHE` to a folder that is yours"
                raise OutputError(f"cannot write `{job['path']}`: {reason.lower()}", hint=hint)
            if player.returncode:
                reason = reason or f"exit code {player.returncode}"
                raise DataError(f"a player of `{job['rom']}` failed: {reason}")


def _load(path: str) -> Played:
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            return Played(**arrays)
    except Exception as error:
        # A damaged file raises anything: EOFError, BadZipFile, zlib.error, ValueError, KeyError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read `{path}`: {reason}", hint="delete the file; it is made again") from None
