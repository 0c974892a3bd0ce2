"""Typed configurations, and the reading and merging of the files and flags that fill them.

A configuration is a frozen :class:`Config`. Plain mappings are merged first (preset < YAML < ``--set``) and
turned into it strictly at the end, so that one place reports every mistake.
"""

import json
import math
import re
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml
from msgspec import inspect

from vqgan.errors import ConfigError, closest, reason_of

MAX_YAML_BYTES = 200_000
"""Run files are a page long; a larger file is a mistake or an attack (alias bombs)."""


class Bounds(NamedTuple):
    """What the value of a field must satisfy; it stands in the field's type, as ``Annotated[int, Bounds(...)]``."""

    expected: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Bounds("at least 1", lambda value: value >= 1)]
Natural = Annotated[int, Bounds("at least 0", lambda value: value >= 0)]
Positive = Annotated[float, Bounds("a number above 0", lambda value: 0 < value < math.inf)]
Weight = Annotated[float, Bounds("a number of at least 0", lambda value: 0 <= value < math.inf)]
Share = Annotated[float, Bounds("0 to 1", lambda value: 0 <= value <= 1)]
Name = Annotated[str, Bounds("a name of letters, digits and underscores", str.isidentifier)]
Probability = Annotated[float, Bounds("a number from 0 to below 1", lambda value: 0 <= value < 1)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every configuration: immutable, keyword-only, unknown fields refused, bounds of fields checked.

    Members of a union add ``tag_field="kind", tag="name"``. Validate what bounds cannot say in ``__post_init__``, after
    ``super().__post_init__()``.
    """

    def __post_init__(self) -> None:
        for name, bounds, may_be_none in _bounds(type(self)):
            value = getattr(self, name)
            if not (value is None and may_be_none) and not bounds.holds(value):
                expected = bounds.expected + (", or none" if may_be_none else "")
                raise ConfigError(f"`{name}` is {value}, expected {expected}")


@cache
def _bounds(kind: type) -> list[tuple[str, Bounds, bool]]:
    found = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        members = typing.get_args(hint)
        for member in (hint, *members):
            notes = [note for note in getattr(member, "__metadata__", ()) if isinstance(note, Bounds)]
            found += [(name, bounds, type(None) in members) for bounds in notes]
    return found


def to_mapping(config: Any) -> dict[str, Any]:
    """The configuration as plain mappings, lists, strings and numbers, tags included."""
    return msgspec.to_builtins(config)


def canonical_json(config: Any) -> str:
    """One text per configuration: sorted keys, no spaces. Stored in weights files and hashed."""
    return json.dumps(to_mapping(config), sort_keys=True, separators=(",", ":"))


def from_mapping(mapping: Any, kind: Any, *, where: str = "config") -> Any:
    """Builds the typed configuration ``kind`` from plain mappings.

    Args:
        mapping: Plain mappings, as read from YAML or JSON.
        kind: The configuration class, or a union of tagged classes.
        where: What the mapping is, for the message (a file name, ``preset `x` ``).

    Raises:
        ConfigError: If a key is unknown, a value has the wrong type, or the class refuses the values.
    """
    try:
        return msgspec.convert(mapping, kind, strict=True)
    except msgspec.ValidationError as error:
        cause, hint = error.__cause__, ""
        reason, _, place = str(error).partition(" - at `")
        path = place.strip("`$.")
        if isinstance(cause, ConfigError):
            reason, hint = cause.message, cause.hint
        elif (found := _misnamed(mapping, inspect.type_info(kind), ())) is not None:
            path, reason, hint = found
        else:
            reason = reason.replace("`object`", "a mapping").replace("`array`", "a list")
            reason = reason[:1].lower() + reason[1:]
        raise ConfigError(f"{f'`{path}` of ' if path else ''}{where}: {reason}", hint=hint) from None


def _misnamed(value: Any, kind: inspect.Type, path: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The first key, kind or word that is unknown or missing: its path, the reason and a hint; or None."""
    members = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    here = ".".join(path).replace(".[", "[")
    for each in members:
        if isinstance(each, inspect.VarTupleType | inspect.ListType) and isinstance(value, Sequence):
            items = (_misnamed(item, each.item_type, (*path, f"[{i}]")) for i, item in enumerate(value))
            return next((found for found in items if found is not None), None)
    words = [word for each in members if isinstance(each, inspect.LiteralType) for word in each.values]
    if words and isinstance(value, str) and value not in words:
        return here, f"unknown word `{value}`", closest(value, [str(word) for word in words])
    structs = {str(each.tag): each for each in members if isinstance(each, inspect.StructType)}
    if not structs or not isinstance(value, Mapping):
        return None
    struct = next(iter(structs.values()))
    if len(structs) > 1:
        if "kind" not in value:
            return here, "missing key `kind`", ""
        if (tag := str(value["kind"])) not in structs:
            return ".".join((*path, "kind")), f"unknown kind `{tag}`", closest(tag, structs)
        struct = structs[tag]
    fields = {field.encode_name: field for field in struct.fields}
    for key, each in value.items():
        if key in fields:
            if (found := _misnamed(each, fields[key].type, (*path, key))) is not None:
                return found
        elif struct.forbid_unknown_fields and key != struct.tag_field:
            return here, f"unknown key `{key}`", closest(str(key), fields)
    missing = [name for name, field in fields.items() if field.required and name not in value]
    return (here, f"missing key `{missing[0]}`", "") if missing else None


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merges mappings, later ones winning key by key, without changing them.

    Setting the ``kind`` of a union to another member drops the other fields of the old member.

    Example:
        >>> merge({"q": {"kind": "a", "x": 1}, "n": 1}, {"q": {"kind": "b"}})
        {'q': {'kind': 'b'}, 'n': 1}
        >>> merge({"q": {"kind": "a", "x": 1}}, {"q": {"y": 2}})
        {'q': {'kind': 'a', 'x': 1, 'y': 2}}
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(value, Mapping):
                base = old if isinstance(old, Mapping) and not _is_other_kind(old, value) else {}
                result[key] = merge(base, value)
            else:
                result[key] = value
    return result


def _is_other_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in old and "kind" in new and old["kind"] != new["kind"]


def value_at(mapping: Any, key: str) -> Any:
    """The value at a dotted path in nested mappings; None if there is none.

    Example:
        >>> value_at({"a": {"b": 1}}, "a.b"), value_at({"a": 1}, "a.b")
        (1, None)
    """
    for name in key.split("."):
        mapping = mapping.get(name) if isinstance(mapping, Mapping) else None
    return mapping


def flattened(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their dotted paths.

    Example:
        >>> flattened({"a": {"b": 1, "c": {}}, "d": None})
        {'a.b': 1, 'a.c': {}, 'd': None}
    """
    found: dict[str, Any] = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        found |= flattened(value, f"{key}.") if value and isinstance(value, Mapping) else {key: value}
    return found


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Turns ``["a.b=1e-4", "c=on"]`` into nested mappings; values are read as YAML.

    Raises:
        ConfigError: If an item has no ``=`` or an empty key.

    Example:
        >>> parse_overrides(["task.learning_rate=1e-4", "model.quantizer.kind=vector"])
        {'task': {'learning_rate': 0.0001}, 'model': {'quantizer': {'kind': 'vector'}}}
    """
    layers = []
    for item in items:
        key, equals, text = item.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(
                f"override `{item}` is not of the form `key=value`",
                hint='write for example `overrides=["task.learning_rate=1e-4"]`',
            )
        value: Any = parse_yaml(text, where=f"override `{item}`")
        for part in reversed(parts):
            value = {part: value}
        layers.append(value)
    return merge(*layers)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a run file: a mapping in YAML 1.2's core schema, at most 200 kB, without aliases that explode.

    Raises:
        ConfigError: If the file is missing, unreadable, too large, not YAML or not a mapping.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"`{path}` is not a file", hint="give a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read `{path}`: {reason_of(error)}", hint="check the path") from None
    if len(data) > MAX_YAML_BYTES:
        raise ConfigError(f"`{path}` has more than {MAX_YAML_BYTES:,} bytes", hint="give a run file")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"`{path}` is not a text file in UTF-8", hint="give a YAML file") from None
    if text.lstrip()[:5].lower() in ("<!doc", "<html"):
        raise ConfigError(f"`{path}` looks like a web page, not YAML", hint="download the file itself")
    value = parse_yaml(text, where=f"`{path}`")
    if not isinstance(value, dict):
        found = "is empty" if value is None else "holds a list" if isinstance(value, list) else "holds text"
        raise ConfigError(f"`{path}` {found}, expected a mapping of keys to values", hint="give a YAML file")
    return value


