"""Records files and the numbers that they give, so that later versions can be compared with them.

``python tests/compatibility/record.py`` writes ``recorded.tar.xz`` (run folders, models, codes) and ``numbers.json``
beside this file. The recording in the repository was made by version 0.1.0, before some of its modules and classes
were renamed. A new version cannot make the files of an old one: keep them, and record additions under names of their
own. A second recording differs from the first only in measured speeds. Models compute in float64, so that a
processor's way of rounding does not matter.

Everything is small. All but two inner channels of each residual block are zero, and stay zero in training, and
weights are multiples of 1/128: such files compress to a few kilobytes and still pass through every layer.
"""

import contextlib
import io
import json
import math
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import vqgan
from vqgan.cli.main import main
from vqgan.runs import resolve

HERE = Path(__file__).parent
ARCHIVE, NUMBERS, RUNS = HERE / "recorded.tar.xz", HERE / "numbers.json", HERE / "runs"
LIVE = 2
"""Inner channels of a residual block that are not zero."""

AUTOENCODER = {
    "image_channels": 1,
    "base_channels": 32,
    "channel_multipliers": [1],
    "num_residual_blocks": 1,
    "latent_channels": 4,
    "resolution": 8,
    "attention_resolutions": [],
    "patch_size": 2,
}
CODEBOOK = {"codebook_size": 16, "codebook_dim": 4}
QUANTIZERS: dict[str, dict[str, Any]] = {
    "vector": {"kind": "vector", **CODEBOOK},
    "vector-normalized": {"kind": "vector", **CODEBOOK, "normalize": True, "loss_convention": "original"},
    "vector-remapped": {"kind": "vector", **CODEBOOK, "remap": {"num_used": 5, "unknown": "random"}},
    "gumbel": {"kind": "gumbel", **CODEBOOK},
    "gumbel-remapped": {"kind": "gumbel", **CODEBOOK, "remap": {"num_used": 5, "unknown": "extra"}},
}
TOKENIZER = {"autoencoder": AUTOENCODER, "quantizer": QUANTIZERS["vector"]}
USED = (9, 2, 14, 5, 0)

CONDITIONERS: dict[str, dict[str, Any]] = {
    "unconditional": {"conditioner": {"kind": "unconditional"}, "vocabulary": 1, "token_order": "spiral_out"},
    "class_label": {
        "conditioner": {"kind": "class_label", "num_classes": 3, "class_names": ["cat", "dog", "fox"]},
        "vocabulary": 3,
        "prior": {"vocabulary": "shared"},
    },
    "coordinates": {
        "conditioner": {"kind": "coordinates", "num_values": 8, "downsample_factor": 2},
        "vocabulary": 8,
    },
    "tokenized_image": {
        "conditioner": {
            "kind": "tokenized_image",
            "image": "depth",
            "codebook_size": 16,
            "tokenizer": TOKENIZER,
        },
        "vocabulary": 16,
    },
    "tokenized_image-shared": {
        "conditioner": {"kind": "tokenized_image", "codebook_size": 16},
        "vocabulary": 16,
        "token_order": "alternate",
    },
    "scene_layout": {
        "conditioner": {
            "kind": "scene_layout",
            "num_classes": 3,
            "max_objects": 2,
            "vocabulary_size": 16,
            "encode_crop": True,
            "use_group": True,
            "use_additional": False,
        },
        "vocabulary": 16,
        "token_order": "z_curve",
    },
}
LAYOUT = {
    "objects": [{"class_number": 2, "box": [0.25, 0.0, 0.5, 0.75], "is_group": True}],
    "crop": [0.0, 0.0, 1.0, 0.75],
    "is_flipped": True,
}

OVERRIDES: dict[str, tuple[str, ...]] = {
    "preset-prior.yaml": (
        "conditioner.kind=class_label",
        "data.source.path=other",
        "training.ema_decay=null",
    ),
    "preset-tokenizer.yaml": (
        "task.adversary.weight=0.4",
        "task.perceptual.weights=lpips.pth",
        "task.optimizer.clip_norm=0.5",
        "data.resize=[128,256]",
        "tokenizer.quantizer={kind: gumbel, codebook_size: 64, codebook_dim: 8}",
        "task.reseed_after=null",
    ),
}
"""Requests of more than a file: what ``--set`` adds to it."""


def images(count: int = 3, side: int = 8) -> Tensor:
    """Smooth, different pictures (b 1 H W) in [-1, 1], a function of nothing but their size."""
    steps = torch.arange(count * side * side, dtype=torch.float64)
    return torch.sin(steps * (1 + steps / 97)).float().view(count, 1, side, side)


