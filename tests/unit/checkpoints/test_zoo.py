"""The published models: what they are without their weights, and how they are fetched (never from the network here)."""

import hashlib
import http.server
import shutil
import threading
import zipfile

import msgspec
import pytest
import torch

import vqgan
from reference import store
from vqgan.checkpoints import published as downloads
from vqgan.checkpoints.format import build_model, read_header
from vqgan.checkpoints.published import by_hand, default_path, download, download_model
from vqgan.checkpoints.zoo import ENTRIES, NOT_STATED, Entry, find_entry, model_config
from vqgan.config import to_mapping
from vqgan.errors import CheckpointError, ConfigError, OutputError

# Millions: priors and tokenizers as counted once from the original's own classes, and as LlamaGen's README states them.
STATED = {
    "vqgan_imagenet_f16_1024": 72.1,
    "vqgan_imagenet_f16_16384": 76.1,
    "vqgan_gumbel_f8": 69.0,
    "coco_8k_vqgan": 74.0,
    "vq_ds16_c2i": 72,
    "vq_ds8_c2i": 70,
    "ffhq_transformer": 801.8 + 72.1,
    "ade20k_transformer": 361.6 + 145.4,
    "coco_transformer": 651.3 + 146.5,
    "cin_transformer": 1410.6 + 76.1,
    "faceshq_transformer": 304.9 + 72.1,
    "sflckr": 304.9 + 144.7,
    "drin_transformer": 304.9 + 144.3,
    "open_images_scene": 1045.6 + 74.0,
    "coco_scene_30": 975.9 + 74.0,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_model_can_be_built_and_is_as_the_table_says(name):
    entry, config = ENTRIES[name], model_config(name)
    model = build_model(entry.holds, to_mapping(config), where=name)
    tokenizer = model.tokenizer if entry.holds == "synthesizer" else model
    assert (tokenizer.downsample_factor, tokenizer.codebook_size) == (entry.factor, entry.codes)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    if name in STATED:
        assert entry.parameters / 1e6 == pytest.approx(STATED[name], abs=0.5 if name[:3] == "vq_" else 0.11)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())
def test_addresses_are_complete_or_empty(entry):
    assert entry.page.startswith("https://")
    assert all(each == "" or each.startswith("https://") for each in (entry.checkpoint, entry.config))
    assert entry.checkpoint or not entry.config
    assert entry.licence in (NOT_STATED, "MIT")
    assert all(len(each) in (0, 64) for each in (entry.checkpoint_sha256, entry.config_sha256))
    assert entry.page in by_hand(entry)
    assert f"vqgan convert FOLDER --out {entry.name}.safetensors" in by_hand(entry)
    if entry.holds == "synthesizer":
        assert entry.config or not entry.checkpoint


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=r"`cin_transfomer`\nhint: did you mean `cin_transformer`\?"):
        find_entry("cin_transfomer")
    with pytest.raises(ConfigError, match="unknown published model `x`"):
        model_config("x")