def parse_yaml(text: str, *, where: str = "text") -> Any:
    """Reads YAML as version 1.2 does: ``1e-4`` is a number, ``on`` and ``yes`` are words; no tags, no aliases.

    Numbers are decimal: no hexadecimal, octal or sexagesimal ones.

    Raises:
        ConfigError: If the text is not YAML, or uses aliases, tags or repeated keys.

    Example:
        >>> parse_yaml("{a: 1e-4, b: on, c: true, d: [1, .5]}")
        {'a': 0.0001, 'b': 'on', 'c': True, 'd': [1, 0.5]}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a huge number
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        hint = "write plain keys and values, and text with special characters in quotes"
        raise ConfigError(f"{where} is not valid YAML: {reason}", hint=hint) from None


def dump_yaml(config: Any) -> str:
    """The configuration as a YAML text that :func:`parse_yaml` reads back to the same values."""
    return yaml.dump(to_mapping(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "aliases and tags are not allowed here", None)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        counts = Counter(str(key.value) for key, _ in node.value)
        doubled = sorted(key for key, count in counts.items() if count > 1)
        if doubled:
            raise yaml.constructor.ConstructorError(None, None, f"key `{doubled[0]}` stands twice", None)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the loader refuses them


_CORE = {
    "bool": ("tTfF", r"true|True|TRUE|false|False|FALSE"),
    "int": ("-+0123456789", r"[-+]?[0-9]+"),
    "float": (
        "-+0123456789.",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
    "null": (["~", "n", "N", ""], r"~|null|Null|NULL|"),
}
"""The implicit types of YAML 1.2's core schema: first characters and whole text."""

for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _name, (_first, _text) in _CORE.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^({_text})$"), list(_first))
# SafeConstructor reads ints by YAML 1.1 (leading 0 is octal, `_` and `:` allowed): 1.2 says decimal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
