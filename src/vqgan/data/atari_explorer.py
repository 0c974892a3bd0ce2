"""A player of Atari games that keeps the screens it has not seen before.

This file runs as a separate program, so that two seeds play in parallel. It imports nothing from the package
(no torch), so that a player starts in a fraction of a second.

What a player sees is a function of game, player, seed and frames, never of time. ale-py promises the same
emulation for the same version only: another version may lead a seed elsewhere.
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

VERSION = 1
"""Raised when the same settings would give other frames: frames in the cache are then played again."""

SKIP = 4
"""Emulator frames for which an action is held before the next look at the screen."""

WALK = 40
"""Number of looks at the screen before play continues from another archived state."""

CHANGE = 0.1
"""Probability of a new action after each look."""

CANDIDATES = 12
"""Number of archived states drawn; play continues from the one chosen least often."""

ARCHIVE_LEVELS, FRAME_LEVELS = 8, 16
"""Levels of grey that tell two screens apart: for the archive, and for keeping the picture."""

ROOM_BYTE = {"montezuma_revenge": 3}
"""Where in the emulator's memory a game keeps the number of the room; other games have one room."""

CANNOT_WRITE = 6
"""Exit code of a player that cannot save its frames; what fails otherwise has another."""

REPORT_EVERY = 4_000
"""Emulator frames between two reports of progress."""


class Played(NamedTuple):
    """The screens that a player kept, in the order of their discovery or of the game, and the room of each.

    Where they follow each other, also the number of each one's walk, and the action before it.
    """

    frames: UInt8[np.ndarray, "n H W 3"]
    rooms: Int64[np.ndarray, " n"]
    episodes: Int64[np.ndarray, " n"] = np.zeros(0, np.int64)
    actions: Int64[np.ndarray, " n"] = np.zeros(0, np.int64)


class Walk(NamedTuple):
    """A part of a game: the emulator's state before it (none: as it was), its room, and what was done."""

    state: Any
    room: int
    actions: list[int]


OnFrames = Callable[[int], object]
Walks = list[Walk] | None


