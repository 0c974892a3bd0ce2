"""LlamaGen's tokenizers: names, sizes and forward pass written down here a second time, from its description.

Convolutions 3x3, 32 groups, swish; attention at the lowest level and in the middle; the decoder has one block more
per level and numbers its levels as they run; latents and codes are compared, and codes decoded, at length 1.
"""

import pytest
import torch
import torch.nn.functional as F

import tiny
import vqgan
from vqgan.checkpoints.inference import is_llamagen, llamagen_config
from vqgan.checkpoints.key_maps import LLAMAGEN
from vqgan.errors import CheckpointError
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, VectorQuantizerConfig

PUBLISHED = {
    "VQ-16": {"multipliers": (1, 1, 2, 2, 4)},
    "VQ-8": {"multipliers": (1, 2, 2, 4)},
}


def read_llamagen(state):
    """The configuration that the tensors tell, and the tensors by our names."""
    config = llamagen_config(state)
    with torch.device("meta"):
        names = Tokenizer(config).state_dict()
    return config, LLAMAGEN.rename(state, names)


class Layout(dict):
    """Name to shape of the tensors."""

    def conv(self, name, before, after, kernel=3):
        self[f"{name}.weight"], self[f"{name}.bias"] = (after, before, kernel, kernel), (after,)

    def norm(self, name, width):
        self[f"{name}.weight"] = self[f"{name}.bias"] = (width,)

    def block(self, name, before, after):
        self.norm(f"{name}.norm1", before)
        self.conv(f"{name}.conv1", before, after)
        self.norm(f"{name}.norm2", after)
        self.conv(f"{name}.conv2", after, after)
        if before != after:
            self.conv(f"{name}.nin_shortcut", before, after, 1)

    def attention(self, name, width):
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.conv(f"{name}.{part}", width, width, 1)

    def levels(self, half, widths, before, blocks, lowest, resample):
        for level, width in enumerate(widths):
            for block in range(blocks):
                self.block(f"{half}.conv_blocks.{level}.res.{block}", before, width)
                before = width
                if level == lowest:
                    self.attention(f"{half}.conv_blocks.{level}.attn.{block}", width)
            if level < len(widths) - 1:
                self.conv(f"{half}.conv_blocks.{level}.{resample}.conv", width, width)

    def middle(self, half, width):
        self.block(f"{half}.mid.0", width, width)
        self.attention(f"{half}.mid.1", width)
        self.block(f"{half}.mid.2", width, width)


def layout(*, multipliers, ch=128, blocks=2, z=256, codes=16384, width=8):
    names, widths = Layout(), [ch * each for each in multipliers]
    names.conv("encoder.conv_in", 3, ch)
    names.levels("encoder", widths, ch, blocks, len(widths) - 1, "downsample")
    names.middle("encoder", widths[-1])
    names.norm("encoder.norm_out", widths[-1])
    names.conv("encoder.conv_out", widths[-1], z)
    names.conv("decoder.conv_in", z, widths[-1])
    names.middle("decoder", widths[-1])
    names.levels("decoder", widths[::-1], widths[-1], blocks + 1, 0, "upsample")
    names.norm("decoder.norm_out", ch)
    names.conv("decoder.conv_out", ch, 3)
    names["quantize.embedding.weight"], names["quantize.codebook_used"] = (codes, width), (65536,)
    names.conv("quant_conv", z, width, 1)
    names.conv("post_quant_conv", width, z, 1)
    return names


