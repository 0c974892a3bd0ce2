"""The published models: what they are, what was published about them, and where they lie.

Addresses, FID and sizes are those of the publishers' own pages: the README of CompVis/taming-transformers, its
notebooks and configurations, the README of CompVis/latent-diffusion and its script ``download_first_stages.sh``,
and the README of FoundationVision/LlamaGen. heibox serves the file of a page ``/f/...`` when ``?dl=1`` is
appended. The sizes of 958, 980 and 376 MB and of 8.4 GB are those that VQGAN-CLIP's download script notes. Nobody
has published checksums; those here are of configurations at a fixed commit.

Left out: latent-diffusion's ``vq-f4-noattn``, whose encoder has no attention in its middle, and the distilled
Open Images model of 125 M parameters, whose configuration was never published.
"""

from dataclasses import dataclass
from typing import Literal

from vqgan.errors import ConfigError, closest

NOT_STATED = "not stated"

_HEIBOX = "https://heibox.uni-heidelberg.de"
_OMMER = "https://ommer-lab.com/files/latent-diffusion"
_LATENT_DIFFUSION = "https://github.com/CompVis/latent-diffusion"
_RAW = "https://raw.githubusercontent.com/CompVis/latent-diffusion/a506df5756472e2ebaf9078affdde2c4f1502cd4"
_LLAMAGEN = "https://huggingface.co/FoundationVision/LlamaGen"
_LLAMAGEN_TEXT = "https://huggingface.co/peizesun/llamagen_t2i"
_SFLCKR = f"{_HEIBOX}/d/73487ab6e5314cb5adba"
_DRIVE = "https://drive.google.com/file/d"


@dataclass(frozen=True)
class Source:
    """Where a published model lies.

    Attributes:
        page: Where a person finds it.
        checkpoint: Address of the file, or of a zip archive that holds it; empty if one plain request cannot get it.
        config: Address of its YAML file; empty where none is published alone.
        size: Bytes of the checkpoint's download, 0 if not known.
        licence: Of the weights.
        checkpoint_sha256: Checksum of the checkpoint's download, empty if not known.
        config_sha256: Checksum of the YAML file, empty if not known.
    """

    page: str
    checkpoint: str = ""
    config: str = ""
    size: int = 0
    licence: str = NOT_STATED
    checkpoint_sha256: str = ""
    config_sha256: str = ""


@dataclass(frozen=True)
class Entry:
    """One published model.

    Attributes:
        name: What its publishers call it.
        holds: A tokenizer, or a synthesizer (a prior with its tokenizer).
        factor: Pixels per token side.
        codes: Size of the codebook.
        parameters: Of all networks that are kept, a condition's tokenizer included.
        data: What it was trained on.
        fid: As published, and against which images; rFID for reconstructions. Empty if not published.
        source: Where it lies.
    """

    name: str
    holds: Literal["tokenizer", "synthesizer"]
    factor: int
    codes: int
    parameters: int
    data: str
    fid: str
    source: Source


def _heibox(page: str, checkpoint: str, config: str = "", size: int = 0) -> Source:
    """Files of the University of Heidelberg's server, by the numbers in their addresses."""
    file, described = (f"{_HEIBOX}/f/{number}/?dl=1" if number else "" for number in (checkpoint, config))
    return Source(f"{_HEIBOX}/{page}/", file, described, size)


def _latent_diffusion(name: str, config_sha256: str) -> Source:
    config = f"{_RAW}/models/first_stage_models/{name}/config.yaml"
    return Source(_LATENT_DIFFUSION, f"{_OMMER}/{name}.zip", config, config_sha256=config_sha256)


_SOURCES = {
    "vqgan_imagenet_f16_1024": _heibox(
        "d/8088892a516d4e3baf92", "140747ba53464f49b476", "6ecf2af6c658432c8298", 958_000_000
    ),
    "vqgan_imagenet_f16_16384": _heibox(
        "d/a7530b09fed84f80a887", "867b05fc8c4841768640", "274fb24ed38341bfa753", 980_000_000
    ),
    "vqgan_gumbel_f8": _heibox(
        "d/2e5662443a6b4307b470", "34a747d5765840b5a99d", "b24d14998a8d4f19a34f", 376_000_000
    ),
    "imagenet_vqgan": Source("https://k00.fr/u0j2dtac"),
    "imagenetdepth_vqgan": Source("https://k00.fr/55rlxs6i"),
    "faceshq_vqgan": Source("https://k00.fr/uxy5usa9"),
    "coco_8k_vqgan": _heibox("f/78dea9589974474c97c1", "78dea9589974474c97c1"),
    "coco_oi_8k_vqgan": _heibox("f/461d9a9f4fcf48ab84f4", "461d9a9f4fcf48ab84f4"),
    "vq-f4": _latent_diffusion("vq-f4", "56debf47c0afc61b90dd9ef6a8b8e34f95598f377b223efd77ae300e4f10a316"),
    "vq-f8": _latent_diffusion("vq-f8", "49c949bf31fadf3a1ea1a5ad8c7a69e57ccf176ec8d578bac4122bf4f587a5e6"),
    "vq-f8-n256": _latent_diffusion(
        "vq-f8-n256", "3ca2b27b9b15b9653299d19e15af04db357ffc4d5045a6af31d0849a5b872d42"
    ),
    "vq-f16": _latent_diffusion("vq-f16", "efe6f16825cc9bc84dce52d730fa251c6d1a83cceb27c706dc34dfdedc113eb0"),
    "vq_ds16_c2i": Source(_LLAMAGEN, f"{_LLAMAGEN}/resolve/main/vq_ds16_c2i.pt", licence="MIT"),
    "vq_ds8_c2i": Source(_LLAMAGEN, f"{_LLAMAGEN}/resolve/main/vq_ds8_c2i.pt", licence="MIT"),
    "vq_ds16_t2i": Source(_LLAMAGEN_TEXT, f"{_LLAMAGEN_TEXT}/resolve/main/vq_ds16_t2i.pt"),
    "sflckr": Source(
        f"{_SFLCKR}/",
        f"{_SFLCKR}/files/?p=%2Fcheckpoints%2Flast.ckpt&dl=1",
        f"{_SFLCKR}/files/?p=%2Fconfigs%2F2020-11-09T13-31-51-project.yaml&dl=1",
        size=4_263_525_412,
    ),
    "faceshq_transformer": Source("https://k00.fr/qqfl2do8"),
    "drin_transformer": Source("https://k00.fr/39jcugc5"),
    "coco_transformer": Source("https://k00.fr/2zz6i2ce", size=8_400_000_000),
    "ade20k_transformer": Source("https://k00.fr/ot46cksa"),
    "ffhq_transformer": Source("https://k00.fr/yndvfu95"),
    "celebahq_transformer": Source("https://k00.fr/2xkmielf"),
    "cin_transformer": Source("https://k00.fr/s511rwcv"),
    "coco_scene_30": Source(f"{_HEIBOX}/f/0d0b2594e9074c7e9a33/"),
    "coco_scene_60": Source(f"{_DRIVE}/1bInd49g2YulTJBjU32Awyt5qnzxxG5U9/"),
    "open_images_scene": Source(f"{_DRIVE}/1FEK-Z7hyWJBvFWQF50pzSK9y1W_CJEig/view?usp=sharing"),
}

