import re
from typing import Literal

import pytest

from vqgan.config import (
    MAX_YAML_BYTES,
    Config,
    canonical_json,
    dump_yaml,
    from_mapping,
    merge,
    parse_overrides,
    parse_yaml,
    read_yaml,
    to_mapping,
)
from vqgan.errors import ConfigError, require


class Apple(Config, frozen=True, tag_field="kind", tag="apple"):
    size: int = 1


class Pear(Config, frozen=True, tag_field="kind", tag="pear"):
    width: float = 1.0
    sides: tuple[int, int] = (1, 2)


class Basket(Config, frozen=True):
    fruit: Apple | Pear
    owner: str = "nobody"
    colour: Literal["red", "green"] | None = None
    scale: float = 1.0

    def __post_init__(self):
        require(self.scale > 0, f"`scale` is {self.scale}, expected more than 0", hint="give 1")


def message(mapping):
    with pytest.raises(ConfigError) as caught:
        from_mapping(mapping, Basket, where="`basket.yaml`")
    return str(caught.value)


def test_mappings_become_the_member_of_the_union_that_their_kind_names():
    basket = from_mapping({"fruit": {"kind": "pear", "sides": [3, 4]}, "scale": 2}, Basket)
    assert basket == Basket(fruit=Pear(sides=(3, 4)), scale=2.0)
    assert from_mapping(to_mapping(basket), Basket) == basket


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            {"fruit": {"kind": "apple"}, "ovner": "x"},
            "`basket.yaml`: unknown key `ovner`\nhint: did you mean `owner`?",
        ),
        (
            {"fruit": {"kind": "apple", "sise": 3}},
            "`fruit` of `basket.yaml`: unknown key `sise`\nhint: did you mean `size`?",
        ),
        (
            {"fruit": {"kind": "pear", "size": 3}},
            "`fruit` of `basket.yaml`: unknown key `size`\nhint: did you mean `sides`?",
        ),
        (
            {"fruit": {"kind": "aple"}},
            "`fruit.kind` of `basket.yaml`: unknown kind `aple`\nhint: did you mean `apple`?",
        ),
        ({"fruit": {"size": 1}}, "`fruit` of `basket.yaml`: missing key `kind`"),
        ({}, "`basket.yaml`: missing key `fruit`"),
        (
            {"fruit": {"kind": "apple", "size": "2"}},
            "`fruit.size` of `basket.yaml`: expected `int`, got `str`",
        ),
        (
            {"fruit": {"kind": "apple", "size": 1.5}},
            "`fruit.size` of `basket.yaml`: expected `int`, got `float`",
        ),
        (
            {"fruit": {"kind": "pear", "sides": [1]}},
            "`fruit.sides` of `basket.yaml`: expected a list of length 2, got 1",
        ),
        ({"fruit": 3}, "`fruit` of `basket.yaml`: expected a mapping, got `int`"),
        (
            {"fruit": {"kind": "apple"}, "colour": "gren"},
            "`colour` of `basket.yaml`: unknown word `gren`\nhint: did you mean `green`?",
        ),
        (
            {"fruit": {"kind": "apple"}, "scale": 0},
            "`basket.yaml`: `scale` is 0.0, expected more than 0\nhint: give 1",
        ),
    ],
)
def test_mistakes_are_named_with_their_place_and_what_is_known(mapping, expected):
    assert message(mapping) == expected


def test_configurations_cannot_be_changed():
    with pytest.raises(AttributeError):
        Basket(fruit=Apple()).owner = "me"


def test_equal_configurations_have_one_json_text_in_ascii():
    one = canonical_json(Basket(fruit=Apple(size=2), owner="Åse"))
    assert one == canonical_json(
        from_mapping({"owner": "Åse", "fruit": {"size": 2, "kind": "apple"}}, Basket)
    )
    assert one.isascii()
    assert " " not in one


