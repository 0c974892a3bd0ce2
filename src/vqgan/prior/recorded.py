"""Reading one token more as a recorded CUDA graph, which is replayed without launching each operator by hand."""

import logging

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vqgan.prior.cache import Heads, KVCache, Mask, Offsets, hide
from vqgan.prior.prior import Prior
from vqgan.prior.transformer import Group
from vqgan.types import Tokens

logger = logging.getLogger(__name__)


class SteadyCache(KVCache):
    """A cache whose steps all do the same work on the same memory, so that a recorded step can be replayed.

    It is read as a :class:`KVCache` is, one token at a time. The position of the next token is a tensor; attention runs
    over the whole memory and masks what is not filled.

    Args:
        filled: What was read before; its memory is taken over. Its length stays, so that it can still be read on from
            there.

    Attributes:
        position: Of the next token, one number.

    Raises:
        ValueError: If there is no room for another token.
    """

    def __init__(self, filled: KVCache) -> None:
        if filled.length == filled.capacity:
            raise ValueError(f"the cache holds {filled.capacity} tokens and is full")
        self.count, self.capacity, self.length = filled.count, filled.capacity, filled.length
        self.layers = filled.layers
        for store in self.layers:
            store[:, :, :, filled.length :] = 0  # masked, but never NaN
        device = self.layers[0].device
        self.position = torch.tensor([filled.length], device=device)
        self._places = torch.arange(filled.capacity, device=device)

    def positions(self, table: Shaped[Tensor, "context _"], count: int) -> Shaped[Tensor, "1 _"]:
        """As :meth:`KVCache.positions`, for one token; there is no check of the room."""
        return table.index_select(0, self.position)

    def offsets(self, table: Int[Tensor, "context 2"], count: int) -> Offsets:
        """As :meth:`KVCache.offsets`, to the whole memory."""
        return self.positions(table, 1)[:, None] - table[None, : self.capacity]

    def append(self, layer: int, keys_values: Float[Tensor, "2 b heads 1 head_width"]) -> tuple[Heads, Heads]:
        """As :meth:`KVCache.append`, but returns the whole memory."""
        store = self.layers[layer].index_copy_(3, self.position, keys_values)
        return store[0], store[1]

    def mask(self, count: int) -> Mask:
        """Hides places that are not filled; the newest token's is."""
        return hide((self._places > self.position)[None], self.layers[0])

    def advance(self, count: int) -> None:
        """Moves on by one token."""
        self.position += count


class RecordedStep:
    """A step on memory that stays where it is, recorded once and replayed for every token.

    The logits of one step are overwritten by the next.

    Args:
        reader: The prior.
        filled: What was read before, with room for another token; its memory is taken over.

    Raises:
        RuntimeError: If the step cannot be recorded; what ``filled`` holds is as it was.
    """

    def __init__(self, reader: Prior, filled: KVCache) -> None:
        cache = SteadyCache(filled)
        self._device = reader.head.weight.device
        self._kept = (reader, cache)  # a graph does not keep the memory alive that it reads and writes
        self._tokens = torch.zeros(filled.count, 1, dtype=torch.int64, device=self._device)
        group, start = Group(self._tokens, cache), cache.position.clone()
        with torch.cuda.device(self._device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):  # lets libraries set themselves up before the recording
                    for _ in range(2):  # the first true step overwrites what they store
                        reader.read([group])
                        cache.position.copy_(start)
            finally:
                current.wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with (
                torch.cuda.stream(current),  # comes back to it even if the recording fails
                torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"),
            ):
                self._logits = reader.read([group])

    def __call__(self, tokens: Tokens) -> Float[Tensor, "b K"]:
        """Replays the step for each of these tokens; gives the logits of the one after them."""
        with torch.cuda.device(self._device):
            for column in tokens.split(1, dim=1):
                self._tokens.copy_(column)
                self._graph.replay()
        return self._logits


def record(reader: Prior, cache: KVCache) -> RecordedStep | None:
    """Records a step from a filled cache on; None, with a warning, where that fails."""
    try:
        return RecordedStep(reader, cache)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        logger.warning("sampling without a CUDA graph, which is slower: %s", reason)
        return None
