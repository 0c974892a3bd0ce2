"""One token more: on CUDA as a recorded graph, which is replayed without launching each operator by hand."""

import logging
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.prior import Group, KVCache, Reader, SteadyCache, read

logger = logging.getLogger(__name__)

Step = Callable[[Int[Tensor, " b"]], Float[Tensor, "b K"]]
"""Reads the next token of each sequence; gives the logits of the one after it."""


def make_step(reader: Reader, cache: KVCache) -> Step:
    """The quickest step on the reader's device, from a filled cache on.

    The logits of a recorded step are overwritten by the next one.
    """
    if can_record(reader):
        try:
            return RecordedStep(reader, SteadyCache(cache))
        except RuntimeError as error:
            logger.warning("sampling without a CUDA graph, which is slower: %s", str(error).splitlines()[0])

    def step(tokens: Int[Tensor, " b"]) -> Float[Tensor, "b K"]:
        return read(reader, [Group(tokens[:, None], cache)])

    return step


def can_record(reader: Reader) -> bool:
    """Whether the reader's device knows recorded graphs."""
    return reader.like.device.type == "cuda"


class RecordedStep:
    """A step on memory that stays where it is, recorded once and replayed for every token.

    Args:
        reader: The prior.
        cache: Filled; it moves on with every step.

    Raises:
        RuntimeError: If the step cannot be recorded; the cache is as it was.
    """

    def __init__(self, reader: Reader, cache: SteadyCache) -> None:
        self._tokens = torch.zeros(cache.count, 1, dtype=torch.int64, device=reader.like.device)
        group, start = Group(self._tokens, cache), cache.position.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # lets libraries set themselves up before the recording
            for _ in range(2):
                read(reader, [group])
                cache.position.copy_(start)  # what was stored there is overwritten by the first true step
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = read(reader, [group])

    def __call__(self, tokens: Int[Tensor, " b"]) -> Float[Tensor, "b K"]:
        """Replays the step for these tokens."""
        self._tokens.copy_(tokens[:, None])
        self._graph.replay()
        return self._logits
