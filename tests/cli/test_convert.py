"""`vqgan convert` and `info` of published checkpoints: what goes wrong with them, and what is said of it."""

import pytest
import torch

from reference import store
from vqgan.checkpoints.published import convert


def refused(result, message, hint, code=5):
    """Exit code, message and hint, and nothing else on the way."""
    assert result.code == code, result.err
    assert result.out == ""
    assert message in result.err
    assert f"\nhint: {hint}" in result.err
    assert result.err.startswith("vqgan: ")
    assert "Error" not in result.err


# The configuration


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!DOCTYPE html>\n<html><body>404</body></html>\n", "looks like a web page, not YAML"),
        ("", "is empty, expected a mapping of keys to values"),
        ("- model\n", "holds a list, expected a mapping of keys to values"),
        ("not found", "holds text, expected a mapping of keys to values"),
        ("a: b: c", "is not valid YAML: mapping values are not allowed here"),
        ("model: !!python/name:os.system x", "is not valid YAML: aliases and tags are not allowed here"),
        ("lightning: {}", "has no `model` with a `target`"),
    ],
)
def test_a_configuration_that_is_there_but_broken_is_named_with_its_reason(published, run, text, reason):
    path = published()
    config = path.with_name("model.yaml")
    config.write_text(text)
    found = f"what was found cannot be used: `{config}` {reason}"
    refused(run("info", path), found, "download that file again, or give another with `--config")
    if "target" not in reason:
        result = run("info", path, "--config", config)
        assert (f"`{config}` {reason}" in result.err, "\nhint: " in result.err) == (True, True), result.err


def test_a_broken_configuration_does_not_hide_a_good_one(published, run):
    path = published()
    path.with_name("other.yaml").write_text("- broken")
    assert run("info", path).code == 0


@pytest.mark.parametrize("change", ["n_embed: 64", "taming.models.vqgan.VQModel"])
def test_the_configuration_of_another_tokenizer(published, run, change):
    path = published()
    config = path.with_name("model.yaml")
    other = {"n_embed: 64": "n_embed: 65"}.get(change, "taming.models.vqgan.GumbelVQ")
    config.write_text(config.read_text().replace(change, other))
    message = f"`{path}` does not fit the tokenizer that `{config}` describes: "
    refused(run("info", path), message, "the configuration may belong to another checkpoint; give the right")


@pytest.mark.parametrize(
    ("held", "described"), [("vqmodel_tiny", "net2net_class"), ("net2net_class", "vqmodel_tiny")]
)
def test_the_configuration_of_the_other_stage(published, run, held, described):
    path = published(held, described)
    kinds = ["synthesizer" if "net2net" in name else "tokenizer" for name in (held, described)]
    message = f"`{path}` holds a {kinds[0]}, but `{path.with_name('model.yaml')}` describes a {kinds[1]}"
    refused(run("info", path), message, "the configuration may belong to another checkpoint")


def test_keys_that_are_not_known_are_told_with_the_file(published, run):
    path = published()
    torch.save({"state_dict": {**store.case("vqmodel_tiny").state, "x": torch.zeros(1)}}, path)
    message = f"keys of `{path}` are unknown for this kind of model: `x`"
    refused(run("info", path), message, "check that the configuration")


def test_a_file_of_ours_takes_no_configuration(published, run, tmp_path):
    path = published()
    out = tmp_path / "x.safetensors"
    convert(path, out)
    result = run("info", out, "--config", path.with_name("model.yaml"))
    refused(result, f"`{out}` carries its own configuration", "omit the configuration", code=2)
    result = run("reconstruct", out, path, "--set", "prior.depth=2", "--out", tmp_path / "images")
    refused(result, f"`{out}` carries its own configuration", "omit the configuration", code=2)


# The file


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_a_checkpoint_that_is_cut_short(published, run, share, is_old):
    path = published()
    if is_old:
        torch.save(store.case("vqmodel_tiny").state, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = f"`{path}` cannot be read as a checkpoint: it is not complete"
    refused(run("info", path), message, "copy or download the file again")


@pytest.mark.parametrize("place", ["last.ckpt", "."])
@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "is empty", "copy or download the file again"),
        (
            b"\n<!DOCTYPE html>",
            "looks like a web page, not a checkpoint: the download failed",
            "download the file",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n",
            "is a Git LFS pointer, the file itself was not fetched",
            "fetch it: `git lfs pull`",
        ),
        (b"GIF89a", "holds no model that can be read", "give a run folder"),
    ],
)
def test_what_is_no_checkpoint(published, run, data, message, hint, place):
    path = published()
    path.write_bytes(data)
    refused(run("info", path.parent / place), f"`{path}` {message}", hint)


