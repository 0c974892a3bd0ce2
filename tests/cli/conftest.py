"""Tiny images, and a tokenizer and priors trained on them for a few steps, shared by all tests of the commands."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqgan
from reference import store
from vqgan.cli.main import main

TOKENIZER = """\
kind: tokenizer
tokenizer:
  autoencoder:
    image_channels: 3
    base_channels: 32
    channel_multipliers: [1]
    num_residual_blocks: 1
    latent_channels: 32
    resolution: 16
    attention_resolutions: []
    patch_size: 4
  quantizer: {kind: vector, codebook_size: 16, codebook_dim: 4}
task:
  optimizer: {learning_rate: 1e-3, betas: [0.9, 0.99]}
data: {image_size: [16, 16], crop: center}
training: {steps: 4, batch_size: 4, save_every: 2, evaluate_every: 4, pictures: 0}
"""

PRIOR = """\
kind: prior
conditioner: {kind: CONDITIONER}
prior: {depth: 1, width: 16, num_heads: 2}
task:
  optimizer: {learning_rate: 1e-3, betas: [0.9, 0.95]}
data: {image_size: [16, 16], crop: center}
training: {steps: 3, batch_size: 4, save_every: 3, evaluate_every: 3, pictures: 0}
"""


@dataclass(frozen=True)
class Trained:
    """What the commands are given.

    Attributes:
        images: A folder with the sub-folders ``dark`` and ``light`` of ten images of 16x16 pixels each.
        tokenizer: A run folder: factor 4, 16 codes.
        prior: A run folder: no condition, a window of 4x4 tokens.
        classes: The same with the two classes.
        tokenizer_file: The run file of the tokenizer.
        prior_file: The run file of the prior without condition.
        classes_file: The run file of the prior with classes.
    """

    images: Path
    tokenizer: Path
    prior: Path
    classes: Path
    tokenizer_file: Path
    prior_file: Path
    classes_file: Path


@dataclass(frozen=True)
class Result:
    """What a command did.

    Attributes:
        code: Its exit code.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
    """

    code: int
    out: str
    err: str

    @property
    def paths(self) -> list[Path]:
        """The paths that it printed."""
        return [Path(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("sample", folder, "--out", out)``: a command in this process."""

    def call(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session", name="write_images")
def write_images_fixture() -> Callable[..., None]:
    """Writes striped noise images into a folder: ``write_images(folder, count=4, size=(16, 16), low=0)``."""
    return write_images


def write_images(folder: Path, *, count: int, size: tuple[int, int] = (16, 16), low: int = 0) -> None:
    """Stripes with noise, brighter with ``low``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(low)
    for number in range(count):
        pixels = draw.integers(low, low + 60, (*size, 3), np.uint8)
        pixels[number % size[0] :: 3] += 60
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Images, runs and run files; tests read them and write elsewhere."""
    root = tmp_path_factory.mktemp("trained")
    write_images(root / "images" / "dark", count=10)
    write_images(root / "images" / "light", count=10, low=120)
    files = {
        "tokenizer": TOKENIZER,
        "prior": PRIOR.replace("CONDITIONER", "unconditional"),
        "classes": PRIOR.replace("CONDITIONER", "class_label, num_classes: 2"),
    }
    for name, text in files.items():
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
        vqgan.train(
            root / f"{name}.yaml",
            data=root / "images",
            out=root / name,
            tokenizer=None if name == "tokenizer" else root / "tokenizer",
            device="cpu",
        )
    return Trained(
        images=root / "images",
        tokenizer=root / "tokenizer",
        prior=root / "prior",
        classes=root / "classes",
        tokenizer_file=root / "tokenizer.yaml",
        prior_file=root / "prior.yaml",
        classes_file=root / "classes.yaml",
    )


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """``published("vqmodel_tiny", "net2net_class")``: a checkpoint, and the configuration of that or another one."""

    def write(kind: str = "vqmodel_tiny", config: str | None = None) -> Path:
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        store.write_checkpoint(kind, folder / "last.ckpt")
        shutil.copy(store.ROOT / (config or kind) / "model.yaml", folder)
        return folder / "last.ckpt"

    return write
