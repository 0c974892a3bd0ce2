import logging
import math
import re
from contextlib import suppress
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.nn.attention import SpatialAttention
from vqgan.tokenizer import (
    AutoencoderConfig,
    Tokenizer,
    TokenizerConfig,
    VectorQuantizerConfig,
    check_decoding,
)
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig
from vqgan.tokenizer.stages import decoder_stages, decoding, encoder_stages, encoding, plan_tiles
from vqgan.tokenizer.tiling import (
    SharedNorms,
    blend_weights,
    decode_within,
    decoding_tiles,
    encode_within,
    run_in_tiles,
    spans,
    thinned,
)


def build(*, seed=0, multipliers=(1, 2), attention=(), patch_size=1, channels=3, is_gumbel=False):
    torch.manual_seed(seed)
    autoencoder = AutoencoderConfig(
        image_channels=channels,
        base_channels=32,
        channel_multipliers=multipliers,
        num_residual_blocks=1,
        latent_channels=8,
        resolution=16,
        attention_resolutions=attention,
        patch_size=patch_size,
    )
    kind = GumbelQuantizerConfig if is_gumbel else VectorQuantizerConfig
    quantizer = kind(codebook_size=16, codebook_dim=4)
    return Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return build()


def pictures(height, width, count=1, channels=3):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator) * 2 - 1
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(-1, 1)


def codes(tokenizer, rows, columns, count=1):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(tokenizer.codebook_size, (count, rows, columns), generator=generator)


def work_of(tokenizer, size, *, encodes, count=1):
    return (
        encoding(tokenizer, size, count=count, image_number=4)
        if encodes
        else decoding(tokenizer, size, count=count)
    )


def tight(work):
    """The most memory, in steps, in which the work only fits in tiles."""
    for share in range(95, 0, -1):
        memory = work.outside + work.each * share // 100
        with suppress(ConfigError):
            if (plan := plan_tiles(work, memory)).tile * plan.side < max(work.size):
                return memory
    raise AssertionError("no budget makes tiles")


def room(work, together):
    """The bytes in which so many of the images pass together."""
    return work.outside + (work.count - 1) * work.pixels * work.image_bytes + together * work.each


def psnr(images, others):
    return 10 * math.log10(4 / max(1e-20, (images - others).double().square().mean().item()))


@pytest.mark.parametrize(
    "settings", [{}, {"multipliers": (1, 1, 2), "attention": (4,)}, {"patch_size": 2}], ids=str
)
def test_the_stages_are_those_of_the_tokenizer(settings):
    tokenizer, images = build(**settings), pictures(16, 24)
    hidden = images
    for stage in encoder_stages(tokenizer):
        assert hidden.shape[1] == stage.width
        hidden = stage.run(hidden)
        assert (hidden.shape[1], hidden.shape[2]) == (stage.result_width, 16 // stage.result_side)
    assert torch.equal(hidden, tokenizer.latents(images))
    images = hidden
    for stage in decoder_stages(tokenizer):
        images = stage.run(images)
    assert torch.equal(images, tokenizer.decode_latents(hidden))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 80), halo=st.integers(0, 5), more=st.integers(1, 30), data=st.data())
def test_tiles_cover_everything_with_weights_that_add_up_to_one(size, halo, more, data):
    margin, scale = data.draw(st.integers(0, halo)), data.draw(st.integers(1, 4))
    parts = spans(size, 2 * halo + more, halo)
    assert parts[0][0] == 0
    assert parts[-1][1] == size
    assert len({stop - start for start, stop in parts}) == 1
    assert len(parts) == 1 or parts[0][1] <= 2 * halo + more
    assert all(before[1] - after[0] >= 2 * halo for before, after in pairwise(parts))
    total = torch.zeros(size * scale)
    for (start, stop), weights in zip(parts, blend_weights(parts, margin, scale), strict=True):
        assert weights.min() >= 0
        total[start * scale : stop * scale] += weights
    assert_close(total, torch.ones_like(total))


def test_weights_fall_linearly_across_an_overlap_and_leave_out_its_rims():
    first, second = blend_weights([(0, 10), (6, 16)], margin=1)
    assert_close(first[5:], torch.tensor([1.0, 1.0, 0.75, 0.25, 0.0]))
    assert_close(second[:5], torch.tensor([0.0, 0.25, 0.75, 1.0, 1.0]))


