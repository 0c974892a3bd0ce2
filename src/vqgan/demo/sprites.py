"""Things that move in drawn frames: how many of them are things that the game does not have?"""

import numpy as np
from jaxtyping import Float

from vqgan.demo.measures import MIN_AREA, Frames, RoomFrames, TrainFrames, median_frame, moving_pixels

_HEIGHT, _SIDE, _BLOCKS = 96, 20, 10
"""Rows of the frames for which the next number and ``MIN_AREA`` are; pixels of the square that is cut out around a
thing; squares of equal pixels into which each side of it is averaged."""

KNOWN = 0.95
"""Share of the things in held-out frames, rebuilt from their codes, that count as known."""


class Sprites:
    """Cuts out what moves before the empty room, and compares it with what moves in training frames.

    Args:
        frames: Frames of rooms. Twice as high ones are cut out in squares of twice the side.
        rebuilt: Training frames as a tokenizer rebuilds them: what they show is known as well.
        heldout: Held-out frames as it rebuilds them. The distance below which ``KNOWN`` of their things are from the
            nearest known one is the limit: things beyond it are unknown.
    """

    def __init__(self, frames: RoomFrames, *, rebuilt: TrainFrames, heldout: Frames) -> None:
        from scipy import spatial  # type: ignore[import-untyped]  # with scikit-image, of the extra `demo`

        rooms = np.unique(frames.train_rooms)
        self._rooms = np.stack([median_frame(frames.train[frames.train_rooms == room]) for room in rooms])
        self._enlarged = max(1, round(frames.train.shape[1] / _HEIGHT))
        known = [self._cut(images) for images in (frames.train, rebuilt)]
        self._tree = spatial.cKDTree(np.concatenate(known))
        seen = self._distances(heldout)
        self.limit = float(np.quantile(seen, KNOWN)) if len(seen) else 0.0

    def unknown(self, frames: Frames) -> tuple[float, float]:
        """The share of the things that are unknown (0 where nothing moves), and how many things a frame has."""
        distances = self._distances(frames)
        share = float((distances > self.limit).mean()) if len(distances) else 0.0
        return share, len(distances) / len(frames)

    def _distances(self, frames: Frames) -> Float[np.ndarray, " things"]:
        things = self._cut(frames)
        return np.asarray(self._tree.query(things)[0]) if len(things) else np.zeros(0)

    def _cut(self, frames: Frames) -> Float[np.ndarray, "things values"]:
        """One row for each thing: its difference from the nearest empty room, around its middle."""
        from scipy import ndimage  # with scikit-image, of the extra `demo`

        flat = frames.reshape(len(frames), -1).astype(np.float32)
        empty = self._rooms.reshape(len(self._rooms), -1).astype(np.float32)
        lengths = (empty**2).sum(axis=1) - 2 * flat @ empty.T
        background = self._rooms[lengths.argmin(axis=1)]
        side, smallest = _SIDE * self._enlarged, MIN_AREA * self._enlarged**2
        half, block = side // 2, side // _BLOCKS
        pieces = []
        for frame, room, moving in zip(frames, background, moving_pixels(frames, background), strict=True):
            numbered, count = ndimage.label(moving, structure=np.ones((3, 3)))
            areas = np.bincount(numbered.ravel(), minlength=count + 1)
            padded = np.pad(
                (frame.astype(np.float32) - room) * moving[..., None], ((half, half), (half, half), (0, 0))
            )
            for number in np.flatnonzero(areas[1:] >= smallest) + 1:
                row, column = (round(each) for each in ndimage.center_of_mass(numbered == number))
                own = np.pad(numbered, half)[row : row + side, column : column + side] == number
                piece = padded[row : row + side, column : column + side] * own[..., None]
                pieces.append(piece.reshape(_BLOCKS, block, _BLOCKS, block, 3).mean(axis=(1, 3)).ravel())
        return np.stack(pieces) if pieces else np.zeros((0, _BLOCKS * _BLOCKS * 3), np.float32)
