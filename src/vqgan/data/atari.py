"""Frames of Atari games through ale-py: real pictures that need no download, class = game.

Frames that were played once are kept in the cache folder. Training and held-out frames come from two seeds,
played side by side by :mod:`vqgan.data.atari_explorer`.
"""

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from vqgan.cache import cache_folder
from vqgan.config import Config, require
from vqgan.data import atari_explorer
from vqgan.data.atari_explorer import Played
from vqgan.data.base import ArraySource, Split
from vqgan.errors import ConfigError, DataError, OutputError, closest
from vqgan.types import OnProgress, Progress

logger = logging.getLogger(__name__)


class AtariConfig(Config, frozen=True, tag_field="kind", tag="atari"):
    """Frames of one or more games. They are a function of these settings and of ale-py's version.

    Attributes:
        games: Names as in ``MontezumaRevenge``; each is a class.
        player: ``"explorer"`` returns to what it has seen and goes on from there, so that it leaves the first
            room; ``"random"`` does not. Both keep only frames that differ from all kept before.
        frames: Emulator frames to play for each game and seed; some 7,000 a second on one core.
        seed: Of the player of the training frames.
        heldout_seed: Of the player of the held-out frames.
        scale: Side of the blocks of pixels that are averaged; the screen is 210 x 160.
        rows: First row that stays, and the first below that does not, after scaling.
        max_frames: Most frames to keep of each game and seed; the rooms of a game get equal shares.
    """

    games: tuple[str, ...]
    player: Literal["explorer", "random"] = "explorer"
    frames: int = 400_000
    seed: int = 7
    heldout_seed: int = 2
    scale: Literal[1, 2, 4] = 2
    rows: tuple[int, int] = (3, 99)
    max_frames: int = 3_000

    def __post_init__(self) -> None:
        require(len(self.games) > 0, "`games` is empty, expected at least one game")
        require(len(set(map(_plain, self.games))) == len(self.games), "`games` names a game twice")
        require(self.frames >= atari_explorer.SKIP, f"`frames` is {self.frames}, expected at least 4")
        require(self.seed >= 0, f"`seed` is {self.seed}, expected 0 or more")
        require(self.heldout_seed >= 0, f"`heldout_seed` is {self.heldout_seed}, expected 0 or more")
        require(
            self.seed != self.heldout_seed,
            f"`seed` and `heldout_seed` are both {self.seed}",
            hint="held-out frames must come from another seed",
        )
        require(0 <= self.rows[0] < self.rows[1], f"`rows` is {self.rows}, expected first < end")
        require(self.max_frames >= 1, f"`max_frames` is {self.max_frames}, expected at least 1")

    @classmethod
    def example(cls, folder: Path) -> "AtariConfig":
        """Half a second of play; nothing is written into ``folder``."""
        return cls(games=("MontezumaRevenge",), frames=400, max_frames=20)


class AtariSource(ArraySource):
    """The kept frames of all games.

    Args:
        images: All frames.
        classes: The game of each.
        class_names: The games.
        rooms: The number of the room of each frame; 0 where a game has no known rooms.
    """

    def __init__(
        self,
        *,
        images: UInt8[np.ndarray, "n H W 3"],
        classes: Int64[np.ndarray, " n"],
        class_names: tuple[str, ...],
        rooms: Int64[np.ndarray, " n"],
    ) -> None:
        super().__init__(name="atari", images=images, classes=classes, class_names=class_names)
        self.images = images
        self.rooms = rooms