def condition(kind: str) -> dict[str, Any] | None:
    """A condition for two images."""
    match kind:
        case "class_label":
            return {"class": [1, "fox"]}
        case "tokenized_image":
            return {"depth": images(2).double().flip(3)}
        case "tokenized_image-shared":
            return {"image": images(2).double().flip(3)}
        case "scene_layout":
            return {"layout": LAYOUT}
    return None


def fill(model: torch.nn.Module) -> None:
    """Sets weights that depend on their names and shapes only, and compress well."""
    for name, tensor in model.state_dict().items():
        if name.endswith("quantizer.used"):
            tensor.copy_(torch.tensor(USED))
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = "norm" in name and name.endswith("weight")
        fan_in = tensor[0].numel() if tensor.ndim > 1 and "codebook.weight" not in name else 4
        value = 1 + noise / 8 if is_norm else noise * (2 if "head" in name else 1) / math.sqrt(fan_in)
        if name.endswith(("conv1.weight", "conv1.bias", "norm2.bias")) and ".norm" not in name[:-10]:
            value[LIVE:] = 0
        if name.endswith("conv2.weight"):
            value[:, LIVE:] = 0
        tensor.copy_((value * 128).round() / 128)


def save_models(folder: Path) -> None:
    """A tokenizer of each kind of quantizer, and a synthesizer of each kind of condition."""
    for name, quantizer in QUANTIZERS.items():
        config = msgspec.convert({**TOKENIZER, "quantizer": quantizer}, vqgan.TokenizerConfig)
        _save(vqgan.Tokenizer(config), folder / f"tokenizer-{name}.safetensors")
    for name, kind in CONDITIONERS.items():
        sizes = {"codebook_size": 16, "condition_size": kind["vocabulary"], "context_length": 40}
        mapping = {
            "tokenizer": TOKENIZER,
            "conditioner": kind["conditioner"],
            "prior": {**sizes, "depth": 2, "width": 16, "num_heads": 2, **kind.get("prior", {})},
            "window": [4, 4],
            "token_order": kind.get("token_order", "raster"),
        }
        model = vqgan.Synthesizer(msgspec.convert(mapping, vqgan.SynthesizerConfig))
        _save(model, folder / f"synthesizer-{name}.safetensors")


def save_with_training(path: Path) -> None:
    """A tokenizer with the discriminator that further training goes on with."""
    from vqgan.nn.discriminator import PatchDiscriminator

    arguments = {"image_channels": 1, "base_channels": 4, "num_layers": 1}
    model = vqgan.Tokenizer(msgspec.convert(TOKENIZER, vqgan.TokenizerConfig))
    discriminator = PatchDiscriminator(**arguments)
    for each in (model, discriminator):
        fill(each)
    vqgan.save_model(model, path, training={"discriminator": (arguments, discriminator)})


def _save(model: vqgan.Tokenizer | vqgan.Synthesizer, path: Path) -> None:
    fill(model)
    vqgan.save_model(model, path)


def begin_runs(folder: Path) -> None:
    """Two steps of a tokenizer and of a prior on its codes, each with a complete state to go on from."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(RUNS):
        start = Path(name) / "start.safetensors"
        config = msgspec.convert(
            resolve("tokenizer.yaml").tokenizer, vqgan.TokenizerConfig, from_attributes=True
        )
        _save(vqgan.Tokenizer(config), start)
        tokenizer = vqgan.train(
            "tokenizer.yaml", out=folder / "tokenizer", start_from=start, device="cpu", seed=3
        )
        vqgan.train("prior.yaml", out=folder / "prior", tokenizer=tokenizer, device="cpu", seed=4)
    for run in folder.iterdir():
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
        environment = json.loads((run / "env.json").read_text())
        (run / "env.json").write_text(json.dumps({**environment, "platform": "Linux"}, indent=1))


def command(*words: object) -> str:
    """Runs ``vqgan WORDS``; returns what it printed."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as messages,
    ):
        code = main([str(word) for word in words])
    assert code == 0, messages.getvalue()
    return out.getvalue()


def encode(model: Path, pictures: Path, out: Path) -> None:
    """Writes the codes of the pictures in a folder."""
    command("encode", model, pictures, "--out", out, "--device", "cpu")


def tokenizer_numbers(path: Path) -> dict[str, Any]:
    """What a tokenizer makes of :func:`images`."""
    model = vqgan.load(path, device="cpu").double()
    assert isinstance(model, vqgan.Tokenizer)
    with torch.no_grad():
        indices = model.encode(images().double())
        return {"indices": indices.tolist(), "reconstruction": _floats(model.decode(indices))}


