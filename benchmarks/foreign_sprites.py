"""Does a prior notice what does not belong in a frame? AUROC of its scores for things from other games.

Uses the runs of `make demo-conditions`: pastes a moving thing of one game into held-out frames of another, without its
background, and scores every token given the frame's game.

python benchmarks/foreign_sprites.py --demo runs/conditions [--frames N] [--json PATH]
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import vqgan
from inpainting import auroc, interval
from timing import environment
from vqgan.data import open_source
from vqgan.data.atari import AtariSource
from vqgan.demo.conditions import GAMES, MOST_BOXES, Scenes, config_of
from vqgan.demo.measures import moving_boxes, moving_pixels
from vqgan.images import to_float
from vqgan.synthesizer import Synthesizer

SMALLEST, SHARE = (5, 4), 0.15
"""Rows and columns of a thing; a token is foreign if this share of its pixels is."""


def pasted(scenes: Scenes, count: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The game of each frame, the frame with a foreign thing, and which pixels are foreign."""
    chance = np.random.Generator(np.random.Philox(1))
    members = [np.flatnonzero(scenes.held_out & (scenes.games == game)) for game in range(len(GAMES))]
    for number in range(count):
        game = number % len(GAMES)
        other = (game + 1 + number // len(GAMES) % (len(GAMES) - 1)) % len(GAMES)
        frame = scenes.frames[chance.choice(members[game])].copy()
        box, whole = None, np.zeros(0)
        while box is None:
            whole = scenes.frames[chance.choice(members[other])][None]
            boxes = moving_boxes(whole, scenes.empty[other][None], MOST_BOXES)[0]
            sizes = [np.rint(np.array(each) * np.tile(frame.shape[1::-1], 2)).astype(int) for each in boxes]
            large = [each for each in sizes if each[3] >= SMALLEST[0] and each[2] >= SMALLEST[1]]
            box = large[chance.integers(len(large))] if large else None
        left, top, width, height = box
        source = np.s_[top : top + height, left : left + width]
        thing = moving_pixels(whole, scenes.empty[other][None])[0][source]
        row, column = (
            chance.integers(side - own + 1) for side, own in zip(frame.shape, (height, width), strict=False)
        )
        target = np.s_[row : row + height, column : column + width]
        frame[target][thing] = whole[0][source][thing]
        mask = np.zeros(frame.shape[:2], dtype=bool)
        mask[target] = thing
        yield game, frame, mask


@torch.no_grad()
def scores(model: Synthesizer, game: int, frame: np.ndarray) -> dict[str, Tensor]:
    """Nats of each token, and their means over 3 x 3."""
    grid = model.tokenizer.grid_size(frame.shape[:2])
    nats = -model.log_probability(to_float(frame[None]), {"class": game}).view(1, 1, *grid)
    return {"token": nats, "mean of 3x3": F.avg_pool2d(nats, 3, stride=1, padding=1, count_include_pad=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="the folder of `vqgan demo --conditions`")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    given = parser.parse_args()
    model = vqgan.load(given.demo / "boxes", device="cpu")
    assert isinstance(model, Synthesizer), "a prior's run holds a synthesizer"
    source = open_source(config_of(quick=False))
    assert isinstance(source, AtariSource), "games are Atari's"
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for game, frame, mask in pasted(Scenes.of(source), given.frames):
        share = F.avg_pool2d(torch.from_numpy(mask)[None, None].float(), model.tokenizer.downsample_factor)
        is_clear, is_foreign = (share == 0) | (share >= SHARE), share >= SHARE
        if is_foreign.any():
            for name, each in scores(model, game, frame).items():
                found.setdefault(name, []).append((each[is_clear], is_foreign[is_clear]))
    rows = [
        {
            "score": name,
            "frames": len(pairs),
            "auroc_pooled": auroc(*(torch.cat(part) for part in zip(*pairs, strict=True))),
            "auroc": interval(torch.tensor([auroc(*pair) for pair in pairs])),
        }
        for name, pairs in found.items()
    ]
    print(json.dumps(rows, indent=2))
    if given.json is not None:
        record = {"rows": rows, "environment": environment()}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
