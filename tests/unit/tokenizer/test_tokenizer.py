import pytest
import torch
from torch.testing import assert_close

from vqgan.errors import ConfigError
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig


def config(**quantizer):
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(
            image_channels=3,
            base_channels=32,
            channel_multipliers=(1, 1),
            num_residual_blocks=1,
            latent_channels=8,
            resolution=16,
            attention_resolutions=(),
            patch_size=2,
        ),
        quantizer=VectorQuantizerConfig(codebook_size=16, codebook_dim=4, **quantizer),
    )


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(config()).eval()


def test_it_knows_its_sizes(tokenizer):
    assert (tokenizer.downsample_factor, tokenizer.codebook_size, tokenizer.image_channels) == (4, 16, 3)
    assert tokenizer.grid_size((16, 24)) == (4, 6)


@pytest.mark.parametrize("normalize", [False, True])
def test_decoding_the_indices_gives_the_reconstruction(normalize):
    torch.manual_seed(0)
    # The straight-through gradient costs a rounding: in fp32 it may show.
    tokenizer = Tokenizer(config(normalize=normalize)).double().eval()
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64) * 2 - 1
    result = tokenizer(images)
    assert result.images.shape == images.shape
    assert result.images.dtype == result.quantized.loss.dtype == torch.float64
    assert result.quantized.indices.shape == (2, 2, 3)
    assert torch.equal(result.quantized.indices, tokenizer.encode(images))
    assert_close(tokenizer.decode(result.quantized.indices), result.images)
    assert_close(result.latents, tokenizer.latents(images))


def test_gradients_pass_straight_through_to_the_encoder(tokenizer):
    tokenizer.zero_grad()
    tokenizer(torch.randn(1, 3, 8, 8)).images.sum().backward()
    assert tokenizer.encoder.input_conv.weight.grad.abs().sum() > 0
    assert tokenizer.quantizer.codebook.weight.grad is None


@pytest.mark.parametrize("method", ["encode", "latents", "forward"])
def test_images_of_a_size_that_does_not_fit_are_refused(tokenizer, method):
    with pytest.raises(ConfigError) as caught:
        getattr(tokenizer, method)(torch.zeros(1, 3, 9, 12))
    assert caught.value.message.startswith("images of 9x12 pixels do not fit the tokenizer")
    assert caught.value.hint == "the next sizes are 8x12 and 12x12"


def test_images_with_other_channels_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="the images have 1 channels, expected 3"):
        tokenizer.encode(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("index", [-1, 16])
def test_indices_out_of_range_are_refused(tokenizer, index):
    indices = torch.zeros(1, 2, 2, dtype=torch.int64)
    indices[0, 1, 1] = index
    with pytest.raises(ConfigError, match=r"the codebook has 0 to 15\nhint: decode with the tokenizer"):
        tokenizer.decode(indices)


def test_autocast_trains_with_a_quantizer_in_fp32(tokenizer):
    images = torch.randn(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = tokenizer(images)
        indices = tokenizer.encode(images)
    assert result.latents.dtype == torch.bfloat16
    assert result.quantized.quantized.dtype == result.quantized.loss.dtype == torch.float32
    assert torch.equal(indices, tokenizer.quantizer.encode(result.latents.float()))


def test_weights_in_half_precision_encode_and_decode():
    half = Tokenizer(config(normalize=True)).to(torch.bfloat16)
    images = torch.randn(1, 3, 8, 8)
    indices = half.encode(images)
    assert torch.equal(indices, half.encode(images.bfloat16()))
    assert half.decode(indices).dtype == half(images).images.dtype == torch.bfloat16


def test_a_normalized_codebook_has_length_1_in_half_precision_too():
    vectors = Tokenizer(config(normalize=True)).to(torch.bfloat16).quantizer.codebook_vectors()
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-6)


def test_indices_of_any_integer_type_are_decoded(tokenizer):
    indices = torch.arange(4).view(1, 2, 2)
    assert torch.equal(tokenizer.decode(indices.to(torch.uint16)), tokenizer.decode(indices))
