import pytest
import torch

from vqgan.config import from_mapping
from vqgan.errors import ConfigError
from vqgan.tokenizer.quantizers.remap import RemapConfig, to_used

USED = torch.tensor([1, 4, 7])


def remap(codes, unknown="random", num_used=3, used=USED):
    return to_used(codes, used, table_size=10, config=RemapConfig(num_used=num_used, unknown=unknown))


@pytest.mark.parametrize("unknown", ["random", "extra", 2])
def test_codes_in_use_get_their_place_in_the_list(unknown):
    assert remap(torch.tensor([[[7, 1, 4, 1]]]), unknown).tolist() == [[[2, 0, 1, 0]]]


def test_codes_that_are_not_in_use_get_the_extra_index_or_the_given_one():
    codes = torch.tensor([[[7, 0, 9]]])
    assert remap(codes, "extra").tolist() == [[[2, 3, 3]]]
    assert remap(codes, 1).tolist() == [[[2, 1, 1]]]


def test_random_indices_depend_on_code_row_and_column_alone():
    codes = torch.randint(0, 10, (3, 8, 8), generator=torch.Generator().manual_seed(0))
    whole = remap(codes)
    assert torch.equal(whole, remap(codes))
    assert torch.equal(whole[2:], remap(codes[2:]))
    assert torch.equal(whole[:, :5, :3], remap(codes[:, :5, :3]))


def test_random_indices_do_not_change_with_the_version():
    assert remap(torch.zeros(1, 2, 4, dtype=torch.int64)).tolist() == [[[0, 2, 2, 2], [0, 0, 1, 1]]]


def test_random_indices_are_spread_evenly_and_differ_between_neighbours():
    used = torch.arange(1, 9)
    found = remap(torch.zeros(1, 128, 128, dtype=torch.int64), num_used=8, used=used)[0]
    other = remap(torch.full((1, 128, 128), 9), num_used=8, used=used)[0]
    expected = 128 * 128 / 8
    chi_square = ((torch.bincount(found.flatten(), minlength=8) - expected) ** 2 / expected).sum()
    assert chi_square < 30  # 7 degrees of freedom: exceeded in 1 of 10,000 draws
    for pair in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1]), (found, other)):
        assert abs((pair[0] == pair[1]).double().mean() - 1 / 8) < 0.015


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_used": 0}, "`num_used` is 0, expected at least 1"),
        ({"num_used": 3, "unknown": 3}, "`unknown` is 3, expected 0 <= unknown < 3"),
        ({"num_used": 3, "unknown": -1}, "`unknown` is -1"),
        ({"num_used": 3, "unknown": "first"}, "`unknown` of config"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(values, RemapConfig)