def cells(emulator: Any) -> tuple[bytes, bytes]:
    """What makes two screens of a room the same, for the archive and for keeping: grey in 10 x 10 blocks, coarsely.

    The score (the top rows) does not count, nor do the last rows. Sums are integers, so that rounding does
    not depend on the machine.
    """
    grey = emulator.getScreenGrayscale()[20:200].reshape(10, 18, 160)
    rows = grey.sum(axis=1, dtype=np.uint16)  # one axis at a time is three times faster
    sums = rows.reshape(10, 10, 16).sum(axis=2, dtype=np.int32)

    def key(levels: int) -> bytes:
        return (sums * levels // (18 * 16 * 256)).astype(np.uint8).tobytes()

    return key(ARCHIVE_LEVELS), key(FRAME_LEVELS)


def play(
    rom: str, *, player: str, seed: int, frames: int, scale: int, on_frames: OnFrames, walks: Walks = None
) -> Played:
    """Plays and keeps every screen whose cell (with :data:`FRAME_LEVELS`) is new.

    Both players hold a random action and change it now and then. ``"random"`` plays one game after the other.
    ``"explorer"`` goes back to an archived state after every walk and whenever a life is lost (Ecoffet et
    al. 2019, "Go-Explore"); a random player never leaves the first room of Montezuma's Revenge.

    Args:
        rom: ale-py's name of the game.
        player: ``"explorer"`` or ``"random"``.
        seed: Of all random choices.
        frames: Emulator frames to play.
        scale: Side of the blocks of pixels that are averaged.
        on_frames: Called now and then with the emulator frames played so far.
        walks: Gets every walk.
    """
    emulator, draw = _emulator(rom), random.Random(seed)
    actions = emulator.getMinimalActionSet()
    kept, pictures, rooms = set[tuple[int, bytes]](), list[UInt8[np.ndarray, "H W 3"]](), list[int]()
    # The emulator's states by room, one for each cell, each with the number of times that it was chosen. Rooms are
    # chosen equally often: a new room gets as many visits as the first one with its many cells.
    known, archive = set[tuple[int, bytes]](), dict[int, list[list[Any]]]()

    def look() -> None:
        room = _room(emulator, rom)
        coarse, fine = cells(emulator)
        if (room, fine) not in kept:
            kept.add((room, fine))
            pictures.append(_picture(emulator, scale))
            rooms.append(room)
        if player == "explorer" and (room, coarse) not in known:
            known.add((room, coarse))
            archive.setdefault(room, []).append([0, emulator.cloneState()])

    look()
    used = reported = 0
    while used + SKIP <= frames:
        if player == "explorer":
            emulator.restoreState(_rarely_chosen(archive, draw))
        elif emulator.game_over():
            emulator.reset_game()
        lives, action = emulator.lives(), draw.choice(actions)
        walk = Walk(emulator.cloneState(), _room(emulator, rom), [])
        for _ in range(WALK):
            emulator.act(action)
            used += SKIP
            if emulator.lives() < lives or emulator.game_over() or used + SKIP > frames:
                break
            look()
            walk.actions.append(action.value)
            if draw.random() < CHANGE:
                action = draw.choice(actions)
        if walks is not None:
            walks.append(walk)
        if used - reported >= REPORT_EVERY:
            reported = used
            on_frames(used)
    return Played(np.stack(pictures), np.array(rooms, dtype=np.int64))


def _rarely_chosen(archive: dict[int, list[list[Any]]], draw: random.Random) -> Any:
    states = list(archive.values())[draw.randrange(len(archive))]
    state = min((states[draw.randrange(len(states))] for _ in range(CANDIDATES)), key=itemgetter(0))
    state[0] += 1
    return state[1]


def some_walks(walks: Sequence[Walk], count: int) -> list[Walk]:
    """Walks of two looks or more, with at most ``count`` looks in all (or one walk), begun as often in each room."""
    long = [walk for walk in walks if len(walk.actions) > 1]
    rooms, looks = (
        np.array(each, dtype=np.int64) for each in zip(*((w.room, len(w.actions)) for w in long), strict=True)
    )
    number = min(len(long), max(1, count * len(long) // looks.sum()))
    while number > 1 and looks[spread(rooms, number)].sum() > count:
        number -= 1
    return [long[each] for each in spread(rooms, number)]


def rerun(rom: str, walks: Sequence[Walk], scale: int) -> Played:
    """All screens of these walks, one for each look, in the order of time. After the end of a game the next begins."""
    emulator, found, number = _emulator(rom), list[tuple[Any, int, int, int]](), -1
    for walk in walks:
        number += 1
        if walk.state is not None:
            emulator.restoreState(walk.state)
        for action in walk.actions:
            if emulator.game_over():
                emulator.reset_game()
                number += 1
            emulator.act(action)
            found.append((_picture(emulator, scale), _room(emulator, rom), number, action))
    pictures, *numbers = zip(*found, strict=True)
    return Played(np.stack(pictures), *(np.array(each, dtype=np.int64) for each in numbers))


def _room(emulator: Any, rom: str) -> int:
    return int(emulator.getRAM()[ROOM_BYTE[rom]]) if rom in ROOM_BYTE else 0


def _emulator(rom: str) -> Any:
    from ale_py import ALEInterface, LoggerMode
    from ale_py.roms import get_rom_path

    ALEInterface.setLoggerMode(LoggerMode.Error)  # otherwise a banner on stderr
    emulator = ALEInterface()
    emulator.setInt("random_seed", 0)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.setInt("frame_skip", SKIP)
    emulator.loadROM(get_rom_path(rom))
    emulator.reset_game()
    return emulator


def _picture(emulator: Any, scale: int) -> UInt8[np.ndarray, "H W 3"]:
    """The screen in RGB, averaged over blocks of ``scale`` x ``scale`` pixels, halves rounded up."""
    screen = emulator.getScreenRGB()
    height, width, area = screen.shape[0] // scale, screen.shape[1] // scale, scale * scale
    sums = np.full((height, width, 3), area // 2, dtype=np.uint32)
    for first in range(area):
        sums += screen[first // scale : height * scale : scale, first % scale : width * scale : scale]
    return (sums // area).astype(np.uint8)


def spread(rooms: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " m"]:
    """Chooses ``count`` frames, as many of each room as of any other while the room has them.

    Rooms take turns; within a room the chosen ones are spread evenly over its frames. Ascending.

    Example:
        >>> spread(np.array([1, 1, 1, 1, 2, 1, 7]), 4).tolist()
        [0, 2, 4, 6]
    """
    members = {room: np.flatnonzero(rooms == room) for room in np.unique(rooms)}
    turns = sorted((turn, room) for room, own in members.items() for turn in range(len(own)))
    shares = Counter(room for _, room in turns[:count])
    chosen = [members[room][np.arange(share) * len(members[room]) // share] for room, share in shares.items()]
    return np.sort(np.concatenate(chosen))


def main() -> None:
    """Plays as the JSON of the first argument says and writes an ``.npz``; reports progress to stdout.

    Exits with :data:`CANNOT_WRITE` and the reason on stderr if the file, or its folder, cannot be written.
    """
    order = json.loads(sys.argv[1])
    path, (first, end), count = Path(order.pop("path")), order.pop("rows"), order.pop("max_frames")
    walks: Walks = [] if order.pop("walks", False) else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before a minute of play, which would be lost
        played = play(**order, on_frames=lambda used: sys.stdout.write(f"{used}\n"), walks=walks)
        if walks is None:
            chosen = spread(played.rooms, count)
            played = Played(played.frames[chosen], played.rooms[chosen])
        else:
            played = rerun(order["rom"], some_walks(walks, count), order["scale"])
        _save(path, played._replace(frames=played.frames[:, first:end]))
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        sys.exit(CANNOT_WRITE)


def _save(path: Path, played: Played) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            arrays = {name: array for name, array in played._asdict().items() if len(array)}
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
