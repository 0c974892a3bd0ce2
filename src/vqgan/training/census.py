"""What a training step keeps in memory and computes, counted operation by operation while nothing is computed."""

import statistics
import time
import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

_ATEN, _ATTENTION = torch.ops.aten, "_scaled_dot_product_flash_attention"

FORMULAS = flop_registry | {
    getattr(_ATEN, f"{_ATTENTION}_for_cpu{way}"): flop_registry[getattr(_ATEN, _ATTENTION + way)]
    for way in ("", "_backward")
}
"""Floating-point operations of products, convolutions and attention; nothing else counts."""

_ROUNDS, _LONG, _CACHE = 3, 0.5, 2**22
"""An operation runs so often, but not longer than about so many seconds; numbers that fill the caches."""


class Census(TorchDispatchMode):
    """Follows the tensors on a device through a training step, and its operations.

    For use inside ``FakeTensorMode(allow_non_fake_inputs=True)``: weights, images and all that is made of them have
    sizes and no values. Numbers of samples and places in a grid are real, so that what is looked up by them is. A
    decision that depends on other values falls on "no": no code is re-seeded.

    Args:
        device: Whose memory is counted.

    Attributes:
        largest: The most bytes of each part since :meth:`begin`: ``weights``, ``gradients``, ``optimizer``,
            ``averages``, ``batch``, ``logits`` (and what is made of them but for products), ``exchange`` (what is sent
            to other processes), ``activations`` (the rest).
        peak: Bytes by part when all together had most.
        flops: Floating-point operations since then, see ``FORMULAS``.
        seconds: How long they take where they are measured, each by itself on this machine; none between processes.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self._now: Counter[str] = Counter()
        self._parts: dict[int, str] = {}
        self.begin()

    def begin(self, *, is_timed: bool = False) -> None:
        """Counts from here on, and perhaps measures; what is in memory stays."""
        self.largest, self.peak, self.flops = Counter(self._now), Counter(self._now), 0
        self.seconds, self._is_timed = 0.0, is_timed
        self._known: dict[str, float] = {}

    def mark(self, tensors: Iterable[Tensor], part: str) -> None:
        """Says which part of the memory tensors belong to."""
        for tensor in tensors:
            self._see(tensor, part)
            storage = tensor.untyped_storage()
            if id(storage) in self._parts:
                self._add(self._parts[id(storage)], -storage.nbytes())
                self._parts[id(storage)] = part
                self._add(part, storage.nbytes())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = args, (kwargs := kwargs or {})
        if func.namespace == "prim":  # what tensors are, not what they hold
            return func(*args, **kwargs)
        given = [each for each in tree_leaves(inputs) if isinstance(each, Tensor)]
        is_real = bool(given) and not any(isinstance(each, FakeTensor) for each in given)
        if is_real or func.overloadpacket is _ATEN.arange:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is _ATEN._local_scalar_dense.default:
            return 0
        if self._is_timed and func.namespace == "aten":
            like = [(each.shape, each.stride(), each.dtype) for each in given]
            key = f"{func}{like}{tree_map_only(Tensor, type, inputs)}"
            if key not in self._known:
                with unset_fake_temporarily():
                    self._known[key] = _measured(func, tree_map_only(Tensor, _filled, inputs), self.device)
            self.seconds += self._known[key]
        result = given[0].new_zeros(args[2]) if func is _ATEN.bincount.default else func(*args, **kwargs)
        formula, logits = FORMULAS.get(func.overloadpacket), set[int]()
        if formula is None:
            logits = {x.numel() for x in given if self._parts.get(id(x.untyped_storage())) == "logits"}
        else:
            self.flops += formula(*args, **kwargs, out_val=result)
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._see(each, "logits" if each.numel() in logits else "activations")
        if "c10d" in func.namespace:
            self.mark(given, "exchange")
        return result

    def _see(self, tensor: Tensor, part: str) -> None:
        """Counts what a tensor lies in, until that is freed, if it is new."""
        storage = tensor.untyped_storage()
        if tensor.device.type == self.device.type and id(storage) not in self._parts:
            self._parts[id(storage)] = part
            weakref.finalize(storage, self._free, id(storage), storage.nbytes()).atexit = False
            self._add(part, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._add(self._parts.pop(key), -size)

    def _add(self, part: str, size: int) -> None:
        self._now[part] += size
        self.largest[part] = max(self.largest[part], self._now[part])
        if self._now.total() > self.peak.total():
            self.peak = Counter(self._now)


def _filled(like: Tensor) -> Tensor:
    """A tensor that is like this one but for its values, which are all equal; 0 is an index that fits everywhere."""
    size = 1 + sum((n - 1) * step for n, step in zip(like.shape, like.stride(), strict=True))
    value = 0.5 if like.is_floating_point() else 0
    flat = torch.full((size if like.numel() else 0,), value, dtype=like.dtype, device=like.device)
    return flat.as_strided(like.shape, like.stride())


@torch.no_grad()
def _measured(operation: Any, inputs: Any, device: torch.device) -> float:
    """Seconds of an operation: the mean with inputs out of the caches and in them, as in a step some are."""
    args, kwargs = inputs
    # Of one thread the processor tells the seconds: other programs do not count.
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if is_alone else time.perf_counter
    others, cold, warm = torch.zeros(_CACHE, device=device), list[float](), list[float]()
    while len(warm) < _ROUNDS and sum(cold) + sum(warm) < _LONG:
        others.add_(1)
        for times in (cold, warm):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started = clock()
            operation(*args, **kwargs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - started)
    return (statistics.median(cold) + statistics.median(warm)) / 2
