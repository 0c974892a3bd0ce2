"""Configurations beside a checkpoint: class names are looked up, sizes are compared, nothing is believed."""

import os

import pytest
import yaml

import vqgan
from vqgan.cli.main import main


def changed(text, place, value):
    """The YAML text with another value at a place, or with one more."""
    mapping = yaml.safe_load(text)
    *parents, last = place.split(".")
    node = mapping
    for part in parents:
        node = node.setdefault(part, {})
    node[last] = value
    return yaml.safe_dump(mapping)


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.Popen", "builtins.eval", "vqgan.cli.main.main", "x"]
)
@pytest.mark.parametrize(
    "place",
    [
        "model.params.first_stage_config.target",
        "model.params.cond_stage_config.target",
        "model.params.transformer_config.target",
        "model.params.permuter_config.target",
    ],
)
def test_a_class_that_is_not_known_is_refused_by_its_name(faults, place, target):
    path = faults.copy("net2net_permuter")
    text = changed(faults.yaml("net2net_permuter"), place, target)
    text = changed(text, place.replace("target", "params.command"), f"touch {faults.marker}")
    (faults.folder / "model.yaml").write_text(text)
    faults.refused(path, f"unknown class `{target}`")


@pytest.mark.parametrize("target", ["os.system", "vqgan.cli.main.main"])
def test_of_an_outer_class_that_is_not_known_the_tokenizer_is_taken_and_nothing_is_run(faults, target):
    path = faults.copy("net2net_permuter")
    text = changed(faults.yaml("net2net_permuter"), "model.target", target)
    (faults.folder / "model.yaml").write_text(changed(text, "model.params.command", f"touch {faults.marker}"))
    with faults.untouched():
        assert isinstance(vqgan.load(path, device="cpu"), vqgan.Tokenizer)
    (faults.folder / "model.yaml").write_text(changed("{}", "model.target", target))
    faults.refused(path, f"unknown class `{target}`")


def test_a_class_that_says_nothing_of_the_model_is_not_looked_at(faults):
    path = faults.copy("net2net_permuter")
    text = faults.yaml("net2net_permuter")
    for place in (
        "model.params.first_stage_config.params.lossconfig",
        "model.params.lossconfig",
        "model.params.scheduler_config",
        "data",
        "lightning.callbacks.x",
    ):
        text = changed(text, place, {"target": "os.system", "params": {"command": f"touch {faults.marker}"}})
    (faults.folder / "model.yaml").write_text(text)
    with faults.untouched():
        assert main(["info", str(path)]) == 0


@pytest.mark.parametrize(
    "tag", ["object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"]
)
def test_a_tag_of_python_is_refused(faults, tag):
    path = faults.copy()
    text = f'model: !!python/{tag} ["touch {faults.marker}"]\n'
    (faults.folder / "model.yaml").write_text(text)
    faults.refused(path)
    faults.refused(path, "aliases and tags are not allowed", extra=("--config", faults.folder / "model.yaml"))


