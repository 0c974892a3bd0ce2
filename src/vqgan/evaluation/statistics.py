"""Statistics of features that others published: the mean and covariance to which FID is taken."""

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vqgan.errors import DataError, printable, reason_of
from vqgan.evaluation.sets import Gaussian

_HINT = (
    "give a file as the evaluators of FID read it: `mu` and `sigma` of Inception's features, in one `.npz`"
)
_TOLERANCE = 1e-4
"""Of single precision: how much below 0 a covariance may be, as a share of its largest eigenvalue."""


class Statistics(NamedTuple):
    """What a file says.

    Attributes:
        gaussian: Mean and covariance.
        digest: sha256 of both, hexadecimal.
    """

    gaussian: Gaussian
    digest: str


def read_statistics(path: Path) -> Statistics:
    """The ``mu`` (f) and ``sigma`` (f f) of an ``.npz``; other arrays in it, such as images, are not read.

    Raises:
        DataError: If it cannot be read, or these are no mean and covariance.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            mean, covariance = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
    except OSError as error:
        raise DataError(f"cannot read `{printable(path)}`: {reason_of(error)}", hint=_HINT) from None
    except KeyError:
        raise DataError(f"`{printable(path)}` lacks `mu` or `sigma`", hint=_HINT) from None
    except (ValueError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        what = f"`{printable(path)}` is no `.npz` of numbers, or damaged"
        raise DataError(what, hint=_HINT) from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        what = f"`mu` of `{printable(path)}` has the shape {mean.shape} and `sigma` {covariance.shape}"
        raise DataError(f"{what}, expected (f) and (f, f)", hint=_HINT)
    is_finite = np.isfinite(mean).all() and np.isfinite(covariance).all()
    values, vectors = np.linalg.eigh(covariance) if is_finite else (np.array([np.nan]), covariance)
    if not (values[0] >= -_TOLERANCE * values[-1] and np.allclose(covariance, covariance.T)):
        raise DataError(f"`sigma` of `{printable(path)}` is no covariance", hint=_HINT)
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    digest = hashlib.sha256(mean.tobytes() + covariance.tobytes()).hexdigest()
    return Statistics(Gaussian(torch.from_numpy(mean), torch.from_numpy(root)), digest)
