import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.sampling.random import GridNoise, mix

CPU = torch.device("cpu")
MASK = 0xFFFFFFFF


def noise(seed=0, count=1, grid=(2, 2), codebook_size=8, purpose=0):
    return GridNoise(
        seed=seed, count=count, grid=grid, codebook_size=codebook_size, device=CPU, purpose=purpose
    )


def mixed(x):
    """The hash in Python's unbounded integers."""
    x ^= x >> 16
    x = x * 0x21F0AAAD & MASK
    x ^= x >> 15
    x = x * 0xD35A2D97 & MASK
    return x ^ x >> 15


def bits_of(seed, purpose, row, column, code):
    first, second = 0, 0x85EBCA6B
    for word in (seed & MASK, seed >> 32, purpose, row, column):
        first, second = (mixed((key + word + 0x9E3779B9) & MASK) for key in (first, second))
    return mixed((mixed((code + 0x9E3779B9) & MASK) ^ first) + second & MASK)


def all_noise(seed, side, codebook_size):
    made = noise(seed=seed, grid=(side, side), codebook_size=codebook_size)
    cells = [made.at(row, column)[0] for row in range(side) for column in range(side)]
    return torch.stack(cells).view(side, side, codebook_size)


@pytest.mark.parametrize(
    ("seed", "purpose", "row", "column", "code", "expected"),
    [
        (0, 0, 0, 0, 0, 0x7A0E0FBC),
        (7, 0, 3, 5, 1023, 0xB1AD0A4F),
        (2**33 + 1, 1, 15, 127, 16383, 0x937DF665),
    ],
)
def test_bits_are_those_of_the_contract(seed, purpose, row, column, code, expected):
    made = noise(seed=seed, grid=(row + 1, column + 1), codebook_size=code + 1, purpose=purpose)
    assert int(made.bits(row, column)[0, code]) == expected == bits_of(seed, purpose, row, column, code)


def test_bits_equal_unbounded_integers():
    for seed in (0, 1, 2**32 - 1, 2**63 - 3):
        made = noise(seed=seed, count=3, grid=(3, 2), codebook_size=5)
        for row in range(3):
            for column in range(2):
                expected = [[bits_of(seed + i, 0, row, column, code) for code in range(5)] for i in range(3)]
                assert made.bits(row, column).tolist() == expected


def test_mix_is_one_to_one_and_stays_in_32_bits():
    values = mix(torch.arange(100_000) * 42_949 % 2**32)
    assert len(values.unique()) == 100_000
    assert values.min() >= 0
    assert values.max() <= MASK


def test_noise_depends_on_nothing_but_seed_cell_and_code():
    small, large = noise(seed=9), noise(seed=7, count=5, grid=(6, 9), codebook_size=20)
    assert torch.equal(small.at(1, 1)[0], large.at(1, 1)[2, :8])
    assert not torch.equal(small.at(1, 0), small.at(0, 1))
    assert not torch.equal(small.at(1, 0), noise(seed=9, purpose=1).at(1, 0))


@pytest.mark.parametrize("value", [0, 1, 2**31, MASK - 1, MASK])
def test_noise_is_finite_for_all_bits(value, monkeypatch):
    monkeypatch.setattr(GridNoise, "bits", lambda self, row, column: torch.tensor([[value]]))
    u = min((value + 0.5) / 2**32, 1 - 2**-24)
    expected = -(-(torch.tensor(-u, dtype=torch.float64).log1p())).log()
    found = noise().at(0, 0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected.view(1, 1), rtol=1e-6, atol=1e-6)


def test_noise_has_mean_and_variance_of_a_gumbel_variable():
    values = all_noise(seed=3, side=32, codebook_size=64).double()
    assert abs(float(values.mean()) - 0.5772) < 0.02
    assert abs(float(values.var()) - 1.6449) < 0.04


def test_the_largest_noise_is_equally_often_that_of_each_code():
    winners = all_noise(seed=11, side=64, codebook_size=8).argmax(dim=-1)
    counts = winners.flatten().bincount(minlength=8).double()
    chi_square = ((counts - 512) ** 2 / 512).sum()
    assert 0.5 < float(chi_square) < 24.3  # 7 degrees of freedom: 0.1 % lie above, 0.05 % below


def test_neighbours_are_not_correlated():
    values = all_noise(seed=5, side=40, codebook_size=40)
    pairs = {
        "row": (values[1:], values[:-1]),
        "column": (values[:, 1:], values[:, :-1]),
        "code": (values[..., 1:], values[..., :-1]),
        "seed": (values, all_noise(seed=6, side=40, codebook_size=40)),
        "transposed": (values, values.transpose(0, 1)),
    }
    for name, (first, second) in pairs.items():
        if name == "transposed":
            upper = torch.ones(40, 40).triu(1).bool()
            first, second = first[upper], second[upper]
        correlation = torch.corrcoef(torch.stack([first.flatten(), second.flatten()]).double())[0, 1]
        assert abs(float(correlation)) < 4 / first.numel() ** 0.5, name


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (2**63 - 1, 2), (2**63, 1)])
def test_seeds_out_of_range_are_refused(seed, count):
    with pytest.raises(ConfigError, match=f"`seed` is {seed}, expected 0 <= seed < 2"):
        noise(seed=seed, count=count)


def test_the_largest_seed_is_accepted():
    assert noise(seed=2**63 - 1).bits(1, 1)[0].tolist() == [bits_of(2**63 - 1, 0, 1, 1, c) for c in range(8)]


def test_no_two_cells_of_any_seeds_have_the_same_key():
    """Of ten million keys of 64 bits, equal ones are not to be expected (3e-6); of 32 bits there were 10,000 pairs."""
    made = noise(seed=0, count=10_000, grid=(32, 32))
    assert len(keys(made).unique()) == 10_000 * 32 * 32
    equal_before = [noise(seed=seed) for seed in (4294967303, 2991558519)]
    assert not torch.equal(*(each.at(0, 0) for each in equal_before))


def test_the_two_words_of_a_key_are_independent():
    made = noise(seed=0, count=100, grid=(32, 32))
    first, second = (key.flatten().double() for key in made._keys)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 4 / first.numel() ** 0.5
    bits = (made._keys[0] ^ made._keys[1])[..., None] >> torch.arange(32) & 1
    assert (bits.double().mean(dim=(0, 1, 2)) - 0.5).abs().max() < 4 * 0.5 / first.numel() ** 0.5


def keys(made):
    first, second = made._keys
    return (first + (second << 32)).flatten()