def open_atari(config: AtariConfig, split: Split, on_progress: OnProgress | None = None) -> AtariSource:
    """Loads the frames from the cache, after playing those that are not there (both seeds of every game).

    A file in the cache that is damaged is played again.

    Args:
        config: What to play.
        split: Frames of ``seed``, of ``heldout_seed``, or of both.
        on_progress: Gets the emulator frames played so far.

    Raises:
        ConfigError: If ale-py is not installed, does not know a game, or ``rows`` do not fit its screen.
        DataError: If a player fails.
        OutputError: If the cache folder cannot be written.
    """
    version, roms = _ale(config.games)
    folder = cache_folder() / "atari"
    seeds = {
        "train": (config.seed,),
        "heldout": (config.heldout_seed,),
        "all": (config.seed, config.heldout_seed),
    }[split]
    parts: list[tuple[int, Played]] = []
    for number, rom in enumerate(roms):
        pair = {seed: _job(config, rom, seed, version, folder) for seed in (config.seed, config.heldout_seed)}
        missing = [job for job in pair.values() if not Path(job["path"]).exists()]
        if missing:
            _make(folder)
            _play(missing, on_progress)
        parts += [(number, _cached(pair[seed], on_progress)) for seed in seeds]
    require(
        {played.frames.shape[1] for _, played in parts} == {config.rows[1] - config.rows[0]},
        f"`rows` is {config.rows}, but not every screen has that many",
        hint="before scaling a screen has 210 rows, of a few games 250",
    )
    return AtariSource(
        images=np.concatenate([played.frames for _, played in parts]),
        classes=np.concatenate([np.full(len(played.rooms), number, np.int64) for number, played in parts]),
        class_names=config.games,
        rooms=np.concatenate([played.rooms for _, played in parts]),
    )


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _ale(games: Sequence[str]) -> tuple[str, list[str]]:
    """ale-py's version and its names of the games."""
    try:
        import ale_py
        from ale_py import roms
    except ImportError:
        raise ConfigError(
            "the data source `atari` needs ale-py, which is not installed",
            hint='install the extra `demo`: pip install "vqgan[demo]"',
        ) from None
    known = {_plain(name): name for name in roms.get_all_rom_ids()}
    for game in games:
        if _plain(game) not in known:
            titles = ["".join(part.capitalize() for part in name.split("_")) for name in known.values()]
            raise ConfigError(f"ale-py has no game `{game}`", hint=closest(game, titles))
    return ale_py.__version__, [known[_plain(game)] for game in games]


def _job(config: AtariConfig, rom: str, seed: int, version: str, folder: Path) -> dict[str, Any]:
    """What one player is told; the name of its file is a hash of all that its frames depend on."""
    job = {
        "rom": rom,
        "player": config.player,
        "seed": seed,
        "frames": config.frames,
        "scale": config.scale,
        "rows": config.rows,
        "max_frames": config.max_frames,
    }
    text = json.dumps({**job, "ale": version, "explorer": atari_explorer.VERSION}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {**job, "path": str(folder / f"{rom}-{digest}.npz")}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set `VQGAN_CACHE` to a folder that is yours"
        raise OutputError(f"cannot write `{folder}`: {error.strerror}", hint=hint) from None


def _play(jobs: Sequence[dict[str, Any]], on_progress: OnProgress | None) -> None:
    """Runs the players of one game side by side; each writes its file and reports on its stdout."""
    total = sum(job["frames"] for job in jobs)
    with ExitStack() as stack:
        # Errors go to files: a pipe that nobody reads yet would stop a player that has much to say.
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in jobs]
        players = [_start(job, file) for job, file in zip(jobs, errors, strict=True)]
        stack.callback(_end, players)
        used = [0] * len(jobs)
        # Players report equally often and are about as fast, so reading them in turns loses nothing.
        for lines in zip_longest(*(player.stdout for player in players if player.stdout)):
            used = [int(line) if line else before for line, before in zip(lines, used, strict=True)]
            if on_progress is not None:
                on_progress(Progress(f"playing {jobs[0]['rom']}", sum(used), total))
        for player, file in zip(players, errors, strict=True):
            if player.wait():
                file.seek(0)
                reason = (file.read().strip().splitlines() or [f"exit code {player.returncode}"])[-1]
                if player.returncode == atari_explorer.CANNOT_WRITE:
                    hint = "free some space, or set `VQGAN_CACHE` to a folder that is yours"
                    raise OutputError(f"cannot write `{jobs[0]['path']}`: {reason.lower()}", hint=hint)
                raise DataError(f"a player of `{jobs[0]['rom']}` failed: {reason}")


def _end(players: Sequence[subprocess.Popen[str]]) -> None:
    for player in players:
        player.kill()
        player.communicate()


def _start(job: dict[str, Any], errors: IO[str]) -> subprocess.Popen[str]:
    # -P: the folder of the script is no place to import from, `data/` has modules with common names.
    command = [sys.executable, "-P", str(atari_explorer.__file__), json.dumps(job)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)


def _cached(job: dict[str, Any], on_progress: OnProgress | None) -> Played:
    path = Path(job["path"])
    try:
        return _load(path)
    except DataError as error:
        logger.warning("%s; these frames are played again", error.message)
    _play([job], on_progress)
    return _load(path)


def _load(path: Path) -> Played:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return Played(arrays["frames"], arrays["rooms"])
    except Exception as error:
        # A damaged file raises anything: EOFError, BadZipFile, zlib.error, ValueError, KeyError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read `{path}`: {reason}", hint="delete the file; it is made again") from None