def test_later_layers_win_key_by_key_and_the_layers_stay_as_they_are():
    base, top = {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": {"z": 1}}
    merged = merge(base, top)
    assert merged == {"a": {"x": 1, "y": 3}, "b": 1, "c": {"z": 1}}
    merged["a"]["x"] = merged["c"]["z"] = 9
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}
    assert top == {"a": {"y": 3}, "c": {"z": 1}}


def test_another_kind_drops_the_fields_of_the_old_one():
    apple = {"fruit": {"kind": "apple", "size": 2}}
    assert merge(apple, {"fruit": {"kind": "pear"}}) == {"fruit": {"kind": "pear"}}
    assert merge(apple, {"fruit": {"kind": "apple"}}) == apple
    assert merge(apple, {"fruit": None}, {"fruit": {"kind": "pear"}}) == {"fruit": {"kind": "pear"}}


def test_the_order_of_kind_and_its_fields_does_not_matter():
    first = parse_overrides(["fruit.kind=pear", "fruit.width=2"])
    assert first == parse_overrides(["fruit.width=2", "fruit.kind=pear"])
    assert merge({"fruit": {"kind": "apple", "size": 2}}, first) == {"fruit": {"kind": "pear", "width": 2}}


@pytest.mark.parametrize("item", ["fruit", "=1", "a..b=1", ".a=1", "a.=1"])
def test_an_override_without_key_or_value_is_refused(item):
    with pytest.raises(ConfigError, match=re.escape(f"override `{item}` is not of the form `key=value`")):
        parse_overrides([item])


def test_an_override_may_hold_lists_nothing_and_equals_signs():
    assert parse_overrides(["a=[1, 2]", "b=null", "c=x=y", "d="]) == {
        "a": [1, 2],
        "b": None,
        "c": "x=y",
        "d": None,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("010", 10),
        ("+3", 3),
        ("on", "on"),
        ("yes", "yes"),
        ("True", True),
        ("~", None),
        ("2020-01-01", "2020-01-01"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        (".inf", float("inf")),
    ],
)
def test_yaml_is_read_as_version_1_2_has_it(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases and tags are not allowed here"),
        ("!!python/object/apply:os.system [ls]", "aliases and tags are not allowed here"),
        ("!!set {a, b}", "aliases and tags are not allowed here"),
        ("{a: 1, a: 2}", "key `a` stands twice"),
        ("[1]: 2", "unhashable key"),
        ("a: b: c", "mapping values are not allowed here"),
        ("1" * 5000, "integer string conversion"),
        ("[" * 5000, "nested too deeply"),
        ("\0", "special characters are not allowed"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_in_one_line(text, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)) as caught:
        parse_yaml(text, where="`run.yaml`")
    assert caught.value.message.startswith("`run.yaml` is n")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "value", ["1e-4", "on", "~", "true", "", " a: b", "Ärger", "12", "- x", "0x1f", "\u2028"]
)
def test_every_text_comes_back_from_yaml_as_it_was(value):
    assert parse_yaml(dump_yaml(Basket(fruit=Apple(), owner=value)))["owner"] == value


def test_a_configuration_comes_back_from_its_yaml():
    sides = (5, 6)

    class Pair(Config, frozen=True):
        one: Pear
        other: Pear

    pair = Pair(one=Pear(sides=sides, width=1e-7), other=Pear(sides=sides, width=float("inf")))
    assert from_mapping(parse_yaml(dump_yaml(pair)), Pair) == pair


def test_files_are_read_with_their_name_in_every_complaint(tmp_path):
    path = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=r"cannot read `.*run\.yaml`: no such file or directory"):
        read_yaml(path)
    path.write_text("a: 1e-4", encoding="utf-8")
    assert read_yaml(path) == {"a": 1e-4}
    path.write_text("- a", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"`.*run\.yaml` holds a list, expected a mapping"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="is not a text file in UTF-8"):
        read_yaml(path)
    path.write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 200,000 bytes"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="is not a file"):
        read_yaml(tmp_path)
