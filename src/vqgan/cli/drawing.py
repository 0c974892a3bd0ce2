"""What ``sample`` and ``complete`` share: classes, progress, and writing what was drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.format import Header
from vqgan.checkpoints.load import precision_of
from vqgan.cli.frames import Frames, check_frames, earlier_files
from vqgan.cli.frames_page import smaller
from vqgan.cli.options import Decoding, bytes_of, check_batch_size
from vqgan.cli.outputs import check_targets
from vqgan.conditioning import ClassLabel, SceneLayout, TokenizedImage
from vqgan.config import require
from vqgan.images import Pixels, grid, printable, save_png, to_float, to_uint8
from vqgan.nn.memory import memory_budget
from vqgan.output_files import make_folder
from vqgan.synthesizer import Synthesizer
from vqgan.types import DrawnTokens, OnProgress, Progress

GRID_IMAGES, GRID_SIDE = 64, 512
"""The overview shows at most so many images, with a longer side of at most so many pixels: all of thousands would be
larger than what can be looked at, and than the memory."""


SHOWN_NAMES = 20
"""Names of classes in a hint."""


def check_drawing(flags: Decoding, folder: Path, inputs: Sequence[Path] = ()) -> None:
    """Raises ConfigError if a number is out of range, or frames would replace an input or what is none of ours."""
    check_batch_size(flags.batch_size)
    if flags.frames is None:
        return
    check_frames(flags.frames)
    frames = folder / "frames"
    check_targets(frames, [path.name for path in earlier_files(frames)], inputs, overwrite=flags.overwrite)


def class_values(text: str | None, names: Sequence[str] = ()) -> list[int | str | None]:
    """Classes from ``--class``: digits are a number unless a class is called so; one None without classes.

    Args:
        text: What was given.
        names: The model's classes.

    Example:
        >>> class_values("9,fox"), class_values("1,2", names=["0", "1"]), class_values(None)
        ([9, 'fox'], ['1', 2], [None])
    """
    if text is None:
        return [None]
    words = [word.strip() for word in text.split(",")]
    hint = "name one or several: `--class 0,1`"
    require(all(words), f"`--class` is `{text}`, expected classes with commas between", hint=hint)
    return [int(word) if word.isdecimal() and word not in names else word for word in words]


def class_names(synthesizer: Synthesizer) -> Sequence[str]:
    """The names of a model's classes; none where it has none."""
    conditioner = synthesizer.conditioner
    return conditioner.config.class_names if isinstance(conditioner, ClassLabel) else ()


def check_condition(synthesizer: Synthesizer, classes: str | None) -> None:
    """Raises ConfigError if ``--class`` is missing or not for this model, or no flag can steer it."""
    conditioner, name = synthesizer.conditioner, synthesizer.conditioner.name
    steered = "takes no condition" if name == "unconditional" else f"is steered by `{name}`"
    require(
        not isinstance(conditioner, TokenizedImage | SceneLayout),
        f"this prior {steered}; the commands draw with a class, with coordinates or without a condition",
        hint="draw from Python, with `condition`: see docs/concepts/conditions.md",
    )
    require(
        classes is None or name == "class",
        f"`--class` was given, but this prior {steered}",
        hint="omit `--class`",
    )
    names = [f"`{name}`" for name in class_names(synthesizer)]
    known = f"classes are numbers from 0 to {conditioner.vocabulary_size - 1}"
    if names:
        known = ", ".join(names[:SHOWN_NAMES]) + ", ... (`vqgan info` lists all)" * (len(names) > SHOWN_NAMES)
    require(
        classes is not None or name != "class",
        "this prior draws images of a class",
        hint=f"name one or several: `--class 0,1`; {known}",
    )


class DrawnImages:
    """Writes images as soon as they are drawn, each with its own seed and all settings in its text chunks.

    Args:
        folder: Where they go.
        flags: How they are drawn; image ``i`` has the seed ``flags.seed + i``.
        header: Of the model that draws them.
        synthesizer: The model.
        command: Its name.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """

    def __init__(
        self, folder: Path, *, flags: Decoding, header: Header, synthesizer: Synthesizer, command: str
    ) -> None:
        make_folder(folder)  # now, not when everything is drawn
        self._folder = folder
        self._seed = flags.seed
        self._num_frames, self._overwrite = flags.frames, flags.overwrite
        self._tokenizer = synthesizer.tokenizer
        self._memory = memory_budget(bytes_of(flags.memory), self._tokenizer.to_codebook.weight.device)
        self._settings = {
            "model": header.digest[:12],
            "command": command,
            "temperature": str(flags.temperature),
            "top_k": str(flags.top_k),
            "top_p": str(flags.top_p),
            "jacobi": str(flags.jacobi),
            "batch_size": str(flags.batch_size),
            "memory": str(flags.memory),
            "precision": precision_of(synthesizer),
        }
        self._paths: list[Path] = []
        self._shown: list[Pixels] = []
        self._first_text: dict[str, str] = {}
        self._frames: Frames | None = None
        self._grown: list[Path] = []

    def reports(self, bar: OnProgress, *, part: int, count: int, info: Mapping[str, str]) -> OnProgress:
        """Reports the tokens of the next ``part`` images as a part of all ``count``.

        With ``--frames`` the first image is followed, with ``info`` beside the settings.
        """
        done = len(self._paths)
        if self._num_frames is not None and done == 0:
            text = {**self._settings, "seed": str(self._seed), **info}
            self._frames = Frames(
                self._tokenizer,
                self._folder / "frames",
                memory=self._memory,
                count=self._num_frames,
                info=text,
                overwrite=self._overwrite,
            )

        def report(progress: Progress) -> None:
            if not isinstance(progress, DrawnTokens):
                bar(progress)
                return
            of_each = progress.total // part
            bar(Progress("tokens", done * of_each + progress.step, of_each * count))
            if self._frames is not None and done == 0:
                self._frames(progress)

        return report

    def add(self, image: Float[Tensor, "c H W"], name: str, info: Mapping[str, str]) -> None:
        """Writes the next image as ``name``, with ``info`` beside the settings."""
        image = image.float().cpu()
        text = self._text(image, len(self._paths))
        self._first_text = self._first_text or text
        self._paths.append(save_png(image, self._folder / name, {**text, **info}))
        if self._frames is not None and len(self._paths) == 1:
            self._grown = self._frames.finish(image)
        if len(self._shown) < GRID_IMAGES:
            self._shown.append(smaller(to_uint8(image).numpy(), GRID_SIDE))

    def write_grid(self, info: Mapping[str, str]) -> None:
        """Writes the first images side by side as ``grid.png``, with ``info`` beside the first one's settings.

        Large ones are shown smaller.
        """
        picture = grid(to_float(np.stack(self._shown)), columns=min(8, len(self._shown)))
        self._paths.append(save_png(picture, self._folder / "grid.png", {**self._first_text, **info}))

    def print_paths(self) -> None:
        """Prints the path of everything that was written."""
        for path in (*self._paths, *self._grown):
            print(printable(path))

    def _text(self, image: Float[Tensor, "c H W"], number: int) -> dict[str, str]:
        height, width = image.shape[1:]
        size, seed = f"{height}x{width}", str(self._seed + number)
        return {**self._settings, "size": size, "seed": seed}
