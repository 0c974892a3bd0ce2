"""Which files vqgan wrote: these may be replaced, others only when asked to."""

from pathlib import Path

from vqgan.images.tile_pyramid import MARK, is_pyramid

PAGE_MARK = '<meta name="generator" content="vqgan --frames">'
"""By this line a later drawing recognizes a page as ours."""

PEOPLE_MARK = '{"info": {"description": "vqgan extract"}, '
"""How a file of key points begins, as COCO's have it."""

_MARKS = (
    b"tEXtcommand\0",
    b"tEXtstep\0",
    b"tEXtframes\0",
    PAGE_MARK.encode("ascii"),
    MARK.encode("ascii"),
    b'{\n "codebook_size": ',
    b'{\n "conventions": ',
    b"# Evaluation\n",
    b"<title>Evaluation</title>",
    PEOPLE_MARK.encode("ascii"),
)
"""Our files contain one of these near their start: text chunks of images, frames and animations, the heads of pages and
pyramids, or the first lines of `codes.json`, `people.json` and evaluations."""


def is_ours(path: Path) -> bool:
    """Whether vqgan wrote this file or folder of tiles; an array of codes is known by what stands beside it."""
    if path.is_dir():
        return is_pyramid(path)
    try:
        beside = {".npy": path.with_suffix(".json"), ".npz": path.with_name("evaluation.json")}
        with beside.get(path.suffix, path).open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    return any(mark in start for mark in _MARKS)
