"""The published models in a table and one by one, and the command that fetches them."""

import shutil
import subprocess
import sys

import pytest

import vqgan
from reference import store
from vqgan.checkpoints.zoo import ENTRIES, Entry

WITHOUT_TORCH = """
import sys
from vqgan.cli.main import main

assert main(["models"]) == 0
assert "torch" not in sys.modules
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A published model at addresses that need no network; what it was made from."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    folder.mkdir()
    store.write_checkpoint("vqmodel_tiny", folder / "last.ckpt")
    shutil.copy(store.ROOT / "vqmodel_tiny" / "model.yaml", folder / "model.yaml")
    addresses = [(folder / name).as_uri() for name in ("last.ckpt", "model.yaml")]
    entry = Entry(
        name="tiny",
        data="noise",
        parameters=1,
        page="https://publisher.invalid/tiny",
        checkpoint=addresses[0],
        config=addresses[1],
        tokenizer={
            "autoencoder": {"channel_multipliers": [1, 2, 2]},
            "quantizer": {"codebook_size": 64},
        },
    )
    monkeypatch.setitem(ENTRIES, "tiny", entry)
    return folder


def test_the_table_has_a_row_for_each_model(run):
    result = run("models")
    assert (result.code, result.err) == (0, "")
    title, *rows = result.out.splitlines()
    assert " ".join(title.split()) == "name factor codes parameters trained on FID licence download"
    assert [row.split()[0] for row in rows] == list(ENTRIES)
    row = rows[list(ENTRIES).index("vqgan_imagenet_f16_16384")]
    assert " ".join(row.split()) == (
        "vqgan_imagenet_f16_16384 16 16384 76.1M ImageNet rFID 4.98 val, 7.41 train not stated 980 MB"
    )
    assert rows[list(ENTRIES).index("cin_transformer")].endswith("by hand")


def test_a_size_that_is_not_known_is_said_to_be_so(run, tiny):
    assert run("models").out.splitlines()[-1].endswith("not stated  size unknown")


def test_the_table_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["vq-f8", "cin_transformer", "vq_ds8_c2i"])
def test_one_model_is_shown_in_full(run, name):
    result, entry = run("models", name), ENTRIES[name]
    assert result.code == 0
    for text in (name, f"{entry.parameters:,}", entry.page, entry.checkpoint, entry.config_sha256):
        assert text in result.out
    assert "config:\n" in result.out
    assert f"codebook_size: {entry.codes}" in result.out
    assert ("no address that one plain request can fetch is known" in result.out) == (not entry.checkpoint)
    assert "sha256      not known" in result.out


def test_an_unknown_model_is_refused(run):
    for words in (("models", "vq_f8"), ("download", "vq_f8")):
        result = run(*words)
        assert (result.code, result.out) == (2, "")
        assert "did you mean `vq-f8`?" in result.err


def test_download_prints_the_path_of_a_model_that_works(run, tiny, tmp_path):
    result = run("download", "tiny")
    assert result.paths == [tmp_path / "cache" / "models" / "tiny.safetensors"]
    assert "download (MB): 100%" in result.err
    assert isinstance(vqgan.load(result.paths[0], device="cpu"), vqgan.Tokenizer)
    again = run("download", "tiny")
    assert again.paths == result.paths
    assert "already exists" in again.err


def test_download_writes_where_it_is_told(run, tiny, tmp_path):
    out = tmp_path / "out.safetensors"
    assert run("download", "tiny", "--out", out).paths == [out]
    assert not (tmp_path / "cache").exists()
    assert run("download", "tiny", "--out", out).code == 6


def test_without_a_network_download_says_so_and_leaves_nothing(run, tiny, tmp_path):
    (tiny / "last.ckpt").unlink()
    out = tmp_path / "new" / "out.safetensors"
    result = run("download", "tiny", "--out", out)
    assert (result.code, result.out) == (5, "")
    message, hint = result.err.splitlines()
    assert message.startswith("vqgan: cannot download `file:///")
    assert hint.startswith("hint: open https://publisher.invalid/tiny in a browser")
    assert not out.parent.exists()
