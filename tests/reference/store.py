"""Recorded inputs, weights and outputs of the original system, as the parity tests read them.

``weights.safetensors`` holds every weight array once; ``cases.json`` says which key of which recorded
checkpoint is which array, in the recorded order, and what else its file contained. The folders hold the
recorded inputs and outputs; ``manifest.json`` says what each array is.
"""

import functools
import json
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One recorded case.

    Attributes:
        name: The folder's name.
        io: The arrays of ``io.npz``.
        state: The weights under their original keys in recorded order; empty where none were recorded.
        config: ``model.yaml`` as mappings; empty where there is none.
    """

    name: str
    io: dict[str, np.ndarray]
    state: dict[str, Tensor]
    config: dict[str, Any]

    def tensor(self, name: str) -> Tensor:
        """The array ``name`` of ``io`` as a tensor of its own."""
        return torch.from_numpy(self.io[name].copy())

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        """The arrays of another ``.npz`` file of the case."""
        return _arrays(ROOT / self.name / file)

    def read_json(self, file: str) -> Any:
        """A recorded ``.json`` file of the case (logs, keys, layouts)."""
        return json.loads((ROOT / self.name / file).read_text(encoding="utf-8"))


def names() -> list[str]:
    """The recorded cases."""
    return list(_cases())


def case(name: str) -> Case:
    """Reads the case ``name``; every call returns fresh tensors."""
    folder = ROOT / name
    config = folder / "model.yaml"
    return Case(
        name=name,
        io=_arrays(folder / "io.npz"),
        state=_state(_cases()[name]),
        config=yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {},
    )


def description(name: str) -> dict[str, Any]:
    """What the recorded checkpoint file held beside its arrays.

    ``top_level`` (keys in order), ``globals`` (the names in its pickle), ``values`` (everything but the weights),
    ``shared`` (keys whose tensor shares the storage of another key) and ``masks`` (causal masks by size).
    """
    entry = dict(_cases()[name])
    entry.pop("state", None)
    return entry


def write_checkpoint(name: str, path: Path) -> None:
    """Puts the recorded ``.ckpt`` together again: the same keys, order, sharing and names in its pickle."""
    entry = _cases()[name]
    values = dict(entry["values"])
    with _importable(values.pop("callbacks", {})) as callbacks:
        parts = {**values, "callbacks": callbacks, "state_dict": OrderedDict(_state(entry))}
        torch.save({key: parts[key] for key in entry["top_level"]}, path)


@contextmanager
def _importable(callbacks: dict[str, Any]) -> Iterator[dict[type, Any]]:
    """Pickle writes a class by its name only if that can be imported: lends the name to an empty class."""
    result: dict[type, Any] = {}
    added = []
    for name, fields in callbacks.items():
        module_name, class_name = name.split(" ")
        parts = module_name.split(".")
        for parent in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                added.append(parent)
        stand_in = type(class_name, (), {"__module__": module_name})
        setattr(sys.modules[module_name], class_name, stand_in)
        result[stand_in] = {
            key: torch.tensor(value["tensor"]) if isinstance(value, dict) else value
            for key, value in fields.items()
        }
    try:
        yield result
    finally:
        for module_name in added:
            del sys.modules[module_name]


def _state(entry: dict[str, Any]) -> dict[str, Tensor]:
    weights = _weights()
    shared = entry.get("shared", {})
    state: dict[str, Tensor] = {}
    for key, array in entry.get("state", {}).items():
        if key in shared:
            state[key] = state[shared[key]]
        elif array is None:
            size = entry["masks"][key]
            state[key] = torch.ones(size, size).tril().view(1, 1, size, size)
        else:
            state[key] = weights[array].clone()
    return state


@functools.cache
def _cases() -> dict[str, Any]:
    return json.loads((ROOT / "cases.json").read_text(encoding="utf-8"))


@functools.cache
def _weights() -> dict[str, Tensor]:
    return load_file(ROOT / "weights.safetensors")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
