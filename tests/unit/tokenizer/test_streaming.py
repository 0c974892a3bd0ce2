import errno
import logging
import os
import re
import tempfile

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vqgan.errors import ConfigError, OutputError
from vqgan.nn.convolution import SpatialAttention
from vqgan.tokenizer import (
    AutoencoderConfig,
    Tokenizer,
    TokenizerConfig,
    VectorQuantizerConfig,
    check_decoding,
    decode_within,
    encode_within,
    streaming,
)
from vqgan.tokenizer.memory import RESERVE, Passage, decoding, encoding
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig
from vqgan.tokenizer.streaming import convolve


def build(
    *, seed=0, multipliers=(1, 2), blocks=1, attention=(), patch_size=1, channels=3, is_gumbel=False, **sizes
):
    torch.manual_seed(seed)
    autoencoder = AutoencoderConfig(
        image_channels=channels,
        base_channels=32,
        channel_multipliers=multipliers,
        num_residual_blocks=blocks,
        latent_channels=8,
        resolution=16,
        attention_resolutions=attention,
        patch_size=patch_size,
        **sizes,
    )
    kind = GumbelQuantizerConfig if is_gumbel else VectorQuantizerConfig
    quantizer = kind(codebook_size=16, codebook_dim=4)
    tokenizer = Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)).eval()
    for (
        module
    ) in tokenizer.modules():  # fresh norms do nothing that wrong statistics of a channel would change
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1, 0.5)
            nn.init.normal_(module.bias, 0, 0.5)
    return tokenizer


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


def passage_of(tokenizer, size, *, encodes, count=1):
    if encodes:
        return encoding(tokenizer, size, count=count, element=4)
    factor = tokenizer.downsample_factor
    return decoding(tokenizer, (size[0] // factor, size[1] // factor), count=count)


def room(passage, batch_size):
    """The bytes in which so many of the images pass together."""
    return passage.image_bytes * passage.count + RESERVE + batch_size * passage.activation_memory


def streams(band, held=0):
    """All images stream, with so many bytes of a map in a band, and maps of so many bytes in memory."""
    patch = pytest.MonkeyPatch.context()
    return patch, lambda patched: (
        patched.setattr(Passage, "batch_size", lambda *_: 0),
        patched.setattr(streaming, "plan_bands", lambda *_: (band, held)),
    )


ARCHITECTURES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 99),
        "multipliers": st.lists(st.integers(1, 2), min_size=1, max_size=3).map(tuple),
        "blocks": st.integers(1, 2),
        "patch_size": st.sampled_from([1, 2]),
        "channels": st.sampled_from([1, 3]),
        "is_gumbel": st.booleans(),
        "middle_attention": st.booleans(),
    }
)