BAD = {
    "an alias bomb": "a0: &a0 [x, x]\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    + "model: *a59\n",
    "an alias to itself": "model: &a {target: *a}\n",
    "lists in lists": "model: " + "[" * 5_000 + "\n",
    "mappings in mappings": "model: " + "{a: " * 5_000 + "\n",
    "blocks in blocks": "".join(" " * n + "a:\n" for n in range(600)),
    "10 MB": "model:\n" + "  a: b\n" * 1_400_000,
    "many keys": "model:\n" + "".join(f"  k{n}: 1\n" for n in range(8_000)),
    "many values": "model: [" + "1," * 8_000 + "1]\n",
    "keys that stand twice": "model: {target: a, target: os.system}\n",
    "a number of 100,000 digits": "model: " + "9" * 100_000 + "\n",
    "nothing": "",
    "a list": "- model\n",
    "bytes": "\udcff\udcfe",
    "a zero": "model: {target: 'taming.models.vqgan.VQModel\\0'}\n",
    "two documents": "model: 1\n---\nmodel: 2\n",
    "a merge": "model: {<<: {target: os.system}}\n",
    "the wrong types": "model: {target: [os.system], params: 3}\n",
    "escapes": 'model: {target: "\\e[2J\\r\\nos.system"}\n',
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_configuration_is_refused(faults, name):
    path = faults.copy()
    bad = faults.folder / "other.yaml"
    (faults.folder / "model.yaml").unlink()
    bad.write_bytes(BAD[name].encode("utf-8", "surrogateescape"))
    faults.refused(path)  # found beside the checkpoint
    faults.refused(path, extra=("--config", bad))


@pytest.mark.parametrize(
    "kind", ["fifo", "folder", "nothing", "loop", "link to a fifo", "link to a folder", "device"]
)
def test_a_configuration_that_is_no_file_is_refused(faults, kind):
    path = faults.copy()
    file, other = faults.folder / "model.yaml", faults.folder / "other"
    file.unlink()
    target = other if kind.startswith("link") else file
    if kind.endswith("fifo"):
        os.mkfifo(target)
    elif kind.endswith("folder"):
        target.mkdir()
    if kind == "loop":
        file.symlink_to(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind.startswith("link") or kind == "nothing":
        file.symlink_to(other)
    faults.refused(path, "needs the configuration")
    faults.refused(path, extra=("--config", file))


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_checkpoint_that_is_no_file_is_refused(faults, kind):
    path = faults.copy()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    faults.refused(path)


FIRST = "model.params.first_stage_config.params"
TRANSFORMER = "model.params.transformer_config.params"
PLACES = [
    *(f"{FIRST}.{key}" for key in ("n_embed", "embed_dim")),
    *(
        f"{FIRST}.ddconfig.{key}"
        for key in ("ch", "out_ch", "num_res_blocks", "in_channels", "resolution", "z_channels", "dropout")
    ),
    *(f"{TRANSFORMER}.{key}" for key in ("vocab_size", "n_layer", "n_head", "n_embd")),
    "model.params.cond_stage_config.params.n_classes",
]


@pytest.mark.parametrize("value", [10**9, 10**30, -1, 0, "1", [1], None])
@pytest.mark.parametrize("place", PLACES)
def test_sizes_that_cannot_be_take_no_memory(faults, place, value):
    if (place.endswith("dropout") and value == 0) or (place.endswith("n_classes") and value == 0):
        pytest.skip("that is what it is, or may be")
    path = faults.copy("net2net_permuter")
    (faults.folder / "model.yaml").write_text(changed(faults.yaml("net2net_permuter"), place, value))
    faults.refused(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (f"{FIRST}.ddconfig.ch_mult", [1] * 50_000),
        (f"{FIRST}.ddconfig.ch_mult", []),
        (f"{FIRST}.ddconfig.ch_mult", [10**9, 10**9]),
        (f"{FIRST}.ddconfig.attn_resolutions", [10**9]),
        (f"{TRANSFORMER}.block_size", 10**9),
        (f"{TRANSFORMER}.block_size", 10**30),
        (f"{TRANSFORMER}.block_size", -1),
        ("model.params.permuter_config.params.H", 10**9),
        ("model.params.permuter_config.params.H", -8),
        ("model.params.permuter_config.params.W", 10**30),
        ("model.params.permuter_config.params", {"H": 10**5, "W": 10**5}),
    ],
)
def test_lists_and_windows_that_cannot_be_take_no_memory(faults, place, value):
    path = faults.copy("net2net_permuter")
    text = changed(faults.yaml("net2net_permuter"), place, value)
    if place.endswith("params"):
        text = changed(text, f"{TRANSFORMER}.block_size", 10**11)
    (faults.folder / "model.yaml").write_text(text)
    faults.refused(path)