_Row = tuple[str, int, int, int, str, str]

_TOKENIZERS: tuple[_Row, ...] = (
    ("vqgan_imagenet_f16_1024", 16, 1024, 72_141_699, "ImageNet", "rFID 7.94 val, 10.54 train"),
    ("vqgan_imagenet_f16_16384", 16, 16384, 76_073_859, "ImageNet", "rFID 4.98 val, 7.41 train"),
    ("vqgan_gumbel_f8", 8, 8192, 68_995_971, "Open Images", "rFID 1.49 val, 3.24 train"),
    ("imagenet_vqgan", 16, 1024, 72_141_699, "ImageNet", ""),
    ("imagenetdepth_vqgan", 16, 1024, 72_137_089, "ImageNet (depth)", ""),
    ("faceshq_vqgan", 16, 1024, 72_141_699, "FacesHQ", ""),
    ("coco_8k_vqgan", 16, 8192, 73_976_707, "COCO", ""),
    ("coco_oi_8k_vqgan", 16, 8192, 73_976_707, "COCO, Open Images", ""),
    ("vq-f4", 4, 8192, 55_322_782, "Open Images", "rFID 0.58 val"),
    ("vq-f8", 8, 16384, 67_717_295, "Open Images", "rFID 1.14 val"),
    ("vq-f8-n256", 8, 256, 67_652_783, "Open Images", "rFID 1.49 val"),
    ("vq-f16", 16, 16384, 69_593_371, "Open Images", "rFID 5.15 val"),
    ("vq_ds16_c2i", 16, 16384, 71_883_403, "ImageNet", "rFID 2.19 val"),
    ("vq_ds8_c2i", 8, 16384, 70_109_835, "ImageNet", "rFID 0.59 val"),
    ("vq_ds16_t2i", 16, 16384, 71_883_403, "LAION COCO and others", ""),
)

_SYNTHESIZERS: tuple[_Row, ...] = (
    ("sflckr", 16, 1024, 449_628_857, "S-FLCKR (segmentation)", ""),
    ("faceshq_transformer", 16, 1024, 377_074_563, "FacesHQ (coordinates)", ""),
    ("drin_transformer", 16, 1024, 449_211_652, "D-RIN (depth)", ""),
    ("coco_transformer", 16, 8192, 797_840_826, "COCO-Stuff (segmentation)", "20.4 val"),
    ("ade20k_transformer", 16, 4096, 507_020_186, "ADE20K (segmentation)", "35.5 val"),
    ("ffhq_transformer", 16, 1024, 873_940_099, "FFHQ", "9.6 train"),
    ("celebahq_transformer", 16, 1024, 873_940_099, "CelebA-HQ", "10.2 train"),
    ("cin_transformer", 16, 16384, 1_486_714_755, "ImageNet (class)", "15.78 train, 5.20 with rejection"),
    ("coco_scene_30", 16, 8192, 1_049_853_059, "COCO (boxes), 30 epochs", ""),
    ("coco_scene_60", 16, 8192, 1_049_853_059, "COCO (boxes), 60 epochs", ""),
    ("open_images_scene", 16, 8192, 1_119_614_851, "Open Images (boxes)", "41.48"),
)


def _entries(holds: Literal["tokenizer", "synthesizer"], rows: tuple[_Row, ...]) -> dict[str, Entry]:
    return {
        name: Entry(name, holds, factor, codes, parameters, data, fid, _SOURCES[name])
        for name, factor, codes, parameters, data, fid in rows
    }


ENTRIES = _entries("tokenizer", _TOKENIZERS) | _entries("synthesizer", _SYNTHESIZERS)
"""The published models by name."""


def find_entry(name: str) -> Entry:
    """The published model of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in ENTRIES:
        raise ConfigError(f"`{name}` is no published model that is known", hint=closest(name, ENTRIES))
    return ENTRIES[name]