class Reference:
    """The forward pass, from the tensors alone."""

    def __init__(self, state, levels, blocks):
        self.state, self.levels, self.blocks = state, levels, blocks

    def conv(self, name, x, **how):
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state[f"{name}.bias"], **({"padding": weight.shape[-1] // 2} | how))

    def norm(self, name, x):
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps=1e-6)

    def activated(self, name, x):
        x = self.norm(name, x)
        return x * torch.sigmoid(x)

    def block(self, name, x):
        h = self.conv(f"{name}.conv1", self.activated(f"{name}.norm1", x))
        h = self.conv(f"{name}.conv2", self.activated(f"{name}.norm2", h))
        if f"{name}.nin_shortcut.weight" in self.state:
            x = self.conv(f"{name}.nin_shortcut", x)
        return x + h

    def attention(self, name, x):
        normed = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", normed).flatten(2) for part in "qkv")
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / q.shape[1] ** 0.5, dim=-1)
        attended = torch.einsum("bij,bcj->bci", weights, v).view(x.shape)
        return x + self.conv(f"{name}.proj_out", attended)

    def middle(self, half, x):
        return self.block(f"{half}.mid.2", self.attention(f"{half}.mid.1", self.block(f"{half}.mid.0", x)))

    def run(self, half, x, blocks, resample):
        for level in range(self.levels):
            name = f"{half}.conv_blocks.{level}"
            for block in range(blocks):
                x = self.block(f"{name}.res.{block}", x)
                if f"{name}.attn.{block}.q.weight" in self.state:
                    x = self.attention(f"{name}.attn.{block}", x)
            if level < self.levels - 1:
                x = resample(name, x)
        return x

    def halve(self, name, x):
        return self.conv(f"{name}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)

    def double(self, name, x):
        return self.conv(f"{name}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3))

    def encode(self, images):
        x = self.run("encoder", self.conv("encoder.conv_in", images), self.blocks, self.halve)
        x = self.activated("encoder.norm_out", self.middle("encoder", x))
        latents = self.conv("quant_conv", self.conv("encoder.conv_out", x))
        points = latents / latents.norm(dim=1, keepdim=True)
        return torch.einsum("bchw,kc->bkhw", points, self.codes()).argmax(dim=1)

    def decode(self, indices):
        x = self.conv("post_quant_conv", self.codes()[indices].permute(0, 3, 1, 2))
        x = self.middle("decoder", self.conv("decoder.conv_in", x))
        x = self.run("decoder", x, self.blocks + 1, self.double)
        return self.conv("decoder.conv_out", self.activated("decoder.norm_out", x))

    def codes(self):
        weight = self.state["quantize.embedding.weight"]
        return weight / weight.norm(dim=1, keepdim=True)


def random_state(**sizes):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in layout(**sizes).items():
        spread = 1.0 if name.startswith("quantize") else 0.3 if len(shape) == 1 else shape[1] ** -0.5 / 2
        shift = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        state[name] = torch.randn(shape, generator=generator) * spread + shift
    return state


@pytest.mark.parametrize(("multipliers", "blocks"), [((1, 2), 1), ((1, 1, 2), 2), ((1, 3, 2), 1)], ids=str)
def test_codes_and_reconstructions_are_those_of_the_description(multipliers, blocks):
    state = random_state(multipliers=multipliers, ch=32, blocks=blocks, z=16, codes=32, width=8)
    # Random weights amplify rounding; in float64 nothing of it is left.
    state = {name: tensor.double() for name, tensor in state.items()}
    config, found = read_llamagen(state)
    tokenizer = Tokenizer(config).double().eval()
    tokenizer.load_state_dict(found, strict=True)
    reference = Reference(state, len(multipliers), blocks)
    images = tiny.images(2, channels=3, side=32).double()
    with torch.no_grad():
        indices = reference.encode(images)
        assert torch.equal(tokenizer.encode(images), indices)
        assert len(indices.unique()) > 4
        wanted = reference.decode(indices)
        torch.testing.assert_close(tokenizer.decode(indices), wanted)
        torch.testing.assert_close(tokenizer(images).images, wanted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_tokenizers_have_the_names_and_shapes_of_ours(name):
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in layout(**PUBLISHED[name]).items()}
        config, found = read_llamagen(state)
        wanted = Tokenizer(config).state_dict()
    multipliers = PUBLISHED[name]["multipliers"]
    assert is_llamagen(state)
    assert config.autoencoder == AutoencoderConfig(
        image_channels=3,
        base_channels=128,
        channel_multipliers=multipliers,
        num_residual_blocks=2,
        latent_channels=256,
        resolution=256,
        attention_resolutions=(256 // 2 ** (len(multipliers) - 1),),
    )
    assert config.quantizer == VectorQuantizerConfig(codebook_size=16384, codebook_dim=8, normalize=True)
    assert {key: t.shape for key, t in found.items()} == {key: t.shape for key, t in wanted.items()}
    assert len(found) == len(state) - 1  # `codebook_used`


@pytest.mark.parametrize(("name", "millions"), [("VQ-16", 72), ("VQ-8", 70)])
def test_the_layout_above_has_as_many_parameters_as_the_published_ones(name, millions):
    shapes = layout(**PUBLISHED[name])
    del shapes["quantize.codebook_used"]
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert round(count / 1e6) == millions


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder.conv_in.weight": None}, "`encoder.conv_in.weight` is missing"),
        ({"quantize.embedding.weight": None}, "do not show the quantizer"),
        (
            {"encoder.conv_out.weight": None},
            "the width of the latents: `encoder.conv_out.weight` is missing",
        ),
        ({"encoder.conv_in.weight": (0,)}, r"the channels of the images: .* has the shape \(0,\)"),
        ({"encoder.conv_blocks.1.res.0.conv1.weight": (48, 32, 3, 3)}, "a level is 48 channels wide"),
        ({"encoder.conv_in.weight": (16, 3, 3, 3)}, "that cannot be built: `base_channels` is 16"),
    ],
)
def test_other_tensors_are_told_apart_and_refused(changed, message):
    state = random_state(multipliers=(1, 2), ch=32, blocks=1, z=8, codes=8, width=4)
    assert not is_llamagen({"encoder.down.0.block.0.conv1.weight": torch.zeros(1)})
    state |= {key: torch.zeros(shape) for key, shape in changed.items() if shape}
    with pytest.raises(CheckpointError, match=message):
        llamagen_config({key: t for key, t in state.items() if changed.get(key, ()) is not None})


def test_no_key_may_be_missing_or_more(tmp_path):
    state, path = random_state(multipliers=(1, 2), ch=32, blocks=1, z=8, codes=8, width=4), tmp_path / "a.pt"
    torch.save({key: tensor for key, tensor in state.items() if key != "decoder.mid.1.q.bias"}, path)
    with pytest.raises(CheckpointError, match=r"a\.pt` does not fit the tokenizer it describes: 1 missing"):
        vqgan.load(path)
    torch.save(state | {"decoder.more.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"`decoder\.more\.weight`"):
        vqgan.load(path)
