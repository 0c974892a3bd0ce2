"""Typed configurations, and the reading and merging of the files and flags that fill them.

A configuration is a frozen :class:`Config`. Plain mappings are merged first (preset < YAML < ``--set``) and
converted strictly at the end, so that one place reports every mistake.
"""

import json
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vqgan.errors import ConfigError, closest

MAX_YAML_BYTES = 200_000
"""Run files are a page long; a larger file is a mistake or an attack (alias bombs)."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every configuration: immutable, keyword-only, unknown fields refused.

    Members of a union add ``tag_field="kind", tag="name"``; validation belongs into ``__post_init__``.
    """


def require(condition: bool, message: str, *, hint: str = "") -> None:
    """Raises ConfigError with ``message`` unless ``condition`` holds; for ``__post_init__``."""
    if not condition:
        raise ConfigError(message, hint=hint)


def to_mapping(config: Any) -> dict[str, Any]:
    """The configuration as plain mappings, lists, strings and numbers, tags included."""
    return msgspec.to_builtins(config)


def canonical_json(config: Any) -> str:
    """One text per configuration: sorted keys, no spaces. Stored in weights files and hashed."""
    return json.dumps(to_mapping(config), sort_keys=True, separators=(",", ":"))


def convert(mapping: Any, kind: Any, *, where: str = "config") -> Any:
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
        cause = error.__cause__
        path = _path(str(error))
        place = f"`{'.'.join(path)}` of {where}" if path else where
        if isinstance(cause, ConfigError):
            raise ConfigError(f"{place}: {cause.message}", hint=cause.hint) from None
        reason = _plain(str(error).split(" - at `")[0])
        raise ConfigError(f"{place}: {reason}", hint=_hint(reason, path, mapping, kind)) from None


def _path(message: str) -> list[str]:
    found = re.search(r"at `(?:key in )?\$\.?([^`]*)`", message)
    return [part for part in re.split(r"[.\[\]]+", found.group(1)) if part] if found else []


_WORDS = {
    "Object contains unknown field": "unknown key",
    "Object missing required field": "missing key",
    "Invalid enum value": "unknown word",
    "Invalid value": "unknown kind",
    "`object`": "a mapping",
    "`array`": "a list",
    "'": "`",
}


def _plain(reason: str) -> str:
    """Msgspec's words in ours: "Object contains unknown field `x`" becomes "unknown key `x`"."""
    for word, ours in _WORDS.items():
        reason = reason.replace(word, ours)
    return reason[:1].lower() + reason[1:]


def _hint(reason: str, path: Sequence[str], mapping: Any, kind: Any) -> str:
    """For an unknown key, kind or word: the nearest one that is known."""
    found = re.search(r"unknown (key|kind|word) `([^`]*)`", reason)
    if found is None:
        return ""
    what, word = found.groups()
    known: list[Any] = []
    if what == "key" and (struct := _chosen(*_at(kind, mapping, path))) is not None:
        known = list(struct.__struct_fields__)
    elif what == "kind":
        known = [struct.__struct_config__.tag for struct in _structs(_at(kind, mapping, path[:-1])[0])]
    elif what == "word":
        known = _choices(_at(kind, mapping, path)[0])
    return closest(word, [str(name) for name in known]) if known else ""


def _choices(kind: Any) -> list[Any]:
    """The words of a Literal, also as a part of a union."""
    if typing.get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    return [choice for member in typing.get_args(kind) for choice in _choices(member)]


def _structs(kind: Any) -> list[Any]:
    """The configuration classes that a type annotation admits."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return [struct for member in typing.get_args(kind) for struct in _structs(member)]
    return []


def _chosen(kind: Any, value: Any) -> Any:
    """Which of the configuration classes that ``kind`` admits ``value`` is meant to be."""
    structs = _structs(kind)
    tag = value.get("kind") if isinstance(value, Mapping) else None
    named = [struct for struct in structs if struct.__struct_config__.tag == tag]
    return next(iter(structs if len(structs) == 1 else named), None)


def _at(kind: Any, value: Any, path: Sequence[str]) -> tuple[Any, Any]:
    """The annotation and the value at a path, as far as they are known."""
    for part in path:
        struct = _chosen(kind, value)
        kind = typing.get_type_hints(struct).get(part) if struct is not None else None
        value = value.get(part) if isinstance(value, Mapping) else None
    return kind, value


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
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot read `{path}`: {reason}", hint="check the path") from None
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
    import yaml

    try:
        return yaml.load(text, Loader=_yaml_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a huge number
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        hint = "write plain keys and values, and text with special characters in quotes"
        raise ConfigError(f"{where} is not valid YAML: {reason}", hint=hint) from None


def dump_yaml(config: Any) -> str:
    """The configuration as a YAML text that :func:`parse_yaml` reads back to the same values."""
    import yaml

    return yaml.dump(to_mapping(config), Dumper=_yaml_dumper(), sort_keys=False, allow_unicode=True)


_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9]+$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")


def _resolvers(base: type) -> Any:
    """The implicit types of YAML 1.2's core schema, for a loader or a dumper class."""
    cls: Any = type("Core", (base,), {"yaml_implicit_resolvers": {}})
    cls.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))
    cls.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
    cls.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    cls.add_implicit_resolver("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""])
    return cls


def _yaml_loader() -> Any:
    import yaml

    class Loader(_resolvers(yaml.SafeLoader)):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.events.AliasEvent) or getattr(event, "tag", None) is not None:
                raise yaml.composer.ComposerError(None, None, "aliases and tags are not allowed here", None)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            counts = Counter(str(key.value) for key, _ in node.value)
            doubled = sorted(key for key, count in counts.items() if count > 1)
            if doubled:
                raise yaml.constructor.ConstructorError(None, None, f"key `{doubled[0]}` stands twice", None)
            return super().construct_mapping(node, deep=deep)

    # SafeConstructor reads ints by YAML 1.1 (leading 0 is octal, `_` and `:` allowed): 1.2 says decimal.
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
    return Loader


def _yaml_dumper() -> Any:
    import yaml

    class Dumper(_resolvers(yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True  # the loader refuses them

    return Dumper
