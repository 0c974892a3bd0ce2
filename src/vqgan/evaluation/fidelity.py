"""How like the images their reconstructions are, picture by picture."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vqgan.evaluation.numbers import Number, PerPicture
from vqgan.evaluation.psnr import WINDOW, psnr, structural_similarity
from vqgan.images import to_float
from vqgan.nn.perceptual import PerceptualNetwork

Pictures = UInt8[np.ndarray, "n H W c"]

MULTISCALE = 176
"""The shortest side for MS-SSIM: below, the coarsest of its five scales cannot hold the window of 11 pixels."""

_AT_ONCE, _SEEN_AT_ONCE = 1 << 22, 1 << 20
"""Values whose similarity is computed, and that LPIPS sees, at the same time."""


def squared_errors(real: Pictures, others: Pictures) -> PerPicture:
    """The mean squared error of each picture, of 255."""
    pairs = zip(real, others, strict=True)
    return np.array([np.square(one.astype(np.float64) - other).mean() for one, other in pairs])


def fidelity(real: Pictures, others: Pictures) -> dict[str, Number]:
    """PSNR, SSIM (Wang et al. 2004) and MS-SSIM (Wang et al. 2003), of 8-bit values, with intervals.

    The error of PSNR is summed over all pictures before its logarithm is taken. SSIM is absent where a side is shorter
    than its window of 11 pixels, MS-SSIM where one is shorter than 176, or without torchmetrics (extra `eval`).

    Args:
        real: Pictures.
        others: Their reconstructions.
    """
    numbers = {"psnr": Number.mean(squared_errors(real, others), lambda error: psnr(error, 1))}
    measures: dict[str, Callable[..., Tensor]] = {}
    if min(real.shape[1:3]) >= WINDOW:
        measures["ssim"] = structural_similarity
    if min(real.shape[1:3]) >= MULTISCALE and find_spec("torchmetrics") is not None:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

        measures["ms_ssim"] = partial(
            multiscale_structural_similarity_index_measure, data_range=255.0, reduction="none"
        )
    for name, measure in measures.items():
        numbers[name] = Number.mean(_similarity(real, others, measure))
    return numbers


def _similarity(real: Pictures, others: Pictures, measure: Callable[..., Tensor]) -> PerPicture:
    size = max(1, _AT_ONCE // real[0].size)
    parts = []
    for first in range(0, len(real), size):
        pair = (torch.from_numpy(each[first : first + size]).movedim(3, 1).float() for each in (real, others))
        parts.append(measure(*pair).reshape(-1).double().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def perceptual_distances(network: PerceptualNetwork, real: Pictures, others: Pictures) -> PerPicture:
    """LPIPS of each picture and its reconstruction; errors as of the network."""
    size, parts = max(1, _SEEN_AT_ONCE // real[0].size), []
    for first in range(0, len(real), size):
        pair = (to_float(each[first : first + size]).to(network.shift.device) for each in (real, others))
        parts.append(network(*pair).double().cpu().numpy())
    return np.concatenate(parts)
