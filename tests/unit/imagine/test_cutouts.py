import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqgan.errors import ConfigError
from vqgan.imagine.cutouts import CutOutConfig, _crops, cut_outs, resample

NONE = dict.fromkeys(
    ("rotation", "shear", "shift", "scale", "flip", "perspective", "brightness", "contrast", "saturation",
     "hue", "noise"), 0.0) | {"erased": (0.0, 0.0)}  # fmt: skip
WHOLE = NONE | {"power": 0.0}


def picture(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def cut(images, size=16, count=6, seed=3, step=5, first=0, **config):
    return cut_outs(images, CutOutConfig(**config), size=size, seed=seed, step=step, first=first, count=count)


def view(images, size, *, side=None, left=0.0, top=0.0, linear=((1.0, 0.0), (0.0, 1.0))):
    """One view of a square of the images, turned about its middle."""
    half = (side or images.shape[-1]) / 2
    (a, b), (c, d) = linear
    rows = [[half * a, half * b, left + half], [half * c, half * d, top + half], [0, 0, 1]]
    maps = torch.tensor(rows, dtype=images.dtype).expand(len(images), 1, 3, 3)
    return resample(images, maps, size)[:, 0]


def test_without_changes_a_cut_of_the_same_size_is_the_image():
    images = picture(2, 3, 16, 16)
    torch.testing.assert_close(cut(images, **WHOLE), images[:, None].expand(-1, 6, -1, -1, -1))
    single = picture(1, 3, 64, 64, dtype=torch.float32)
    torch.testing.assert_close(cut(single, size=64, count=1, **WHOLE)[0], single, rtol=0, atol=2e-4)


def test_cuts_repeat_and_depend_on_seed_step_and_number_alone():
    images = picture(2, 3, 24, 32)
    made = cut(images)
    assert torch.equal(made, cut(images))
    assert torch.equal(made[1:], cut(images[1:], seed=4))  # image i takes the seed `seed + i`
    torch.testing.assert_close(made[:, 4:], cut(images, first=4, count=2), rtol=0, atol=1e-12)
    for others in (cut(images, seed=9), cut(images, step=6), cut(images, first=6)):
        assert (made - others).abs().mean() > 0.05
    assert (made[0, 0] - made[0, 1]).abs().mean() > 0.05
    assert cut(images, count=None, first=30).shape == (2, 2, 3, 16, 16)


def test_turning_one_change_off_leaves_the_numbers_of_the_others():
    images = picture(1, 3, 24, 24)
    alone = cut(images, **WHOLE | {"hue": 0.3, "share": 1.0})
    both = cut(images, **WHOLE | {"hue": 0.3, "share": 1.0, "rotation": 1e-9, "perspective": 1e-9})
    torch.testing.assert_close(alone, both, rtol=0, atol=1e-6)


def gradient(images, chunk):
    images = images.clone().requires_grad_()
    weights = picture(32, 3, 16, 16, seed=1)
    for first in range(0, 32, chunk):
        cuts = cut(images, first=first, count=chunk)
        (cuts.square() * weights[first : first + chunk]).sum().backward()
    return images.grad


def test_the_gradient_does_not_depend_on_the_chunk():
    images = picture(2, 3, 40, 48)
    whole = gradient(images, 32)
    assert (whole != 0).float().mean() > 0.9
    for chunk in (1, 8):
        torch.testing.assert_close(gradient(images, chunk), whole, rtol=0, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    images = picture(1, 3, 7, 6).requires_grad_()
    assert torch.autograd.gradcheck(
        partial(cut, size=4, count=4, flip=0.5, scale=0.2), images, fast_mode=True
    )


def test_a_quarter_turn_and_a_mirror_are_exact():
    images = picture(2, 3, 8, 8)
    turned = view(images, 8, linear=((0.0, -1.0), (1.0, 0.0)))
    torch.testing.assert_close(turned, images.rot90(1, (-2, -1)))
    torch.testing.assert_close(cut(images, size=8, **WHOLE | {"flip": 1.0})[:, 2], images.flip(-1))


def test_rotations_and_shears_reach_their_angles():
    y, x = torch.meshgrid(*[torch.linspace(-0.5, 0.5, 33, dtype=torch.float64)] * 2, indexing="ij")
    images = torch.stack([x, y, x + y])[None]

    def slopes(**change):
        cuts = cut(images, size=33, count=100, **WHOLE | {"share": 1.0} | change)[0, :, :2, 11:22, 11:22]
        return torch.stack([cuts.diff(dim=-1).mean((-2, -1)), cuts.diff(dim=-2).mean((-2, -1))], dim=-1) * 32

    turned = slopes(rotation=20.0)  # of x and y along the cut's rows and columns
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg()
    assert -20 < angles.min() < -18
    assert 18 < angles.max() < 20
    torch.testing.assert_close(turned.det(), torch.ones(100, dtype=torch.float64))
    leaning = slopes(shear=10.0)
    angles = torch.atan(leaning[:, 0, 1]).rad2deg()
    assert -10 < angles.min() < -9
    assert 9 < angles.max() < 10
    torch.testing.assert_close(leaning[:, 1, 1], torch.ones(100, dtype=torch.float64))
    scaled = slopes(scale=0.25)[:, 0, 0]
    assert 0.8 < scaled.min() < 0.82
    assert 1.22 < scaled.max() < 1.25


def test_shifts_reach_their_share_of_the_side():
    x = torch.linspace(-1, 1, 32, dtype=torch.float64)
    images = x.expand(1, 3, 32, 32)
    middles = cut(images, size=32, count=200, **WHOLE | {"share": 1.0, "shift": 0.1})[0, :, 0, 0, 15:17]
    moved = middles.mean(-1) / (2 * 32 / 31)
    assert -0.1 < moved.min() < -0.098
    assert 0.098 < moved.max() < 0.1


def test_a_tilted_picture_lies_inside_the_cut_with_its_corners_moved():
    images = -torch.ones(1, 3, 32, 32, dtype=torch.float64)
    images[:, :, 2:-2, 2:-2] = 1
    cuts = cut(images, size=32, count=200, **WHOLE | {"share": 1.0, "perspective": 0.7})[0]
    areas = (cuts[:, 0] > 0).double().mean((-2, -1)) / (28 / 32) ** 2
    # Opposite corners move by 0.35 on average along each axis: the area is 0.65 squared.
    assert abs(areas.mean() - 0.65**2) < 0.03
    assert areas.min() > 0.3**2
    assert (cuts[:, 0, 16, 16] > 0.9).all()


def test_half_of_the_cuts_are_changed_where_the_share_is_a_half():
    images = picture(1, 3, 16, 16)
    for change in ({"rotation": 15.0}, {"perspective": 0.5}, {"contrast": 0.2}, {"erased": (0.2, 0.2)}):
        cuts = cut(images, count=400, **WHOLE | {"share": 0.5} | change)[0]
        changed = ((cuts - images).abs().amax((1, 2, 3)) > 1e-9).double().mean()
        assert 0.42 < changed < 0.58, change
    mirrored = (cut(images, count=400, **WHOLE | {"flip": 0.3})[0] - images).abs().amax((1, 2, 3)) > 1e-9
    assert 0.23 < mirrored.double().mean() < 0.37


def test_sizes_of_crops_follow_the_power_and_crops_lie_inside():
    u = np.random.default_rng(0).random((4000, 3))
    for power in (0.0, 0.5, 1.0, 3.0):
        maps = _crops(u, CutOutConfig(power=power), (96, 128), 32)
        sides = 2 * maps[:, 0, 0]
        assert abs(sides.mean() - (32 + 64 / (1 + power))) < 1.5
        assert (maps[:, :2, 2] - sides[:, None] / 2).min() >= 0
        assert (maps[:, :2, 2] + sides[:, None] / 2 <= [128 + 1e-9, 96 + 1e-9]).all()
    assert (_crops(u, CutOutConfig(), (24, 20), 32)[:, 0, 0] == 10).all()  # smaller than the judge's size


@pytest.mark.parametrize(
    ("side", "left", "top"), [(64, 0, 0), (128, 64, 128), (256, 0, 0), (100, 3, 7), (177.3, 20.7, 40.2)]
)
def test_the_mean_of_a_cut_is_the_mean_of_its_region(side, left, top):
    images = picture(1, 3, 256, 256)
    cover = [
        (torch.arange(256) + 1.0).clamp(max=at + side) - torch.arange(256.0).clamp(min=at)
        for at in (top, left)
    ]
    rows, columns = (each.clamp(min=0).double() / side for each in cover)
    expected = torch.einsum("bchw,h,w->bc", images, rows, columns)
    found = view(images, 32, side=side, left=left, top=top).mean((-2, -1))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)  # the pixels' deviation is 0.58


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_whole_factors_on_the_grid_are_exact_means(factor):
    images = picture(1, 2, 64, 64)
    torch.testing.assert_close(view(images, 64 // factor), F.avg_pool2d(images, factor))


def test_two_pixels_are_averaged_exactly_between_the_grid_too():
    images = picture(1, 1, 32, 32)
    shifted = (images[..., :-1] + images[..., 1:])[..., 2:30:2] / 2  # columns 2 + 3, 4 + 5, ...
    between = (images[..., 2:29:2] / 2 + images[..., 3:30:2] + images[..., 4:31:2] / 2) / 2
    rows = [(part[:, :, 2:30:2] + part[:, :, 3:31:2]) / 2 for part in (shifted, between)]
    torch.testing.assert_close(view(images, 14, side=28, left=2, top=2), rows[0])
    torch.testing.assert_close(view(images, 14, side=28, left=2.5, top=2), rows[1])


def zone_plate(side):
    """Rings that become finer outwards, up to the finest that pixels can show."""
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return torch.cos(math.pi * (at[:, None] ** 2 + at**2) / side)[None, None]


@pytest.mark.parametrize("size", [200, 160, 112, 96, 60])
def test_fine_rings_do_not_alias(size):
    plate = zone_plate(256)
    exact, ours = exact_areas(plate, size), view(plate, size)
    plain = F.interpolate(plate, (size, size), mode="bilinear", align_corners=False)
    at = (torch.arange(size) - (size - 1) / 2).abs() * 256 / size
    is_too_fine = torch.maximum(at[:, None], at) > size / 2  # rings that the view's pixels cannot show

    def strength(values):
        return values[..., is_too_fine].square().mean().sqrt()

    assert strength(ours) < 1.15 * strength(exact)
    assert (ours - exact).square().mean() < (plain - exact).square().mean() / 4


def exact_areas(images, size):
    """Each pixel the exact mean of its area."""
    edges = torch.arange(size + 1, dtype=torch.float64) * images.shape[-1] / size
    cells = torch.arange(images.shape[-1], dtype=torch.float64)
    cover = (torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)).clamp(min=0)
    weights = cover * size / images.shape[-1]
    return weights @ images @ weights.T


def test_odd_sides_and_single_rows_repeat_their_border():
    images = picture(1, 1, 5, 1)
    maps = torch.tensor([[2.5, 0.0, 0.5], [0.0, 2.5, 2.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(resample(images, maps[None, None], 5)[:, 0], images.expand(-1, -1, -1, 5))
    far = view(images.expand(-1, -1, -1, 5), 5, left=100.0)
    torch.testing.assert_close(far, images.expand(-1, -1, -1, 5))


def test_colours_of_a_constant_picture_change_as_said():
    colour = torch.tensor([0.5, -0.25, -0.5], dtype=torch.float64)
    images = colour[None, :, None, None].expand(1, 3, 8, 8)

    def changed(**change):
        cuts = cut(images, size=8, count=300, **WHOLE | {"share": 1.0} | change)[0]
        assert (cuts - cuts[..., :1, :1]).abs().max() < 1e-12
        return cuts[..., 0, 0]

    factors = (changed(brightness=0.2) + 1) / (colour + 1)
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3))
    assert 0.8 < factors.min() < 0.82
    assert 1.18 < factors.max() < 1.2
    factors = changed(contrast=0.2) / colour
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3))
    assert 0.8 < factors.min() < 0.82
    grey = colour @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    factors = (changed(saturation=0.2) - grey) / (colour - grey)
    torch.testing.assert_close(factors, factors[:, :1].expand(-1, 3))
    assert 1.18 < factors.max() < 1.2
    turned = changed(hue=0.5)
    torch.testing.assert_close(turned.mean(1), colour.mean().expand(300))
    torch.testing.assert_close(turned.norm(dim=1), colour.norm().expand(300))
    third = turned[(turned - colour.roll(1)).abs().sum(1).argmin()]  # a third of the way round
    torch.testing.assert_close(third, colour.roll(1), rtol=0, atol=0.03)
    greys = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    assert cut(greys, size=8, **WHOLE | {"share": 1.0, "hue": 0.5, "saturation": 0.5}).abs().max() < 1e-12


def test_the_erased_share_is_as_asked_and_one_black_rectangle():
    images = torch.ones(1, 3, 48, 48, dtype=torch.float32)
    cuts = cut(images, size=48, count=200, **WHOLE | {"share": 1.0, "erased": (0.1, 0.4)})[0]
    erased = cuts[:, 0] == -1
    assert torch.equal(cuts == -1, erased[:, None].expand(-1, 3, -1, -1))
    shares = erased.double().mean((-2, -1))
    assert 0.09 < shares.min() < 0.12
    assert 0.37 < shares.max() < 0.42
    assert abs(shares.mean() - 0.25) < 0.02
    assert torch.equal(erased.any(1)[:, None] & erased.any(2)[:, :, None], erased)


def test_noise_is_normal_and_as_strong_as_asked():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    noise = cut(images, size=32, count=100, **WHOLE | {"noise": 0.1})[0].flatten(1)
    deviations = noise.std(dim=1)
    assert deviations.max() < 0.21
    assert abs(deviations.mean() - 0.1) < 0.02
    scaled = noise / deviations[:, None]
    assert abs(scaled.mean()) < 0.01
    assert abs(scaled.pow(4).mean() - 3) < 0.1
    assert np.corrcoef(noise).flatten().tolist().count(1.0) <= 200
    assert np.abs(np.corrcoef(noise) - np.eye(100)).max() < 0.1


def test_half_precision_is_computed_in_single():
    images = picture(1, 3, 24, 24, dtype=torch.float32).bfloat16()
    made = cut(images)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, cut(images.float()).bfloat16())


def test_a_strong_tilt_stays_finite():
    images = picture(1, 3, 16, 16).requires_grad_()
    cuts = cut(images, count=500, share=1.0, perspective=0.95, rotation=180.0, shear=60.0)
    cuts.sum().backward()
    assert cuts.isfinite().all()
    assert images.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "`size` is 0, expected at least 1"),
        ({"step": -1}, "`step` is -1, expected at least 0"),
        ({"first": 40, "count": None}, "`count` is -8, expected at least 1"),
        ({"seed": -1}, "`seed` is -1"),
        ({"erased": (0.5, 0.2)}, "`erased` is"),
        ({"perspective": 1.0}, "`perspective` is 1.0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        cut(picture(1, 3, 16, 16), **arguments)


def test_only_colour_pictures_are_cut():
    with pytest.raises(ConfigError, match="the images have 1 channels, expected 3"):
        cut(picture(1, 1, 16, 16))
