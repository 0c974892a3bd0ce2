"""A few tokens more: on CUDA as a recorded graph, which is replayed without launching each operator by hand."""

import logging
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.prior import Group, KVCache, Reader, SteadyCache, read
from vqgan.types import Tokens

logger = logging.getLogger(__name__)

Step = Callable[[Tokens], Float[Tensor, "b K"]]
"""Reads the next tokens of each sequence; gives the logits of the one after them."""

_MIN_RECORDED = 8
"""Steps; to record a graph takes as long as some of them."""


def make_step(reader: Reader, cache: KVCache, *, count: int) -> Step:
    """The quickest step on the reader's device, from a filled cache on.

    The logits of a recorded step are overwritten by the next one. Leave ``cache`` alone: its memory is used.

    Args:
        reader: The prior.
        cache: What was read before.
        count: Tokens of each sequence that will be read.
    """
    if can_record(reader) and count >= _MIN_RECORDED:
        try:
            return RecordedStep(reader, cache)
        except RuntimeError as error:
            logger.warning("sampling without a CUDA graph, which is slower: %s", str(error).splitlines()[0])

    def step(tokens: Tokens) -> Float[Tensor, "b K"]:
        return read(reader, [Group(tokens, cache)])

    return step


def can_record(reader: Reader) -> bool:
    """Whether the reader's device knows recorded graphs."""
    return reader.like.device.type == "cuda"


class RecordedStep:
    """A step on memory that stays where it is, recorded once and replayed for every token.

    Args:
        reader: The prior.
        filled: What was read before, with room for another token; its memory is taken over.

    Raises:
        RuntimeError: If the step cannot be recorded; what ``filled`` holds is as it was.
    """

    def __init__(self, reader: Reader, filled: KVCache) -> None:
        cache = SteadyCache(filled)
        self._device = reader.like.device
        self._kept = (reader, cache)  # a graph does not keep the memory alive that it reads and writes
        self._tokens = torch.zeros(filled.count, 1, dtype=torch.int64, device=self._device)
        group, start = Group(self._tokens, cache), cache.position.clone()
        with torch.cuda.device(self._device):
            current, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):  # lets libraries set themselves up before the recording
                    for _ in range(2):  # the first true step overwrites what they store
                        read(reader, [group])
                        cache.position.copy_(start)
            finally:
                current.wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with (
                torch.cuda.stream(current),  # comes back to it even if the recording fails
                torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"),
            ):
                self._logits = read(reader, [group])

    def __call__(self, tokens: Tokens) -> Float[Tensor, "b K"]:
        """Replays the step for each of these tokens."""
        with torch.cuda.device(self._device):
            for column in tokens.split(1, dim=1):
                self._tokens.copy_(column)
                self._graph.replay()
        return self._logits
