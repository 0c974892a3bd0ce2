"""Conditions of photographs: what steers a prior, found in a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vqgan.checkpoints.load import load, pick_device
from vqgan.conditioning import Edges, EdgesConfig, LowResolutionConfig, Palette, PaletteConfig
from vqgan.errors import ConfigError, closest, require
from vqgan.extraction.label_sets import numbers_of
from vqgan.extraction.networks import inverse_depth, likeliest_labels, open_network
from vqgan.extraction.poses import open_finder
from vqgan.images import Pose, draw_people, save_labels, save_png, to_float
from vqgan.images.writing import Info, save_picture
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import pad_to_multiple
from vqgan.types import Images, check_images

KINDS = ("depth", "segmentation", "pose", "edges", "low_resolution", "palette")

MODELS = {
    "depth": "depth-anything/Depth-Anything-V2-Small-hf",
    "coco-stuff": "facebook/maskformer-resnet101-coco-stuff",
    "s-flckr": "facebook/maskformer-resnet101-coco-stuff",
    "ade20k": "nvidia/segformer-b0-finetuned-ade-512-512",
    "pose": "usyd-community/vitpose-base-simple",
    "detector": "PekingU/rtdetr_r18vd_coco_o365",
}
"""On huggingface.co, where no other is named: for depth, each set of labels, poses, and people for these."""


@dataclass(frozen=True)
class Extractor:
    """Finds one kind of condition in pictures of so many channels, by models or by none (empty)."""

    kind: str
    model: str
    channels: int
    find: Callable[[Images], Tensor | Pose]

    def __call__(self, images: Images) -> Tensor:
        """The condition of pictures (b c H W), as :func:`extract` says."""
        check_images(images, self.channels)
        return torch.cat([_drawn(self.find(image)) for image in images.split(1)])

    def save(self, found: Tensor | Pose, path: Path, info: Info | None = None) -> Path:
        """Writes the condition of one picture as a PNG that training and sampling read as the same."""
        value = _drawn(found)
        if self.kind == "segmentation":
            return save_labels(value[0], path, info)
        if self.kind == "depth":
            steps = ((value[0, 0].double() + 1) * 32767.5).round().numpy().astype(np.uint16)
            return save_picture(Image.fromarray(steps), path, info)
        return save_png(value * 2.0 - 1 if self.kind == "edges" else value[0], path, info)


def extract(
    kind: str,
    images: Images,
    model: str | Path | None = None,
    labels: str | None = None,
    device: str = "auto",
    detector: str | Path | None = None,
) -> Tensor:
    """The condition of photographs, on the CPU; ``model.sample(condition={kind: value})`` takes it.

    Args:
        kind: What is found: ``depth`` (b 1 H W) in [-1, 1], the nearest 1, labels of ``segmentation`` (b H W), people
            drawn as ``pose`` (b 3 H W), all by models of transformers; ``edges`` (b H W), ``low_resolution`` (b c h w)
            or ``palette`` (b c H W).
        images: RGB (b 3 H W) with values in [-1, 1]; of a run, its channels.
        model: A folder of transformers or a name on huggingface.co, by default one of :data:`MODELS`; for ``edges`` and
            ``low_resolution`` a run of ours whose settings count, if any; for ``palette`` the run with the colours.
        labels: ``coco-stuff`` (0 to 182), as by default, ``ade20k`` (0 to 150), ``s-flckr`` (0 to 181) or ``own``.
        device: As :func:`load` takes it.
        detector: Of ``pose``, the model that finds the people, named as ``model`` is.

    Raises:
        ConfigError: If an argument or the size does not fit, or transformers is not installed.
        CheckpointError: If the model cannot be loaded, is for something else, or needs more than a picture.
    """
    return open_extractor(kind, model, labels, device, detector)(images)


def open_extractor(
    kind: str,
    model: str | Path | None = None,
    labels: str | None = None,
    device: str = "auto",
    detector: str | Path | None = None,
) -> Extractor:
    """What :func:`extract` calls, loaded once for many pictures; arguments and errors as there."""
    require(kind in KINDS, f"unknown condition `{kind}`", hint=closest(kind, KINDS))
    require(labels is None or kind == "segmentation", f"`{kind}` has no `labels=`", hint="omit it")
    require(detector is None or kind == "pose", f"`{kind}` has no `detector=`", hint="omit it")
    target = pick_device(device)  # before the weights are read
    if kind not in ("depth", "segmentation", "pose"):
        return _computed(kind, model)
    labels = labels or "coco-stuff"
    numbers_of((), labels)  # refused before anything is fetched
    name = str(model or MODELS.get(labels if kind == "segmentation" else kind, ""))
    require(name != "", f"`labels=` is `{labels}`, but there is no model", hint="name one with `model=`")
    if kind == "pose":
        other = str(detector or MODELS["detector"])
        return Extractor(kind, f"{name} {other}", 3, open_finder(name, other, target))
    network = open_network(name, kind, target)
    if kind == "depth":
        return Extractor(kind, name, 3, lambda image: inverse_depth(network, image))
    names: dict[int, str] = network.model.config.id2label
    numbers = torch.tensor(numbers_of([names[number] for number in sorted(names)], labels))
    return Extractor(kind, name, 3, lambda image: numbers[likeliest_labels(network, image)])


def _drawn(found: Tensor | Pose) -> Tensor:
    """People as sampling takes them."""
    return to_float(draw_people(found.people, found.size))[None] if isinstance(found, Pose) else found


def _computed(kind: str, model: str | Path | None) -> Extractor:
    """Edges, low resolution and palette, as the conditioner of a run has them; on the CPU."""
    configs: dict[str, Any] = {"edges": EdgesConfig(), "low_resolution": LowResolutionConfig()}
    channels, side, what = 3, 1, f"`{kind}` is that of a run"
    if model is not None:
        run, what, configs = load(model, device="cpu"), f"`{model}` is not steered by `{kind}`", {}
        if isinstance(run, Synthesizer):
            configs = {part.name: part.config for part in run.conditioner.parts}
            channels, side = run.tokenizer.image_channels, run.tokenizer.downsample_factor
    config = configs.get(kind)
    if not isinstance(config, EdgesConfig | LowResolutionConfig | PaletteConfig):
        raise ConfigError(what, hint=f"name a run with `{kind}`: `model=`")

    def find(image: Images) -> Tensor:
        if isinstance(config, EdgesConfig):
            return Edges(config).from_images(image)[kind]
        if isinstance(config, LowResolutionConfig):
            height, width = (max(1, length // config.factor) for length in image.shape[2:])
            return F.adaptive_avg_pool2d(image, (height, width))
        # Each cell in its colour: such a picture has the labels of the photograph.
        whole, (height, width) = pad_to_multiple(image, side)
        rows, columns = whole.shape[2] // side, whole.shape[3] // side
        tokens = Palette(config).tokens({kind: whole}, 1, (rows, columns))
        cells = torch.tensor(config.colours)[tokens].view(1, rows, columns, channels).movedim(-1, 1)
        return F.interpolate(cells / 127.5 - 1, scale_factor=side)[..., :height, :width]

    return Extractor(kind, str(model or ""), channels, find)