@pytest.mark.parametrize("name", ["tokenizer.safetensors", "diffusion_pytorch_model.safetensors"])
def test_a_pointer_in_the_place_of_the_weights_of_a_folder(published, run, tmp_path, name):
    folder = tmp_path / "folder"
    run("convert", published(), "--to", "diffusers", "--out", folder)
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(run("info", folder), f"`{folder / name}` is a Git LFS pointer", "fetch it: `git lfs pull`")


def test_several_models_in_a_file_and_one_without_codes_are_named(published, run):
    path = published()
    state = store.case("vqmodel_tiny").state
    both = {f"{prefix}.{key}": tensor for prefix in ("left", "right") for key, tensor in state.items()}
    torch.save(both, path)
    message = f"`{path}` holds several models, below `left.`, `right.`: which one to use is ambiguous"
    refused(run("info", path), message, "keep one of them in the file")
    path.with_name("model.yaml").write_text("model: {target: ldm.models.autoencoder.AutoencoderKL}")
    message = f"`{path.with_name('model.yaml')}` describes is an `ldm.models.autoencoder.AutoencoderKL`"
    torch.save(state, path)
    refused(run("info", path), message, "give a model with a codebook")


def test_a_reference_that_leads_nowhere_is_named(published, run):
    path = published()
    config = path.with_name("model.yaml")
    config.write_text(config.read_text().replace("n_embed: 64", "n_embed: ${codes}"))
    message = "`n_embed` of the first stage: expected `int`, got `str`; `${codes}` does not exist in the file"
    refused(run("info", path), message, "give the file that was published with the checkpoint")


def test_a_second_stage_without_its_configuration_asks_for_what_it_does_not_tell(published, run):
    path = published("net2net_class")
    path.with_name("model.yaml").unlink()
    message = "and its tensors do not show `prior.num_heads` and `conditioner.kind`"
    refused(
        run("info", path), message, "set it, for example `--set prior.num_heads=16` `--set conditioner.kind="
    )
    words = ("--set", "prior.num_heads=4", "--set", "conditioner.kind=class_label")
    refused(
        run("info", path, *words), "do not show `conditioner.num_classes`", "set it, for example `--set cond"
    )
    words = (*words, "--set", "conditioner.num_classes=10")
    assert "window      8x8 tokens, 32x32 pixels" in run("info", path, *words).out
    refused(
        run("info", path, *words, "--set", "prior.depht=2"), "unknown key `depht`", "did you mean", code=2
    )


def test_a_file_that_is_not_there(run, tmp_path):
    result = run("info", tmp_path / "last.ckpt")
    refused(result, "last.ckpt` cannot be read: no such file or directory", "check the path")


# What is written


@pytest.mark.parametrize(
    ("out", "hint"), [("new/", "new/model.safetensors"), ("x", "x.safetensors"), (".", "model.safetensors")]
)
def test_a_weights_file_is_named_as_one(published, run, tmp_path, monkeypatch, out, hint):
    monkeypatch.chdir(tmp_path)
    for words in (["convert", published()], ["download", "vq-f8"]):
        result = run(*words, "--out", out)
        refused(result, f"`--out` is `{out}`, expected a `.safetensors` file", f"give `--out {hint}`", code=2)


def test_a_folder_that_is_missing_is_made(published, run, tmp_path):
    out = tmp_path / "new" / "folder" / "x.safetensors"
    assert run("convert", published(), "--out", out).paths == [out]


def test_what_a_diffusers_folder_has_no_place_for_is_named(published, run, tmp_path):
    result = run("convert", published("net2net_class"), "--to", "diffusers", "--out", tmp_path / "a")
    assert "omitted: the prior and its condition" in result.err
    result = run("convert", published("train3"), "--to", "diffusers", "--out", tmp_path / "b")
    assert result.err == "omitted, for training only: discriminator\n"


def test_info_of_a_diffusers_folder_and_of_its_files(published, run, tmp_path):
    folder = tmp_path / "diffusers"
    run("convert", published(), "--to", "diffusers", "--out", folder)
    rows = {line[:12].strip(): line[12:] for line in run("info", folder).out.splitlines()}
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert (rows["weights"], rows["size"]) == ("raw", f"{size / 1e6:.1f} MB")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        message = f"`{folder / name}` is a part of a diffusers folder"
        refused(run("info", folder / name), message, f"give the folder, `{folder}`")
