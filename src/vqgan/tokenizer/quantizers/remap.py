"""Remapped codebooks: only some codes of a table are used, and they are numbered anew from 0."""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from vqgan.config import Config, Count
from vqgan.errors import CheckpointError, require
from vqgan.types import Indices

_MASK = 0xFFFFFFFF


class RemapConfig(Config, frozen=True):
    """How the codes of a table are numbered anew. Which codes are in use is a tensor of the weights file.

    Attributes:
        num_used: Number of codes in use.
        unknown: What a latent is called whose code is not in use: ``"extra"``, one index more, which reads as
            the first code in use; the number of an index; or ``"random"``, an index that depends on the code, its
            row and its column only, so that the same latents always get the same indices.
    """

    num_used: Count
    unknown: Literal["random", "extra"] | int = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.unknown, int):
            require(
                0 <= self.unknown < self.num_used,
                f"`unknown` is {self.unknown}, expected 0 <= unknown < {self.num_used}",
            )

    @property
    def num_codes(self) -> int:
        """Number of indices."""
        return self.num_used + (self.unknown == "extra")


def to_used(indices: Indices, used: Int[Tensor, " u"], *, table_size: int, config: RemapConfig) -> Indices:
    """The new indices of codes.

    Args:
        indices: Rows of the table, ``0 <= index < table_size``.
        used: The rows in use, in the order of their new indices.
        table_size: Number of rows.
        config: What becomes of the others.

    Example:
        >>> grid = torch.tensor([[[2, 5, 3]]])
        >>> to_used(grid, torch.tensor([2, 3]), table_size=8, config=RemapConfig(num_used=2, unknown="extra"))
        tensor([[[0, 2, 1]]])
    """
    new = torch.full((table_size,), -1, device=indices.device)
    new[used] = torch.arange(len(used), device=indices.device)
    found = new[indices]
    match config.unknown:
        case "random":
            other = _hash(indices) % config.num_used
        case "extra":
            other = torch.full_like(found, config.num_used)
        case number:
            other = torch.full_like(found, number)
    return torch.where(found >= 0, found, other)


def to_all(indices: Int[Tensor, " k"], used: Int[Tensor, " u"]) -> Int[Tensor, " k"]:
    """The rows of the table that new indices stand for; the extra index is the first row in use.

    Example:
        >>> to_all(torch.tensor([0, 1, 2]), torch.tensor([2, 3]))
        tensor([2, 3, 2])
    """
    return used[torch.where(indices < len(used), indices, 0)]


def check_used(used: Int[Tensor, " u"], *, table_size: int) -> None:
    """Raises CheckpointError unless the rows in use are different rows of the table."""
    if used.is_meta:
        return
    low, high = (int(bound) for bound in used.aminmax())
    if low < 0 or high >= table_size or len(used.unique()) < len(used):
        raise CheckpointError(
            f"the codes in use lie between {low} and {high}, {len(used.unique())} different ones of {len(used)}; "
            f"expected different ones from 0 to {table_size - 1}",
            hint="the file is damaged, or its list of used codes belongs to another codebook",
        )


def _hash(codes: Indices) -> Indices:
    """Numbers of 32 bits from (code, row, column); the same on every device and in any batch."""
    _, rows, columns = codes.shape
    row = torch.arange(rows, device=codes.device).view(rows, 1)
    column = torch.arange(columns, device=codes.device)
    x = torch.zeros_like(codes)
    for word in (codes, row, column):
        # Constants below 2^31, so that no product of them with 32 bits leaves int64.
        x = (x + word + 0x3779B97F) & _MASK
        x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & _MASK
        x = ((x ^ (x >> 12)) * 0x297A2D39) & _MASK
        x = x ^ (x >> 15)
    return x
