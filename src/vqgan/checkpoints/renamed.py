"""Fields of configurations that once had another name: files written then are still read."""

from collections.abc import Mapping
from typing import Any

RENAMED = {("task", "adversary"): "discriminator"}
"""The path of the old name to the new name of its last part."""


def with_new_names(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the present names of its fields; a field that stands under both names stays so.

    Example:
        >>> with_new_names({"task": {"adversary": {"start": 3}}})
        {'task': {'discriminator': {'start': 3}}}
    """
    result = dict(mapping)
    for (section, old), new in RENAMED.items():
        fields = result.get(section)
        if isinstance(fields, Mapping) and old in fields and new not in fields:
            result[section] = {new if name == old else name: value for name, value in fields.items()}
    return result
