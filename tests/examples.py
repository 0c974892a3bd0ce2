"""A small valid configuration of every member of the unions; the contract tests build each.

A member that is missing here fails them: add a line with it.
"""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import miniatures
from vqgan.conditioning import (
    ClassLabelConfig,
    CoordinatesConfig,
    EdgesConfig,
    LowResolutionConfig,
    PaletteConfig,
    SceneLayoutConfig,
    SeveralConfig,
    TextConfig,
    TokenizedImageConfig,
    UnconditionalConfig,
)
from vqgan.data import (
    AtariConfig,
    DatasetConfig,
    DigitsConfig,
    FolderConfig,
    GrandChallengeConfig,
    HubConfig,
    IdxConfig,
    ListConfig,
    SampleConfig,
    ShardsConfig,
)
from vqgan.images import save_png, to_float
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig
from vqgan.tokenizer.quantizers import GumbelQuantizerConfig, SimQuantizerConfig

DEPTH_TOKENIZER = TokenizerConfig(
    autoencoder=AutoencoderConfig(
        image_channels=1,
        base_channels=64,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        latent_channels=4,
        resolution=8,
        attention_resolutions=(),
        patch_size=2,
    ),
    quantizer=VectorQuantizerConfig(codebook_size=8, codebook_dim=4),
)
"""Pictures of one channel, two pixels for each side of a token."""


def write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an array as an IDX file; gzipped if the path ends in ``.gz``."""
    data = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _idx(folder: Path) -> IdxConfig:
    """Twelve noise images for training and four held out, of three classes."""
    for part, count in (("train", 12), ("t10k", 4)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", _noise(count, 6, 7))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 3)
    return IdxConfig(path=str(folder))


def _folder(folder: Path) -> FolderConfig:
    """Two classes of four noise images."""
    for number, image in enumerate(to_float(_noise(8, 10, 12, 3))):
        save_png(image, folder / "pictures" / f"class {number % 2}" / f"{number}.png")
    return FolderConfig(path=str(folder / "pictures"))


def _list(folder: Path) -> ListConfig:
    """The eight images of the folder, with their classes."""
    _folder(folder)
    lines = [f"pictures/class {number % 2}/{number}.png\tclass {number % 2}" for number in range(8)]
    (folder / "list.txt").write_text("\n".join(["# path, class", "", *lines, ""]), encoding="utf-8")
    return ListConfig(path=str(folder / "list.txt"))


def _shards(folder: Path) -> ShardsConfig:
    """Two shards of four noise images, of two classes."""
    for shard in range(2):
        samples = {
            f"{shard}/{number}": {"png": miniatures.encoded(image), "cls": f"class {number % 2}".encode()}
            for number, image in enumerate(_noise(8, 10, 12, 3)[4 * shard : 4 * shard + 4])
        }
        miniatures.shard(folder / f"noise-{shard:03}.tar", samples)
    return ShardsConfig(path=f"{folder}/noise-{{000..001}}.tar")


def _hub(folder: Path) -> HubConfig:
    """Nine noise images of three classes, and three held out."""
    miniatures.hub(folder / "hub", {"train": _noise(9, 6, 7, 3), "test": _noise(3, 6, 7, 3)})
    return HubConfig(path=str(folder / "hub"))


def _noise(*shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(0)).integers(0, 256, shape, np.uint8)


EXAMPLES: dict[type, Callable[[Path], Any]] = {
    VectorQuantizerConfig: lambda folder: VectorQuantizerConfig(codebook_size=16, codebook_dim=4),
    SimQuantizerConfig: lambda folder: SimQuantizerConfig(codebook_size=16, codebook_dim=4),
    GumbelQuantizerConfig: lambda folder: GumbelQuantizerConfig(codebook_size=16, codebook_dim=4),
    UnconditionalConfig: lambda folder: UnconditionalConfig(),
    ClassLabelConfig: lambda folder: ClassLabelConfig(num_classes=3, class_names=("cat", "dog", "fox")),
    CoordinatesConfig: lambda folder: CoordinatesConfig(num_values=8, downsample_factor=2),
    EdgesConfig: lambda folder: EdgesConfig(),
    LowResolutionConfig: lambda folder: LowResolutionConfig(codebook_size=8),
    PaletteConfig: lambda folder: PaletteConfig(colours=((0, 0, 0), (255, 0, 0), (255, 255, 255))),
    TokenizedImageConfig: lambda folder: TokenizedImageConfig(codebook_size=8, tokenizer=DEPTH_TOKENIZER),
    SceneLayoutConfig: lambda folder: SceneLayoutConfig(
        num_classes=3,
        max_objects=2,
        vocabulary_size=16,
        encode_crop=True,
        use_group=True,
        use_additional=False,
    ),
    TextConfig: lambda folder: TextConfig(max_tokens=5, merges="Ġ c Ġc a"),
    SeveralConfig: lambda folder: SeveralConfig(
        conditioners=(
            ClassLabelConfig(num_classes=3),
            TokenizedImageConfig(codebook_size=8, tokenizer=DEPTH_TOKENIZER),
        )
    ),
    IdxConfig: _idx,
    FolderConfig: _folder,
    ListConfig: _list,
    DatasetConfig: lambda folder: DatasetConfig(name="faceshq", path=str(miniatures.faceshq(folder))),
    ShardsConfig: _shards,
    HubConfig: _hub,
    DigitsConfig: lambda folder: DigitsConfig(),
    SampleConfig: lambda folder: SampleConfig(names=("grass", "flower")),
    GrandChallengeConfig: lambda folder: GrandChallengeConfig(
        path=str(miniatures.grand_challenge(folder / "agc", games={"pinball": [41, 41], "qbert": [41]}))
    ),
    AtariConfig: lambda folder: AtariConfig(games=("MontezumaRevenge",), frames=400, max_frames=20),
}
"""By class; what a source reads may be written into the folder."""


def example(kind: type, folder: Path) -> Any:
    """The example of one class."""
    return EXAMPLES[kind](folder)
