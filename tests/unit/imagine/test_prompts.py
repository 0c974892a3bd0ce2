"""How prompts are written."""

import math

import pytest

from vqgan.errors import ConfigError
from vqgan.imagine import Prompt, parse_prompt, parse_story
from vqgan.imagine.prompts import chapter_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an apple", Prompt("an apple")),
        ("  oil painting:0.5 ", Prompt("oil painting", 0.5)),
        ("blurry:-0.3", Prompt("blurry", -0.3)),
        ("a rose:2:0.1", Prompt("a rose", 2.0, 0.1)),
        ("Alien: the ship:1", Prompt("Alien: the ship", 1.0)),
        ("C:/pictures/a.png:0.5", Prompt("C:/pictures/a.png", 0.5)),
        ("12", Prompt("12")),
        ("a rose: 1.5e-1 :-.5", Prompt("a rose", 0.15, -0.5)),
        ("a:1:2:3", Prompt("a:1", 2.0, 3.0)),
        ("noise#7:0.5", Prompt("noise#7", 0.5)),
    ],
)
def test_weights_and_stops_stand_at_the_end(text, expected):
    assert parse_prompt(text) == expected
    assert parse_prompt("x").stop == -math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a || b", "empty"),
        ("a ^", "empty"),
        (":0.5", "empty"),
        ("a:0", "weight of `a` is 0.0"),
        ("a:nan", "weight"),
        ("a:1:nan", "stop"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_story(text)


def test_noise_has_a_seed():
    assert [parse_prompt(text).noise for text in ("noise#7:2", "noise#", "noise:7", "a noise#7")] == [
        7, None, None, None,
    ]  # fmt: skip


def test_chapters_are_equally_long():
    story = parse_story("a ^ b | c ^ d")
    assert [[each.text for each in chapter] for chapter in story] == [["a"], ["b", "c"], ["d"]]
    assert [chapter_of(story, step, 7) for step in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    assert chapter_of(story, 7, 7) == 2