@settings(deadline=None, max_examples=8)
@given(
    architecture=ARCHITECTURES,
    attention=st.sets(st.integers(0, 2)),
    rows=st.integers(1, 4),
    columns=st.integers(1, 3),
    band=st.integers(1, 20_000),
    in_files=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@torch.no_grad()
def test_streamed_is_whole(architecture, attention, rows, columns, band, in_files, dtype):
    levels, patch = len(architecture["multipliers"]), architecture["patch_size"]
    sides = tuple(16 // (patch * 2**level) for level in sorted(attention) if level < levels)
    tokenizer = build(**architecture, attention=sides).to(dtype)
    factor = tokenizer.downsample_factor
    images = pictures(4 * rows * factor, 2 * columns * factor, 2, architecture["channels"]).to(dtype)
    latents, indices = tokenizer.latents(images), tokenizer.encode(images)
    decoded = tokenizer.decode(indices)
    seen = []
    tokenizer.quantizer.encode, choose = (
        lambda each: seen.append(each) or choose(each),
        tokenizer.quantizer.encode,
    )
    context, patch_all = streams(band, held=0 if in_files else 2**40)
    with context as patched:
        patch_all(patched)
        encoded = encode_within(tokenizer, images, 1)
        streamed = decode_within(tokenizer, indices, 1)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for ours, expected in ((torch.cat(seen), latents), (streamed, decoded)):
        assert_close(ours, expected, rtol=0, atol=tolerance * expected.abs().max().item())
    differ = encoded != indices
    # Codes may differ where two are equally near: by the same tolerance.
    if dtype == torch.float64:
        assert not differ.any()
    assert differ.sum() <= max(1, 0.01 * differ.numel())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("heights", [[8], [1] * 8, [3, 5], [1, 6, 1], [7, 1]], ids=str)
def test_bands_of_any_height_are_convolved_as_the_whole(stride, heights):
    conv = nn.Conv2d(4, 6, 3, stride=stride, padding=1 if stride == 1 else 0)
    features = torch.randn(1, 4, 8, 6)
    whole = conv(features if stride == 1 else F.pad(features, (0, 1, 0, 1)))
    bands = features if stride == 1 else F.pad(features, (0, 1))
    assert_close(torch.cat(list(convolve(conv, bands.split(heights, dim=2))), dim=2), whole)


@pytest.mark.parametrize("encodes", [True, False])
def test_what_fits_is_bitwise_the_tokenizers_result(tokenizer, encodes, caplog):
    caplog.set_level(logging.INFO, "vqgan")
    memory = room(passage_of(tokenizer, (32, 48), encodes=encodes, count=2), 2)
    if encodes:
        images = pictures(32, 48, count=2)
        assert torch.equal(encode_within(tokenizer, images, memory), tokenizer.encode(images))
    else:
        indices = codes(tokenizer, 16, 24, count=2)
        with torch.no_grad():
            assert torch.equal(decode_within(tokenizer, indices, memory), tokenizer.decode(indices))
    assert not caplog.records


@pytest.mark.parametrize("encodes", [True, False])
@torch.no_grad()
def test_a_batch_is_split_before_any_image_streams(tokenizer, encodes, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "vqgan")
    sizes = []
    name = "encode" if encodes else "decode"
    method = getattr(tokenizer, name)
    monkeypatch.setattr(tokenizer, name, lambda batch: sizes.append(len(batch)) or method(batch))
    memory = room(passage_of(tokenizer, (16, 16), encodes=encodes, count=5), 2)
    batch = pictures(16, 16, count=5) if encodes else codes(tokenizer, 8, 8, count=5)
    assert_close((encode_within if encodes else decode_within)(tokenizer, batch, memory), method(batch))
    assert sizes == [2, 2, 1]
    assert not caplog.records


@pytest.mark.parametrize("encodes", [False, True])
@torch.no_grad()
def test_a_batch_passes_as_each_of_its_images_alone(tokenizer, encodes):
    within = encode_within if encodes else decode_within
    batch = pictures(96, 64, count=4) if encodes else codes(tokenizer, 48, 32, count=4)
    one = passage_of(tokenizer, (96, 64), encodes=encodes)
    # The most with which one streams, and the least with which it does not.
    for memory in (room(one, 1) - 1, room(one, 1)):
        alone = torch.cat([within(tokenizer, each, memory) for each in batch.split(1)])
        assert torch.equal(within(tokenizer, batch, memory), alone)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 400),
    columns=st.integers(1, 400),
    count=st.integers(1, 99),
    share=st.floats(0.001, 1.5),
)
def test_plans_keep_to_the_budget_or_say_what_is_needed(tokenizer, rows, columns, count, share):
    one, many = (passage_of(tokenizer, (2 * rows, 2 * columns), encodes=False, count=n) for n in (1, count))
    memory = one.image_bytes + RESERVE + int(one.activation_memory * share)
    assert (many.batch_size(memory) > 0) == (one.batch_size(memory) > 0)
    assert many.batch_size(memory) <= count
    try:
        band, held = streaming.plan_bands(many, memory)
    except ConfigError as error:
        flag, needed = re.search(r"`--memory (\S+)`; from Python `memory=(\d+)`", error.hint).groups()
        assert memory < int(needed) <= float(flag) * 2**30
        band, held = streaming.plan_bands(one, memory := int(needed))
    row = 2 * max(one.map_bytes(each) // (one.size[0] // each.side) for each in one.maps)
    keys = 5 * one.map_bytes(next(each for each in one.maps if isinstance(each.layer, SpatialAttention)))
    assert band >= row // 2
    assert held >= 0
    assert one.image_bytes + RESERVE + keys + 8 * (band + row) + 2 * held <= memory


def test_a_budget_too_small_for_rows_is_refused(tokenizer):
    with pytest.raises(ConfigError) as caught:
        encode_within(tokenizer, pictures(64, 64), 1_000_000)
    assert caught.value.message == "images of 64x64 pixels do not fit in 0.000931 GB, not even row by row"
    assert caught.value.hint.startswith("allow at least 0.0")
    with pytest.raises(ConfigError, match="not even row by row"):
        check_decoding(tokenizer, (32, 32), 1_000_000)


def test_what_the_tokenizer_refuses_is_refused_in_streams_too(tokenizer):
    memory = room(passage_of(tokenizer, (256, 256), encodes=False), 1) - 1
    with pytest.raises(ConfigError, match="the codebook has 0 to 15"):
        decode_within(tokenizer, codes(tokenizer, 128, 128) + 1, memory)
    with pytest.raises(ConfigError, match="images of 63x64 pixels do not fit"):
        encode_within(tokenizer, pictures(63, 64), memory)


@torch.no_grad()
def test_half_precision_streams_as_it_passes_whole():
    exact, half, images = build(), build().to(torch.bfloat16), pictures(64, 48)
    indices = exact.encode(images)
    whole = half.decode(indices)
    context, patch_all = streams(20_000)
    with context as patched:
        patch_all(patched)
        streamed, encoded = decode_within(half, indices, 1), encode_within(half, images, 1)
        assert torch.equal(decode_within(half, indices.to(torch.uint16), 1), streamed)
    assert streamed.dtype == torch.bfloat16
    errors = [(each.float() - exact.decode(indices)).square().mean().sqrt() for each in (streamed, whole)]
    assert errors[0] < 1.5 * errors[1]
    assert (encoded == indices).float().mean() > 0.9 * (half.encode(images) == indices).float().mean()


def test_maps_beyond_the_memory_lie_in_files_without_a_name(tokenizer, caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.INFO, "vqgan")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fallocate, taken, reports = os.posix_fallocate, [], []
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: taken.append(args[2]) or fallocate(*args))

    def report(progress):
        assert not list(tmp_path.iterdir())
        reports.append(progress)

    context, patch_all = streams(20_000)
    with context as patched:
        patch_all(patched)
        for _ in range(2):
            decode_within(tokenizer, codes(tokenizer, 32, 24, count=2), 2**30, report)
    assert not list(tmp_path.iterdir())
    assert taken == [64 * 48 * 64 * 4] * 4  # the upsampled map, 64 channels wide, is the largest
    (record,) = caplog.records
    assert record.message == (
        "decoding 64x48 pixels in bands of rows, within 1 GB and temporary files of 0.00146 GB in "
        f"`{tmp_path}`"
    )
    first = reports[: len(reports) // 2]
    assert {each.phase for each in first} == {"decoding"}
    assert [each.step for each in first] == sorted(each.step for each in first)
    assert (first[-1].step, first[-1].total) == (100, 100)
    assert len({each.step for each in first}) > 20


def test_no_room_for_files_is_said_with_folder_and_size(tokenizer, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    context, patch_all = streams(20_000)
    with context as patched:
        patch_all(patched)
        with pytest.raises(OutputError) as caught:
            encode_within(tokenizer, pictures(512, 512), 2**30)
    assert caught.value.message == (
        f"temporary files of 2 x 0.0312 GB do not fit into `{tmp_path}`: no space left on device"
    )
    assert caught.value.hint == "set TMPDIR to a folder with more room, or allow more memory"
    assert not list(tmp_path.iterdir())


def test_where_files_cannot_reserve_room_it_is_written(tokenizer, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    indices = codes(tokenizer, 16, 16)
    context, patch_all = streams(20_000)
    with context as patched, torch.no_grad():
        patch_all(patched)
        assert_close(decode_within(tokenizer, indices, 1), tokenizer.decode(indices), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("held", [0, 2**40])
@torch.no_grad()
def test_cuda_streams_as_it_passes_whole(dtype, held):
    tokenizer = build(attention=(8,)).to("cuda", dtype)
    images = pictures(96, 64).to("cuda", dtype)
    indices = tokenizer.encode(images)
    whole = tokenizer.decode(indices)
    context, patch_all = streams(20_000, held)
    with context as patched:
        patch_all(patched)
        streamed, encoded = decode_within(tokenizer, indices, 1), encode_within(tokenizer, images, 1)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-3}.get(dtype, 0.05)
    assert_close(streamed, whole, rtol=0, atol=tolerance * whole.abs().max().item())
    assert (encoded == indices).float().mean() > 0.9
