"""The annotations of the source are checked while the tests run, also those of functions inside functions."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from type_checks import check
from vqgan.images import to_uint8


def test_the_source_is_checked():
    with pytest.raises(TypeCheckError, match="checking the parameters of vqgan"):
        to_uint8([0.5])


def inner():
    @jaxtyped(typechecker=check)
    def turned(image: Float[Tensor, "h w"], times: int) -> Float[Tensor, "w h"]:
        return image.T if times == 1 else image

    return turned


def test_an_inner_function_is_checked_each_time_that_it_is_defined():
    image = torch.zeros(2, 3)
    for turned in (inner(), inner()):
        assert turned(image, 1).shape == (3, 2)
        for wrong in ((image[0], 1), (image, "1")):
            with pytest.raises(TypeCheckError, match="checking the parameters of"):
                turned(*wrong)
        with pytest.raises(TypeCheckError, match="checking the return value of"):
            turned(image, 2)
