"""How the tests check annotations: with beartype, which jaxtyping asks about each function twice."""

from collections.abc import Callable
from typing import Any

from beartype import beartype

_checks: dict[tuple[str, str, str], Callable[..., Any]] = {}


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks either the parameters of a call or its result, which is then the parameter ``ret0``.

    beartype writes a function for each, which takes longer than a hundred calls. So with a result nothing else is checked
    again, and an inner function that is defined once more with the same annotations keeps its check.
    """
    hints = function.__annotations__
    if "ret0" in hints:
        function.__annotations__ = hints = {name: hint for name, hint in hints.items() if name == "return"}
    written = repr(hints)
    if "<locals>" not in function.__qualname__ or "<locals>" in written:
        return beartype(function)
    key = function.__module__, function.__qualname__, written
    if key not in _checks:
        _checks[key] = beartype(function)
    return _checks[key]