def test_norms_keep_the_statistics_of_the_first_pass():
    norm, norms = nn.GroupNorm(32, 64), SharedNorms()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    sample, tile = torch.randn(1, 64, 8, 8) * 3 + 1, torch.randn(1, 64, 4, 4)
    with norms:
        first = norm(sample)
    assert_close(first, norm(sample))
    groups = sample.unflatten(1, (32, 2))
    variance, mean = torch.var_mean(groups, dim=(2, 3, 4), correction=0, keepdim=True)
    expected = ((tile.unflatten(1, (32, 2)) - mean) / (variance + norm.eps).sqrt()).flatten(1, 2)
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    for _ in range(2):
        with norms.share():
            assert_close(norm(tile), expected)
    assert not torch.allclose(norm(tile), expected)


@pytest.mark.parametrize("encodes", [True, False])
def test_what_fits_is_bitwise_the_result_without_tiles(tokenizer, encodes, caplog):
    caplog.set_level(logging.INFO, "vqgan")
    work = work_of(tokenizer, (32, 48), encodes=encodes, count=2)
    memory = room(work, 2)
    if encodes:
        images = pictures(32, 48, count=2)
        assert torch.equal(encode_within(tokenizer, images, memory), tokenizer.encode(images))
    else:
        indices = codes(tokenizer, 16, 24, count=2)
        with torch.no_grad():
            assert torch.equal(decode_within(tokenizer, indices, memory), tokenizer.decode(indices))
    assert not caplog.records


@pytest.mark.parametrize("encodes", [True, False])
def test_a_batch_is_split_before_any_image_is(tokenizer, encodes, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "vqgan")
    sizes = []
    name = "encode" if encodes else "decode"
    method = getattr(tokenizer, name)
    monkeypatch.setattr(tokenizer, name, lambda batch: sizes.append(tuple(batch.shape)) or method(batch))
    work = work_of(tokenizer, (16, 16), encodes=encodes, count=5)
    memory = room(work, 2)
    if encodes:
        images = pictures(16, 16, count=5)
        assert torch.equal(encode_within(tokenizer, images, memory), method(images))
        assert [size[0] for size in sizes] == [2, 2, 1]
    else:
        indices = codes(tokenizer, 8, 8, count=5)
        with torch.no_grad():
            assert_close(decode_within(tokenizer, indices, memory), method(indices))
        assert [size[0] for size in sizes if size[1:] == (8, 8)] == [2, 2, 1]
    assert not caplog.records


@pytest.mark.parametrize("encodes", [False, True])
@torch.no_grad()
def test_a_batch_passes_as_each_of_its_images_alone(tokenizer, encodes):
    within = encode_within if encodes else decode_within
    batch = pictures(96, 64, count=8) if encodes else codes(tokenizer, 48, 32, count=8)
    one = work_of(tokenizer, (96, 64), encodes=encodes)
    # The most with which one is cut, the least with which it is not, and what the tokenizer's own methods need.
    for memory in (tight(one), tight(one) + one.each // 100, one.outside + one.each):
        alone = torch.cat([within(tokenizer, each, memory) for each in batch.split(1)])
        assert torch.equal(within(tokenizer, batch, memory), alone)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 200),
    columns=st.integers(1, 200),
    count=st.integers(1, 99),
    share=st.floats(0.001, 1.5),
)
def test_what_one_image_needs_is_enough_for_any_number(tokenizer, rows, columns, count, share):
    one, many = (work_of(tokenizer, (2 * rows, 2 * columns), encodes=False, count=n) for n in (1, count))
    memory = one.outside + int(one.each * share)
    assert (many.together(memory) > 0) == (one.together(memory) > 0)
    assert many.together(memory) <= count
    try:
        check_decoding(tokenizer, (rows, columns), memory)
    except ConfigError:
        assert not many.together(memory)
    else:
        assert many.together(memory) or plan_tiles(many, memory) == plan_tiles(one, memory)


