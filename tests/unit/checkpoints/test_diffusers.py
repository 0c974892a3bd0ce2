import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import tiny
import vqgan
from vqgan.checkpoints.diffusers import CONFIG_FILE, WEIGHTS_FILE, read_diffusers, write_diffusers
from vqgan.checkpoints.key_maps import DIFFUSERS
from vqgan.errors import CheckpointError, ConfigError
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig, RemapConfig

DOWN, UP = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"), ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")


def arguments(*, widths=(32, 64), attended=(False, False), **changes):
    return {
        "block_out_channels": widths,
        "down_block_types": tuple(DOWN[here] for here in attended),
        "up_block_types": tuple(UP[here] for here in reversed(attended)),
        "latent_channels": 4,
        "num_vq_embeddings": 16,
        **changes,
    }


SHAPES = {
    "one level": arguments(widths=(32,), attended=(False,)),
    "two levels": arguments(layers_per_block=2, vq_embed_dim=6, in_channels=1, out_channels=1),
    "no attention in the middle": arguments(
        widths=(32, 64), attended=(True, False), mid_block_add_attention=False, lookup_from_codebook=True
    ),
    "attention at the lowest level": arguments(
        widths=(32, 32, 64), attended=(False, False, True), sample_size=64
    ),
    "attention in between": arguments(
        widths=(32, 96, 64), attended=(False, True, False), layers_per_block=2, act_fn="swish", sample_size=30
    ),
}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers", reason="diffusers is not installed: `pip install vqgan[dev]`")