def synthesizer_numbers(path: Path, wanted: dict[str, Any] | None) -> dict[str, Any]:
    """Scores of :func:`images`, and images that are drawn: greedily, with noise, and the rest of given ones."""
    model = vqgan.load(path, device="cpu").double()
    assert isinstance(model, vqgan.Synthesizer)
    given = images(2).double()
    known = torch.zeros(2, 4, 4, dtype=torch.bool)
    known[:, :2] = True
    with torch.no_grad():
        return {
            "indices": model.tokenizer.encode(given).tolist(),
            "log_probability": _floats(model.log_probability(given, wanted)),
            "greedy": _floats(model.sample(2, condition=wanted, temperature=0.0)),
            "drawn": _floats(model.sample(2, condition=wanted, temperature=0.9, top_k=9, top_p=0.95, seed=5)),
            "completed": _floats(model.complete(given, known, wanted, temperature=0.0)),
        }


def large_numbers(path: Path) -> dict[str, Any]:
    """An image of more tokens than the prior's window, drawn greedily."""
    model = vqgan.load(path, device="cpu").double()
    assert isinstance(model, vqgan.Synthesizer)
    return {"large": _floats(model.sample(1, (16, 12), {"class": 2}, temperature=0.0))}


def resumed_numbers(run: Path) -> list[dict[str, float]]:
    """The numbers of two more steps of a run; its folder is changed."""
    return _rows(vqgan.train(None, resume=run, overrides=["training.steps=4"], device="cpu"))[2:]


def begun_numbers(stage: str, start: Path, out: Path) -> list[dict[str, float]]:
    """The numbers of the two steps of a run that begins with the weights of a file or another run."""
    return _rows(vqgan.train(RUNS / f"{stage}.yaml", start_from=start, out=out, device="cpu"))


def _rows(run: Path) -> list[dict[str, float]]:
    """What ``metrics.jsonl`` holds, but for the speed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if name not in ("images_per_second", "data_wait")}
        for row in rows
    ]


def decoded(codes: Path, model: Path, out: Path) -> dict[str, Any]:
    """The pixels of recorded codes, as ``vqgan decode`` writes them."""
    command("decode", model, codes, "--out", out, "--device", "cpu")
    return {path.stem: np.asarray(Image.open(path)).tolist() for path in sorted(out.glob("*.png"))}


def numbers(recorded: Path, scratch: Path) -> dict[str, Any]:
    """Everything that is compared, of the recorded files; ``scratch`` takes what must be written."""
    models, runs = recorded / "models", recorded / "runs"
    result: dict[str, Any] = {}
    for name in QUANTIZERS:
        result[f"tokenizer-{name}"] = tokenizer_numbers(models / f"tokenizer-{name}.safetensors")
    for name in CONDITIONERS:
        result[f"synthesizer-{name}"] = synthesizer_numbers(
            models / f"synthesizer-{name}.safetensors", condition(name)
        )
    result["large"] = large_numbers(models / "synthesizer-class_label.safetensors")
    result["run-tokenizer"] = tokenizer_numbers(runs / "tokenizer")
    result["run-prior"] = synthesizer_numbers(runs, {"class": ["7", 1]})
    result["decoded"] = decoded(recorded / "codes", runs / "tokenizer", scratch / "decoded")
    for stage in ("tokenizer", "prior"):
        shutil.copytree(runs / stage, scratch / stage)
        result[f"resumed-{stage}"] = resumed_numbers(scratch / stage)
        result[f"begun-{stage}"] = begun_numbers(stage, runs / stage, scratch / f"begun {stage}")
    start = models / "with-training.safetensors"
    result["begun-from-file"] = begun_numbers("tokenizer", start, scratch / "from a file")
    return result


def requests() -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Name, file and overrides of every request for a run."""
    for path in sorted(RUNS.glob("*.yaml")):
        yield path.stem, path, ()
        if path.name in OVERRIDES:
            yield f"{path.stem} and overrides", path, OVERRIDES[path.name]


def resolved(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The whole configuration of a request, as plain mappings."""
    plain = msgspec.to_builtins(resolve(path, overrides))
    return json.loads(json.dumps(plain))


def _floats(values: Tensor) -> Any:
    def shortened(item: Any) -> Any:
        return [shortened(each) for each in item] if isinstance(item, list) else float(f"{item:.8g}")

    return shortened(values.tolist())


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder as an archive whose bytes depend on names and contents only."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            tar.add(path, path.relative_to(folder).as_posix(), filter=plain)


def record() -> None:
    """Writes the archive and the numbers."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        recorded, scratch = Path(name) / "recorded", Path(name) / "scratch"
        (recorded / "models").mkdir(parents=True)
        scratch.mkdir()
        save_models(recorded / "models")
        save_with_training(recorded / "models" / "with-training.safetensors")
        begin_runs(recorded / "runs")
        vqgan.write_images(images(), recorded / "pictures")
        encode(recorded / "runs" / "tokenizer", recorded / "pictures", recorded / "codes")
        pack(recorded, ARCHIVE)
        found = numbers(recorded, scratch)
        found["resolved"] = {name: resolved(path, overrides) for name, path, overrides in requests()}
        NUMBERS.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    record()