@pytest.mark.parametrize(
    ("build_settings", "size"),
    [
        ({}, (96, 96)),
        ({}, (64, 128)),
        ({}, (256, 8)),
        ({"channels": 1}, (96, 64)),
        ({"is_gumbel": True}, (96, 64)),
    ],
    ids=str,
)
@torch.no_grad()
def test_without_norms_tiles_are_exact(build_settings, size, caplog, monkeypatch):
    monkeypatch.setattr(F, "group_norm", lambda features, *_, **__: features)
    caplog.set_level(logging.INFO, "vqgan")
    tokenizer = build(**build_settings)
    images = pictures(*size, channels=tokenizer.image_channels)
    indices = tokenizer.encode(images)
    expected = tokenizer.decode(indices)
    decoded = decode_within(tokenizer, indices, tight(work_of(tokenizer, size, encodes=False)))
    assert_close(decoded, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    agreeing = encode_within(tokenizer, images, tight(work_of(tokenizer, size, encodes=True))) == indices
    assert agreeing.float().mean() > 0.98
    assert [record.message.split()[0] for record in caplog.records] == ["decoding", "encoding"]


@torch.no_grad()
def test_a_few_tiles_come_close_to_the_whole(tokenizer):
    images = pictures(128, 128)
    indices = tokenizer.encode(images)
    expected = tokenizer.decode(indices)
    memory = tight(work_of(tokenizer, (128, 128), encodes=False))
    assert psnr(decode_within(tokenizer, indices, memory), expected) > 23
    memory = tight(work_of(tokenizer, (128, 128), encodes=True))
    assert (encode_within(tokenizer, images, memory) == indices).float().mean() > 0.7


@torch.no_grad()
def test_attention_in_tiles_works_where_nothing_else_fits():
    tokenizer = build(multipliers=(1, 2), attention=(8,))
    stages, images = encoder_stages(tokenizer), pictures(64, 64)
    latents = run_in_tiles(stages, images, tile=24, halo=4)
    assert latents.shape == tokenizer.latents(images).shape
    assert run_in_tiles(decoder_stages(tokenizer), latents, tile=24, halo=4).shape == images.shape
    whole = run_in_tiles(stages, images, tile=32, halo=4)
    assert_close(whole, tokenizer.latents(images), rtol=1e-4, atol=1e-4)
    decoded = run_in_tiles(decoder_stages(tokenizer), whole, tile=32, halo=4)
    assert_close(decoded, tokenizer.decode_latents(whole), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_in_tiles_sees_its_tile(monkeypatch):
    monkeypatch.setattr(F, "group_norm", lambda features, *_, **__: features)
    stages = [each for each in decoder_stages(build()) if isinstance(each.run, SpatialAttention)]
    features = torch.randn(1, stages[0].width, 8, 12, generator=torch.Generator().manual_seed(0))
    assert spans(12, tile=8, halo=2) == [(0, 8), (4, 12)]
    result = run_in_tiles(stages[:1], features, tile=8, halo=2)
    left, right = stages[0].run(features[..., :8]), stages[0].run(features[..., 4:])
    # The tiles share columns 4 to 7, and the rim of each, one column, has no weight.
    assert_close(result[..., :5], left[..., :5])
    assert_close(result[..., 7:], right[..., 3:])
    assert_close(result[..., 5], (0.75 * left[..., 5] + 0.25 * right[..., 1]))
    assert not torch.allclose(result, stages[0].run(features), atol=1e-3)


def thinned_alike(height, width, most):
    step = 1
    while -(-height // step) * -(-width // step) > most:
        step += 1
    return [-(-height // step), -(-width // step)]


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), most=st.integers(1, 5000))
def test_the_longer_side_of_a_map_is_thinned_out_first(height, width, most):
    rows, columns = thinned((height, width), most)
    assert rows * columns <= most
    assert thinned((height, height), most) == thinned_alike(height, height, most)
    assert (rows, columns) == (height, width) or max(rows, columns) < max(height, width)
    if rows < height and columns < width:
        assert 1 / 3 <= rows / columns <= 3


def test_a_panorama_keeps_its_rows():
    assert thinned((8, 800), most=640) == [8, 80]
    assert thinned_alike(8, 800, most=640) == [2, 200]


@pytest.mark.parametrize("encodes", [True, False])
@torch.no_grad()
def test_no_tile_is_larger_than_planned(tokenizer, encodes):
    size = (160, 96)
    work = work_of(tokenizer, size, encodes=encodes)
    memory = tight(work)
    plan = plan_tiles(work, memory)
    assert plan.peak <= memory
    tiled = work.stages[: plan.border] if encodes else work.stages[plan.border :]
    areas = []
    hooks = [
        stage.run.register_forward_pre_hook(
            lambda module, args, side=stage.side: areas.append(math.prod(args[0].shape[2:]) * side**2)
        )
        for stage in tiled
    ]
    if encodes:
        encode_within(tokenizer, pictures(*size), memory)
    else:
        decode_within(tokenizer, codes(tokenizer, 80, 48), memory)
    for hook in hooks:
        hook.remove()
    largest = math.prod(min(plan.tile * plan.side, length) for length in size)
    assert 0 < max(areas) <= largest < math.prod(size)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 400), columns=st.integers(1, 400), share=st.floats(0.001, 1.5), encodes=st.booleans()
)
def test_plans_keep_to_the_budget_or_say_what_is_needed(tokenizer, rows, columns, share, encodes):
    work = work_of(tokenizer, (2 * rows, 2 * columns), encodes=encodes)
    memory = work.outside + int(work.each * share)
    try:
        plan = plan_tiles(work, memory)
    except ConfigError as error:
        flag, needed = re.search(r"`--memory (\S+)`; from Python `memory=(\d+)`", error.hint).groups()
        needed = int(needed)
        assert memory < needed <= float(flag) * 2**30
        assert plan_tiles(work, needed).peak <= needed
    else:
        assert plan.peak <= memory
        assert plan.tile > 2 * plan.halo or plan.tile * plan.side >= max(work.size)


def test_a_budget_too_small_for_any_tile_is_refused(tokenizer):
    with pytest.raises(ConfigError) as caught:
        encode_within(tokenizer, pictures(64, 64), 1_000_000)
    message = "images of 64x64 pixels do not pass within 0.000931 GB, in tiles neither"
    assert caught.value.message == message
    assert caught.value.hint.startswith("allow at least 0.0")


def test_what_the_tokenizer_refuses_is_refused_in_tiles_too(tokenizer):
    memory = tight(work_of(tokenizer, (128, 128), encodes=False))
    with pytest.raises(ConfigError, match="the codebook has 0 to 15"):
        decode_within(tokenizer, codes(tokenizer, 64, 64) + 1, memory)
    with pytest.raises(ConfigError, match="images of 63x64 pixels do not fit"):
        encode_within(tokenizer, pictures(63, 64), memory)


def test_nothing_of_no_images_is_no_error(tokenizer):
    assert decode_within(tokenizer, torch.zeros(0, 2, 2, dtype=torch.int64), 1).shape == (0, 3, 4, 4)
    assert encode_within(tokenizer, pictures(4, 4)[:0], 1).shape == (0, 2, 2)


@torch.no_grad()
def test_the_precision_is_that_of_the_weights_and_sums_are_float32():
    exact, half, images = build(), build().to(torch.bfloat16), pictures(96, 96)
    indices = exact.encode(images)
    decoded = decode_within(half, indices, tight(decoding(half, (96, 96), count=1)))
    assert decoded.dtype == torch.bfloat16
    assert psnr(decoded, exact.decode(indices)) > 22
    encoded = encode_within(half, images, tight(work_of(half, (96, 96), encodes=True)))
    assert (encoded == indices).float().mean() > 0.7
    hidden = half.quantizer.lookup(indices[:, :16, :16]).bfloat16()
    assert run_in_tiles(decoder_stages(half), hidden, tile=12, halo=2).dtype == torch.float32


def test_indices_of_any_integer_type_are_decoded_in_tiles(tokenizer):
    indices, memory = codes(tokenizer, 64, 64), tight(decoding(tokenizer, (128, 128), count=1))
    decoded = decode_within(tokenizer, indices, memory)
    assert torch.equal(decode_within(tokenizer, indices.to(torch.uint16), memory), decoded)
    assert not decoded.requires_grad


def test_tiling_is_announced_once_for_each_size_with_the_tile_that_is_used(caplog):
    caplog.set_level(logging.INFO, "vqgan")
    tokenizer, areas = build(), set()
    memory = tight(work_of(tokenizer, (128, 96), encodes=False))
    last = decoder_stages(tokenizer)[-2].run
    last.register_forward_hook(lambda module, args, result: areas.add(tuple(result.shape[2:])))
    for _ in range(2):
        decode_within(tokenizer, codes(tokenizer, 64, 48, count=2), memory)
    (record,) = caplog.records
    size, halo, held = re.fullmatch(
        r"decoding 128x96 pixels in tiles of (\d+x\d+), halo (\d+), within (.*) GB: an approximation of the whole",
        record.message,
    ).groups()
    assert decoding_tiles(tokenizer, (64, 48), memory) == {"tiles": f"{size}, halo {halo}"}
    plan = plan_tiles(work_of(tokenizer, (128, 96), encodes=False), memory)
    assert (int(halo), held) == (plan.halo * plan.side, f"{plan.peak / 2**30:.2f}")
    # One pass is that of the thinned-out map.
    assert tuple(map(int, size.split("x"))) in areas
    assert len(areas) <= 2
    decode_within(tokenizer, codes(tokenizer, 48, 64), memory)
    assert len(caplog.records) == 2


def test_what_passes_whole_has_no_tiles(tokenizer):
    work = work_of(tokenizer, (128, 128), encodes=False)
    assert decoding_tiles(tokenizer, (64, 64), work.outside + work.each) == {}
    with pytest.raises(ConfigError, match="images of 128x128 pixels do not pass within"):
        decoding_tiles(tokenizer, (64, 64), 1_000_000)