# Downloads: a tiny checkpoint of the original, at an address that needs no network.


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A function that puts a model into the table, and the folder of its files."""
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    folder.mkdir()
    store.write_checkpoint("train3", folder / "last.ckpt")
    shutil.copy(store.ROOT / "train3" / "model.yaml", folder / "model.yaml")
    given = Entry(
        name="tiny",
        data="noise",
        parameters=1,
        tokenizer={
            "autoencoder": {"channel_multipliers": [1, 2, 2]},
            "quantizer": {"codebook_size": 64},
        },
        page="https://publisher.invalid/tiny",
        checkpoint=(folder / "last.ckpt").as_uri(),
        config=(folder / "model.yaml").as_uri(),
        config_sha256=hashlib.sha256((folder / "model.yaml").read_bytes()).hexdigest(),
    )

    def publish(**changes):
        monkeypatch.setitem(ENTRIES, "tiny", msgspec.structs.replace(given, **changes))
        return folder

    return publish


def files(folder):
    return (
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) if folder.exists() else []
    )


def assert_same_model(path, folder):
    expected = vqgan.load(folder, device="cpu")
    found = vqgan.load(path, device="cpu")
    assert found.config == expected.config
    assert all(torch.equal(t, expected.state_dict()[key]) for key, t in found.state_dict().items())


def test_a_model_is_fetched_converted_and_kept_alone(published, tmp_path):
    folder, seen = published(), []
    path = download_model("tiny", on_progress=seen.append)
    assert path == default_path("tiny", keep_training=False) == tmp_path / "cache/models/tiny.safetensors"
    assert files(path.parent) == ["tiny.safetensors"]
    assert_same_model(path, folder)
    steps = -(-(folder / "last.ckpt").stat().st_size // 1_000_000)
    assert [(each.step, each.total) for each in seen] == [(step, steps) for step in range(1, steps + 1)]


def test_what_is_in_the_cache_is_not_fetched_again(published, monkeypatch):
    published()
    path = download_model("tiny")
    monkeypatch.setattr(downloads, "download", pytest.fail)
    assert download_model("tiny") == path
    with pytest.raises(OutputError, match="nothing is overwritten"):
        download_model("tiny", path)


def test_the_training_state_is_kept_in_a_file_of_its_own(published, tmp_path):
    published()
    plain, kept = download_model("tiny"), download_model("tiny", keep_training=True)
    assert plain != kept
    assert (list(read_header(plain).training), list(read_header(kept).training)) == ([], ["discriminator"])


def test_a_model_without_a_yaml_file_of_its_own_is_described_by_its_tensors(published, tmp_path):
    folder = published(config="", config_sha256="")
    path = download_model("tiny", tmp_path / "out" / "tiny.safetensors")
    expected, found = vqgan.load(folder, device="cpu"), vqgan.load(path, device="cpu")
    assert all(torch.equal(t, expected.state_dict()[key]) for key, t in found.state_dict().items())
    assert torch.equal(found.encode(torch.zeros(1, 3, 64, 64)), expected.encode(torch.zeros(1, 3, 64, 64)))
    assert files(path.parent) == ["tiny.safetensors"]
    assert "put the checkpoint into one folder" in by_hand(ENTRIES["tiny"])


@pytest.mark.parametrize("name", ["last.ckpt", "../../outside.ckpt"])
def test_a_checkpoint_in_an_archive_is_taken_out_whatever_its_name(published, tmp_path, name):
    archive = tmp_path / "published" / "tiny.zip"
    folder = published(checkpoint=archive.as_uri())
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(folder / "last.ckpt", name)
    path = download_model("tiny")
    assert_same_model(path, folder)
    assert files(tmp_path / "cache") == ["models", "models/tiny.safetensors"]
    assert not list(tmp_path.glob("*.ckpt"))


def broken_archive(folder, how):
    with zipfile.ZipFile(folder / "tiny.zip", "w") as packed:
        for name in how:
            packed.writestr(name, b"x" * 100)
    return folder / "tiny.zip"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ((), "it holds 0 checkpoints"),
        (("a.ckpt", "b.ckpt"), "it holds 2 checkpoints"),
        (None, "not a zip file"),
    ],
)
def test_archives_without_the_checkpoint_are_refused(published, tmp_path, how, says):
    archive = tmp_path / "published" / "tiny.zip"
    folder = published(checkpoint=archive.as_uri())
    archive.write_bytes(b"<html>") if how is None else broken_archive(folder, how)
    assert_nothing_is_left(tmp_path, f"gave an archive that cannot be used: .*{says}")


def test_archives_that_promise_too_much_are_refused(published, tmp_path, monkeypatch):
    monkeypatch.setattr("vqgan.checkpoints.published.MAX_BYTES", 99)
    archive = tmp_path / "published" / "tiny.zip"
    folder = published(checkpoint=archive.as_uri())
    broken_archive(folder, ("last.ckpt",))
    assert_nothing_is_left(tmp_path, "its checkpoint has 100 bytes, at most 99")


def test_damaged_archives_are_refused(published, tmp_path):
    folder = published(checkpoint=(tmp_path / "published" / "tiny.zip").as_uri())
    archive = broken_archive(folder, ("last.ckpt",))
    data = archive.read_bytes()
    archive.write_bytes(data.replace(b"x" * 100, b"y" * 100))
    assert_nothing_is_left(tmp_path, "gave an archive that cannot be used: Bad CRC")


def assert_nothing_is_left(tmp_path, match, error=CheckpointError):
    with pytest.raises(error, match=match) as caught:
        download_model("tiny")
    assert files(tmp_path / "cache") in ([], ["models"])
    return caught.value


def test_without_a_network_one_error_says_where_the_files_are(published, tmp_path):
    published(config="https://nowhere.invalid/model.yaml")
    error = assert_nothing_is_left(tmp_path, r"cannot download `https://nowhere\.invalid/model\.yaml`")
    assert error.exit_code == 5
    assert error.hint.startswith(
        "open https://publisher.invalid/tiny in a browser, put the checkpoint and its YAML"
    )
    published(checkpoint="http://127.0.0.1:9/last.ckpt")
    assert_nothing_is_left(tmp_path, "cannot download `http://127")


def test_models_behind_a_page_are_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VQGAN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"one plain request.*\nhint: open https://k00\.fr/s511rwcv"):
        download_model("cin_transformer")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("which", ["checkpoint_sha256", "config_sha256"])
def test_a_wrong_checksum_is_refused(published, tmp_path, which):
    published(**{which: "0" * 64})
    assert_nothing_is_left(tmp_path, f"has the checksum [0-9a-f]{{64}}, expected {'0' * 64}")


def test_another_file_than_the_model_is_refused_without_naming_temporary_files(published, tmp_path):
    folder = published()
    (folder / "last.ckpt").write_bytes(b"<html>moved</html>")
    error = assert_nothing_is_left(
        tmp_path, r"gave a file that is not the model: `last\.ckpt` looks like a web page"
    )
    assert ".download-" not in str(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_download_leaves_nothing(published, tmp_path, error):
    published()

    def interrupt(progress):
        raise error

    with pytest.raises((KeyboardInterrupt, OutputError)):
        download_model("tiny", on_progress=interrupt)
    assert files(tmp_path / "cache") == ["models"]


def test_a_folder_that_cannot_be_written_is_an_output_error(published, tmp_path):
    published()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        download_model("tiny", tmp_path / "file" / "tiny.safetensors")


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"z" * 2_500_000
        self.send_response(404 if self.path == "/absent" else 200)
        if self.path != "/untold":
            self.send_header("Content-Length", str(len(body) + 100 * (self.path == "/short")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments): ...


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "total"), [("whole", 3), ("untold", 0)])
def test_a_server_sends_a_file(server, tmp_path, path, total):
    seen = []
    download(f"{server}/{path}", tmp_path / "file", hint="", on_progress=seen.append)
    assert (tmp_path / "file").read_bytes() == b"z" * 2_500_000
    assert [(each.step, each.total) for each in seen] == [(1, total), (2, total), (3, total)]


@pytest.mark.parametrize(
    ("path", "says"), [("short", "it ended after 2,500,000 of 2,500,100 bytes"), ("absent", "Not Found")]
)
def test_a_server_that_fails_leaves_nothing(server, tmp_path, path, says):
    with pytest.raises(CheckpointError, match=f"cannot download `.*`: .*{says}\nhint: by hand"):
        download(f"{server}/{path}", tmp_path / "file", hint="by hand")
    assert files(tmp_path) == []
