"""What pictures are to show, as a user writes it: ``an apple | oil painting:0.5 ^ a rose``."""

import math
import re
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vqgan.errors import require
from vqgan.types import is_number


@dataclass(frozen=True)
class Prompt:
    """A text, or a picture, that pictures are drawn towards.

    Attributes:
        text: The text; of a picture what it is called. ``noise#SEED`` is a random direction instead.
        weight: How strongly; below 0 they are driven away.
        stop: A squared angle (times one half) to the prompt beyond which it stops pulling; by default it never does.
        image: A picture (3 H W) with values in [-1, 1] in place of the text.
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf
    image: Float[Tensor, "3 H W"] | None = None

    @property
    def noise(self) -> int | None:
        """The seed of the text ``noise#SEED``."""
        found = re.fullmatch(r"noise#(\d{1,18})", self.text)
        return int(found[1]) if found else None

    def __post_init__(self) -> None:
        require(self.text.strip() != "", "a prompt is empty", hint="write what the picture is to show")
        fits = is_number(self.weight) and math.isfinite(self.weight) and self.weight != 0
        require(fits, f"the weight of `{self.text}` is {self.weight}, expected a number other than 0")
        require(not math.isnan(self.stop), f"the stop of `{self.text}` is {self.stop}, expected a number")


_NUMBER = r"(?:\s*:\s*([-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|inf|nan)))?"

Story = tuple[tuple[Prompt, ...], ...]
"""Chapters, one after the other; each has its prompts."""


def parse_story(text: str) -> Story:
    """Reads ``TEXT[:WEIGHT[:STOP]] | ... ^ ...``: prompts of a chapter apart by ``|``, chapters by ``^``.

    Raises:
        ConfigError: If a prompt is empty or a weight is 0.

    Example:
        >>> [(each.text, each.weight) for each in parse_story("an apple | at 12:30 by the sea:-0.5")[0]]
        [('an apple', 1.0), ('at 12:30 by the sea', -0.5)]
    """
    return tuple(tuple(parse_prompt(each) for each in chapter.split("|")) for chapter in text.split("^"))


def parse_prompt(text: str) -> Prompt:
    """Reads ``TEXT[:WEIGHT[:STOP]]``: at most two numbers at the end; a colon before other words is text.

    Raises:
        ConfigError: If the text is empty or the weight is 0.
    """
    found = re.fullmatch(rf"(.*?){_NUMBER}{_NUMBER}", text.strip(), re.DOTALL | re.IGNORECASE)
    assert found is not None, "any text matches"
    words, weight, stop = found.groups()
    return Prompt(words.strip(), float(weight or 1), float(stop or -math.inf))


def chapter_of(story: Story, step: int, total: int) -> int:
    """Which chapter a step belongs to: all are equally long."""
    return min(len(story) - 1, step * len(story) // total)
