"""Published tokenizers as they lie on disks, through everything that opens a model; and those that are none."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
import vqgan
from vqgan.checkpoints.diffusers import CONFIG_FILE, PIPELINE_FILE, WEIGHTS_FILE, write_diffusers
from vqgan.checkpoints.key_maps import TOKENIZER
from vqgan.errors import CheckpointError
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig

STEM = WEIGHTS_FILE.partition(".")[0]
SIZES = {
    "image_channels": 3,
    "base_channels": 32,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "latent_channels": 8,
    "resolution": 16,
    "attention_resolutions": (),
    "middle_attention": False,
}
YAML = """\
model:
  target: ldm.models.autoencoder.VQModelInterface
  params:
    n_embed: 16
    embed_dim: 8
    ddconfig: {double_z: false, z_channels: 8, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 2],
      num_res_blocks: 1, attn_resolutions: [8], dropout: 0.0, attn_type: none}
"""


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    quantizer = VectorQuantizerConfig(codebook_size=16, codebook_dim=8, loss_convention="original")
    return Tokenizer(TokenizerConfig(autoencoder=AutoencoderConfig(**SIZES), quantizer=quantizer)).eval()


def plain(folder, tokenizer):
    write_diffusers(tokenizer, folder)
    return folder


def half(folder, tokenizer, kind="safetensors"):
    write_diffusers(tokenizer, folder)
    state = {key: tensor.half() for key, tensor in load_file(folder / WEIGHTS_FILE).items()}
    (folder / WEIGHTS_FILE).unlink()
    save = save_file if kind == "safetensors" else torch.save
    save(state, folder / f"{STEM}.fp16.{kind}")
    return folder


def half_pickle(folder, tokenizer):
    return half(folder, tokenizer, "bin")


def half_beside_full(folder, tokenizer):
    write_diffusers(tokenizer, folder)
    shutil.copy(half(folder.with_name("half"), tokenizer) / f"{STEM}.fp16.safetensors", folder)
    return folder


def sharded(folder, tokenizer):
    write_diffusers(tokenizer, folder)
    state = list(load_file(folder / WEIGHTS_FILE).items())
    (folder / WEIGHTS_FILE).unlink()
    places = {}
    for number, part in enumerate((state[::2], state[1::2]), 1):
        name = f"{STEM}-0000{number}-of-00002.safetensors"
        save_file(dict(part), folder / name)
        places |= {key: name for key, _ in part}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{WEIGHTS_FILE}.index.json").write_text(json.dumps(index))
    return folder


def pipeline(folder, tokenizer):
    write_diffusers(tokenizer, folder / "vqvae")
    parts = {"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"], "vqvae": ["diffusers", "VQModel"]}
    (folder / PIPELINE_FILE).write_text(json.dumps(parts))
    (folder / "another.ckpt").touch()
    return folder


def latent_diffusion(folder, tokenizer):
    folder.mkdir()
    ours = tokenizer.state_dict()
    state = {key: ours[name] for name, key in TOKENIZER.published(ours).items()}
    torch.save({"state_dict": state}, folder / "model.ckpt")
    (folder / "config.yaml").write_text(YAML)
    return folder


@pytest.mark.parametrize(
    "layout", [plain, half, half_pickle, half_beside_full, sharded, pipeline, latent_diffusion]
)
def test_every_layout_opens_everywhere(tmp_path, tokenizer, trained, run, layout):
    path, out = layout(tmp_path / "model", tokenizer), tmp_path / "out"
    info = run("info", path)
    assert (info.code, "middle_attention: false" in info.out) == (0, True), info.err
    assert run("convert", path, "--out", tmp_path / "x.safetensors").code == 0
    images = tiny.images(1, channels=3, side=16)
    is_half = layout in (half, half_pickle)
    wanted = {name: t.half().float() if is_half else t for name, t in tokenizer.state_dict().items()}
    for model in (vqgan.load(path), vqgan.load(tmp_path / "x.safetensors")):
        assert model.config == tokenizer.config
        found = model.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert is_half or torch.equal(model.encode(images), tokenizer.encode(images))
    result = run("reconstruct", path, trained.images / "dark" / "0.png", "--out", out)
    assert result.paths == [out / "0.png"], result.err


def no_codes(folder, tokenizer):
    write_diffusers(tokenizer, folder)
    (folder / CONFIG_FILE).write_text(json.dumps({"_class_name": "AutoencoderKL", "latent_channels": 4}))
    return folder, "config.json` describes is an `AutoencoderKL`: its latents are continuous, it has no codes"


def pipeline_without_codes(folder, tokenizer):
    pipeline(folder, tokenizer)
    parts = {
        "unet": ["diffusers", "U\x1b"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
    }
    (folder / PIPELINE_FILE).write_text(json.dumps(parts))
    return folder, f"the part `vae` of `{folder}` is an `AutoencoderKL`: its latents are continuous"


def pipeline_of_others(folder, tokenizer):
    pipeline(folder, tokenizer)
    parts = {
        "unet": ["diffusers", "U\x1b"],
        "../vqvae": ["diffusers", "VQModel"],
        "safety_checker": [None, None],
    }
    (folder / PIPELINE_FILE).write_text(json.dumps(parts))
    return folder, f"the pipeline `{folder}` has no `VQModel`; it has U\\x1b, VQModel, None\nhint: "


def flax(folder, _):
    folder.mkdir()
    (folder / "flax_model.msgpack").write_bytes(b"\x82")
    return folder, "flax_model.msgpack` holds weights of Flax, which are not read"


def flax_file(folder, _):
    flax(folder, _)
    (folder / CONFIG_FILE).write_text("{}")
    path = folder / "flax_model.msgpack"
    return path, f"`{path}` is a part of a diffusers folder"


def shard_missing(folder, tokenizer):
    sharded(folder, tokenizer)
    name = f"{STEM}-00002-of-00002.safetensors"
    (folder / name).unlink()
    return folder, f"cannot read `{folder / name}`: no such file"


def shard_elsewhere(folder, tokenizer):
    sharded(folder, tokenizer)
    index = folder / f"{WEIGHTS_FILE}.index.json"
    index.write_text(index.read_text().replace(STEM, f"../{STEM}"))
    return folder, f"`{index}` names no files beside it in `weight_map`"


def tensor_in_two_shards(folder, tokenizer):
    sharded(folder, tokenizer)
    first, second = sorted(folder.glob("*.safetensors"))
    save_file(load_file(second) | {"quant_conv.bias": torch.ones(1)}, second)
    save_file(load_file(first) | {"quant_conv.bias": torch.ones(1)}, first)
    return folder, f"`quant_conv.bias` is in several files of `{folder}`"


def part(folder, tokenizer):
    folder = pipeline(folder, tokenizer)
    return (
        folder / PIPELINE_FILE,
        f"model_index.json` is a part of a diffusers folder\nhint: give the folder, `{folder}`",
    )


REFUSED = [no_codes, pipeline_without_codes, pipeline_of_others]
REFUSED += [flax, flax_file, shard_missing, shard_elsewhere, tensor_in_two_shards, part]


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_no_tokenizer_is_named_for_what_it_is(tmp_path, tokenizer, trained, run, layout):
    path, message = layout(tmp_path / "model", tokenizer)
    with pytest.raises(CheckpointError):
        vqgan.load(path)
    out, image = tmp_path / "new" / "out.safetensors", trained.images / "dark" / "0.png"
    for words in (
        ["info", path],
        ["convert", path, "--out", out],
        ["reconstruct", path, image, "--out", out],
    ):
        result = run(*words)
        assert (result.code, message in result.err, "\nhint: " in result.err) == (5, True, True), result.err
    assert not out.parent.exists()
