"""Fields of configurations that were renamed: older runs, requests and weights files can still be read."""

from collections.abc import Mapping
from typing import Any

RENAMED = {("task", "adversary"): "discriminator"}
"""The section and the old name of a field to its new name."""


def with_new_names(mapping: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """The configuration with current field names; if a field has both names, the old one is kept and refused later.

    Example:
        >>> with_new_names({"task": {"adversary": {"start": 3}}})
        {'task': {'discriminator': {'start': 3}}}
    """
    result = {}
    for name, value in mapping.items():
        new = RENAMED.get((section, name), name)
        new = name if new in mapping else new
        result[new] = with_new_names(value, new) if isinstance(value, Mapping) else value
    return result