def scrambled(model):
    """Weights that make every layer count; biases, norms and codes are no longer 0, 1 and tiny."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.02))
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0, 0.5)
    return model.eval()


def vq_model(diffusers, settings):
    torch.manual_seed(0)
    return scrambled(diffusers.VQModel(**settings))


def ours(config, seed=0):
    torch.manual_seed(seed)
    return scrambled(Tokenizer(config))


def loaded(folder):
    config, state = read_diffusers(folder)
    model = Tokenizer(config).eval()
    model.load_state_dict(state, strict=True)
    return model


@torch.no_grad()
def check_the_same(tokenizer, model, channels):
    images = tiny.images(2, channels=channels, side=32)
    codes = model.quantize(model.encode(images).latents)[2][2]
    assert torch.equal(tokenizer.encode(images).flatten(), codes)
    # Random weights amplify rounding; in float64 nothing of it is left.
    tokenizer, model, images = tokenizer.double(), model.double(), images.double()
    latents = model.encode(images).latents
    torch.testing.assert_close(tokenizer.latents(images), latents)
    indices = model.quantize(latents)[2][2].view(2, *latents.shape[2:])
    assert torch.equal(tokenizer.encode(images), indices)
    assert len(indices.unique()) > 2
    reconstructed = model(images).sample
    assert reconstructed.std() > 1e-3
    torch.testing.assert_close(tokenizer(images).images, reconstructed)
    torch.testing.assert_close(tokenizer.decode(indices), reconstructed)


@pytest.mark.parametrize("name", SHAPES)
def test_a_folder_of_diffusers_gives_the_same_codes_and_reconstructions(tmp_path, diffusers, name):
    model = vq_model(diffusers, SHAPES[name])
    model.save_pretrained(tmp_path)
    check_the_same(loaded(tmp_path), model, model.config.in_channels)


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_read_is_written_back_the_same(tmp_path, diffusers, name):
    vq_model(diffusers, SHAPES[name]).save_pretrained(tmp_path / "theirs")
    write_diffusers(loaded(tmp_path / "theirs"), tmp_path / "ours")
    before, after = (load_file(tmp_path / side / WEIGHTS_FILE) for side in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def config(*, multipliers=(1, 2, 2), attention=(), quantizer=None, **changes):
    sizes = {
        "image_channels": 3,
        "base_channels": 32,
        "channel_multipliers": multipliers,
        "num_residual_blocks": 1,
        "latent_channels": 8,
        "resolution": 32,
        "attention_resolutions": attention,
    }
    return TokenizerConfig(
        autoencoder=AutoencoderConfig(**{**sizes, **changes}),
        quantizer=quantizer or VectorQuantizerConfig(codebook_size=24, codebook_dim=5),
    )


@pytest.mark.parametrize(("attention", "middle"), [((), False), ((8,), True), ((32, 16), True)])
def test_diffusers_reads_what_is_written(tmp_path, diffusers, attention, middle):
    tokenizer = ours(config(attention=attention, middle_attention=middle, num_residual_blocks=2, dropout=0.1))
    write_diffusers(tokenizer, tmp_path / "new" / "folder")
    model, report = diffusers.VQModel.from_pretrained(tmp_path / "new" / "folder", output_loading_info=True)
    assert not any(report.values())
    check_the_same(tokenizer, model.eval(), 3)


def test_reading_gives_back_the_sizes_that_were_written(tmp_path):
    written = config(attention=(16,), middle_attention=False)
    write_diffusers(ours(written), tmp_path)
    assert read_diffusers(tmp_path)[0].autoencoder == written.autoencoder


def test_the_loss_is_the_one_that_diffusers_trains_with(tmp_path, diffusers):
    model = vq_model(diffusers, arguments())
    model.save_pretrained(tmp_path)
    images = tiny.images(2, channels=3, side=32)
    tokenizer = loaded(tmp_path)
    wanted = model(images).commit_loss
    torch.testing.assert_close(tokenizer(images).quantized.loss, wanted)
    gradients = [
        torch.autograd.grad(loss, codes)[0]
        for loss, codes in (
            (tokenizer(images).quantized.loss, tokenizer.quantizer.codebook.weight),
            (wanted, model.quantize.embedding.weight),
        )
    ]
    torch.testing.assert_close(*gradients)


def test_old_names_of_attention_and_pickled_weights_are_read(tmp_path):
    tokenizer = ours(config(attention=(8,)))
    write_diffusers(tokenizer, tmp_path)
    state = load_file(tmp_path / WEIGHTS_FILE)
    words = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new, old in words.items():
        state = {key.replace(new, old): tensor for key, tensor in state.items()}
    (tmp_path / WEIGHTS_FILE).unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    assert sum(".proj_attn." in key for key in state) == 2 * (1 + 1 + 1 + 2)
    found = loaded(tmp_path).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in tokenizer.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 2, "multipliers": (1, 2)}, "`patch_size` is 2, diffusers needs 1"),
        ({"multipliers": (2, 2)}, "`channel_multipliers` begins with 2, diffusers needs 1"),
        (
            {"quantizer": VectorQuantizerConfig(codebook_size=4, codebook_dim=2, normalize=True)},
            "the quantizer has `normalize`, diffusers needs it without",
        ),
        (
            {
                "quantizer": VectorQuantizerConfig(
                    codebook_size=4, codebook_dim=2, remap=RemapConfig(num_used=3, unknown="extra")
                )
            },
            "the quantizer has `remap`, diffusers needs it without",
        ),
        (
            {"quantizer": GumbelQuantizerConfig(codebook_size=4, codebook_dim=2)},
            "the quantizer is `gumbel`, diffusers needs `vector`",
        ),
    ],
)
def test_what_diffusers_cannot_express_is_not_written(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"{message}\nhint: diffusers' `VQModel` has no such setting"):
        write_diffusers(Tokenizer(config(**changes)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"norm_num_groups": 16}, "norm_num_groups"),
        ({"norm_type": "spatial"}, "norm_type"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"out_channels": 4}, "out_channels"),
        ({"block_out_channels": [32, 48, 64]}, "block_out_channels"),
        ({"block_out_channels": []}, "block_out_channels"),
        ({"block_out_channels": [0, 32, 32]}, "block_out_channels"),
        ({"block_out_channels": [32, 64]}, "down_block_types"),
        ({"down_block_types": ["DownBlock2D"] * 3}, "down_block_types"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 3}, "up_block_types"),
        ({"layers_per_block": "2"}, "layers_per_block"),
        ({"use_tiling": True}, "use_tiling"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_key(tmp_path, changes, key):
    write_diffusers(ours(config()), tmp_path)
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=f"`{key}") as caught:
        read_diffusers(tmp_path)
    assert str(path) in caught.value.message


def test_other_classes_and_damaged_configurations_are_refused(tmp_path):
    path = tmp_path / CONFIG_FILE
    for content, message in (
        (
            '{"_class_name": "AutoencoderKL"}',
            "config.json` describes is an `AutoencoderKL`: .* it has no codes",
        ),
        ('{"_class_name": "AutoencoderTiny"}', r"`_class_name` of .* is `AutoencoderTiny`, only `VQModel`"),
        ("{}", "is `None`"),
        ("[1]", "it holds list, expected an object"),
        ("{", "cannot read .*expecting property name"),
        ("{" + " " * 1_000_000 + "}", "more than 1,000,000 bytes"),
    ):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=message):
            read_diffusers(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=re.escape(f"cannot read `{path}`: no such file")):
        read_diffusers(tmp_path)


def test_no_key_may_be_missing_or_more_or_named_twice(tmp_path):
    write_diffusers(ours(config()), tmp_path)
    path = tmp_path / WEIGHTS_FILE
    state = load_file(path)
    bias = "encoder.mid_block.attentions.0.to_q.bias"
    for changed, message in (
        ({k: t for k, t in state.items() if k != bias}, "1 missing"),
        (state | {"decoder.up_blocks.7.resnets.0.norm1.bias": torch.zeros(32)}, "1 of 154 keys"),
        (state | {"encoder.more.bias": torch.zeros(1)}, "`encoder.more.bias`"),
        (state | {bias: torch.zeros(3)}, "1 of another shape"),
        (state | {bias.replace("to_q", "query"): state[bias].clone()}, "are two names of one tensor"),
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=message):
            vqgan.load(tmp_path)


def test_the_levels_of_the_decoder_are_counted_from_the_other_end():
    names = [
        f"{side}.levels.{level}.resample.conv.bias" for side in ("encoder", "decoder") for level in range(3)
    ]
    theirs = DIFFUSERS.published(names)
    assert theirs["decoder.levels.2.resample.conv.bias"] == "decoder.up_blocks.0.upsamplers.0.conv.bias"
    assert theirs["encoder.levels.0.resample.conv.bias"] == "encoder.down_blocks.0.downsamplers.0.conv.bias"
    assert list(DIFFUSERS.rename({key: torch.zeros(1) for key in theirs.values()}, names)) == names
