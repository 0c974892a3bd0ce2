"""How well label maps agree: each label's intersection over union, and the share of equal pixels."""

import torch
from jaxtyping import Int
from torch import Tensor


class LabelAgreement:
    """Counts pairs of true and found labels over many maps.

    Args:
        labels: How many labels there are.

    Example:
        >>> agreement = LabelAgreement(3)
        >>> agreement.add(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 0, 0, 1]]]))
        >>> {name: round(number, 3) for name, number in agreement.numbers().items()}
        {'miou': 0.583, 'accuracy': 0.75}
    """

    def __init__(self, labels: int) -> None:
        self._counts = torch.zeros(labels, labels, dtype=torch.int64)

    def add(self, truth: Int[Tensor, "b H W"], found: Int[Tensor, "b H W"]) -> None:
        """Adds maps and what was made of them."""
        labels = len(self._counts)
        pairs = (truth * labels + found).flatten().cpu()
        self._counts += torch.bincount(pairs, minlength=labels * labels).view(labels, labels)

    def numbers(self) -> dict[str, float]:
        """``miou``: the mean over labels that occur, on either side; ``accuracy``: the share of equal pixels."""
        same = self._counts.diagonal()
        union = self._counts.sum(0) + self._counts.sum(1) - same
        ratios = same[union > 0] / union[union > 0]
        return {"miou": float(ratios.mean()), "accuracy": float(same.sum() / self._counts.sum())}
