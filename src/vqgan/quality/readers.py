"""What reads a condition out of pictures: itself where it is computed from them, else a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vqgan.conditioning import ClassLabel, Conditioner, Edges, LowResolution, Palette, Text, TokenizedImage
from vqgan.errors import ConfigError, require
from vqgan.evaluation.agreement import depth_difference, edge_agreement, label_agreement, picture_psnr
from vqgan.evaluation.features import FeatureNetwork, open_features
from vqgan.evaluation.fidelity import Pictures
from vqgan.evaluation.numbers import PerPicture
from vqgan.extraction import open_extractor
from vqgan.extraction.label_sets import set_with
from vqgan.images import to_float
from vqgan.imagine import TextImageJudge, open_judge
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.types import ACTION, Images

Agree = Callable[[Tensor, Tensor], PerPicture]
"""How far what is asked for, and what is found, agree in each picture."""

ROUNDING = 1e-5
"""Similarities of the same text that differ by less are equal."""

_BLACK = -0.9
"""Around people a drawing is darker."""

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Reader:
    """Finds in pictures what a condition asks for.

    Attributes:
        measure: The name of the number that says how far both agree.
        says: What it is.
        find: What a batch of pictures shows.
        agree: How far the two agree.
        ask: What a condition's values ask for, in the form of what is found.
    """

    measure: str
    says: str
    find: Callable[[Images], Tensor]
    agree: Agree
    ask: Callable[[Any], Tensor]

    @torch.no_grad()
    def read(self, pictures: Pictures) -> Tensor:
        """What pictures of 8 bits show, in batches."""
        starts = range(0, len(pictures), _BATCH_SIZE)
        return torch.cat([self.find(to_float(pictures[each : each + _BATCH_SIZE])).cpu() for each in starts])


def reader_of(part: Conditioner, factor: int) -> Reader | None:
    """The reader of a condition that pictures themselves give; None for others.

    Args:
        part: The condition.
        factor: Pixels per cell, along each side.
    """
    name = part.name
    if isinstance(part, Edges):

        def edges(value: Tensor) -> Tensor:
            return value.bool() if value.ndim == 3 else part.from_images(value)[name]  # maps are read already

        return Reader("f1", "F1 of the edges, right within one pixel", edges, edge_agreement, edges)
    if isinstance(part, Palette):
        colours = part.config.vocabulary_size

        def labels(images: Images) -> Tensor:
            grid = images.shape[2] // factor, images.shape[3] // factor
            return part.tokens({name: images}, len(images), grid)

        return Reader("miou", "mean IoU of the cells' colours", labels, _labels_agree(colours), labels)
    if isinstance(part, LowResolution):
        smaller = part.config.factor

        def copies(images: Images) -> Tensor:
            height, width = (max(1, side // smaller) for side in images.shape[2:])
            return F.adaptive_avg_pool2d(images, (height, width))

        return Reader("psnr", "of the small copies; equal ones have 100", copies, picture_psnr, copies)
    return None


def _labels_agree(count: int) -> Agree:
    return lambda asked, found: label_agreement(asked.flatten(1), found.flatten(1), count)


def open_readers(
    model: Synthesizer | Tokenizer, network: FeatureNetwork, judges: Mapping[str, str], size: tuple[int, int]
) -> tuple[dict[str, Reader], list[str]]:
    """The readers of a model's conditions by name, and what to tell a user of those that nothing reads.

    Args:
        model: The model.
        network: By whose features images are compared; it reads classes, if it knows them.
        judges: What else reads a condition, by its name: the run of a classifier for classes, a text-image model for
            texts, a network of transformers for depth, segmentation and pose (empty: the usual one), for pose with a
            comma and that which finds people.
        size: Height and width of images. One is read, so that what does not fit is refused at once.

    Raises:
        ConfigError: If a judge is for no condition, or does not know its values.
        CheckpointError: If it cannot be read.
    """
    conditions = model.conditioner.parts if isinstance(model, Synthesizer) else ()
    parts = {part.name: part for part in conditions if part.needs_value}
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    for name in judges:
        what = f"there is a judge of `{name}`, which is no condition of this model"
        own = ", ".join(f"`{each}`" for each in parts) or "none"
        require(name in parts, what, hint=f"its conditions: {own}")
    found, notes = dict[str, Reader](), list[str]()
    reader: Reader | None
    for name, part in parts.items():
        if name in judges:
            reader = _judged(part, judges[name], tokenizer)
        elif isinstance(part, ClassLabel) and name != ACTION:
            reader = _class_reader(part, network)
        else:
            reader = reader_of(part, tokenizer.downsample_factor)
        if reader is None:
            judge = f"name a judge of it: `--judge {name}=MODEL`"
            how = judge if _has_judges(part) else "nothing reads it in images"
            notes.append(f"Whether images show the condition `{name}` is not measured: {how}.")
        else:
            reader.read(np.zeros((1, *size, tokenizer.image_channels), np.uint8))
            found[name] = reader
    return found, notes


def _has_judges(part: Conditioner) -> bool:
    is_map = isinstance(part, TokenizedImage) and part.name in ("depth", "segmentation", "pose")
    return is_map or isinstance(part, ClassLabel | Text)


def _class_reader(part: ClassLabel, network: FeatureNetwork) -> Reader | None:
    """By a network that knows all classes by their names; where one side has none, as many of them."""
    own, known, scores = part.config.class_names, network.class_names, network.scores
    if scores is None:
        return None
    has_names = own and known != tuple(map(str, range(len(known))))
    if own and {*own} <= {*known}:
        numbers = torch.tensor([known.index(each) for each in own])
    elif not has_names and part.config.vocabulary_size == len(known):
        numbers = torch.arange(len(known))
    else:
        return None
    return Reader(
        "share",
        f"as {network.name} reads it",
        lambda images: scores(network.features(images)).argmax(dim=1),
        lambda asked, found: (asked == found).double().numpy(),
        lambda classes: numbers[part.tokens({part.name: classes}, len(classes), (1, 1))[:, 0]],
    )


def _judged(part: Conditioner, given: str, tokenizer: Tokenizer) -> Reader:
    """By a network that was named."""
    name, device = part.name, str(tokenizer.weight.device)
    require(_has_judges(part), f"no judge reads the condition `{name}`", hint="omit it")
    if isinstance(part, TokenizedImage):
        return _map_reader(part, given, device)
    require(given != "", f"the judge of `{name}` has no name", hint=f"write `--judge {name}=MODEL`")
    if isinstance(part, Text):
        return _text_reader(open_judge(given, device))
    assert isinstance(part, ClassLabel), "all others are named above"
    reader = _class_reader(part, open_features(given, tokenizer))
    what = f"`{given}` does not know the classes of `{name}`"
    hint = "train a classifier on images of the same classes: `vqgan train classifier`"
    if reader is None:
        raise ConfigError(what, hint=hint)
    return reader


def _text_reader(judge: TextImageJudge) -> Reader:
    """The text of an image is the most similar one among those of all images; equal texts are as right."""

    def see(images: Images) -> Tensor:
        return judge.embed_images(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)

    def agree(asked: Tensor, found: Tensor) -> PerPicture:
        best = (found @ asked.T).amax(dim=1)
        return ((found * asked).sum(dim=1) >= best - ROUNDING).double().numpy()

    says = "the text is the most similar one of those asked for"
    return Reader("share", says, see, agree, lambda texts: judge.embed_text(texts).cpu())


def _map_reader(part: TokenizedImage, given: str, device: str) -> Reader:
    """Depth, labels and poses by networks, as `vqgan extract` reads them."""
    kind, count = part.name, part.encoder.image_channels
    labels = set_with(count) if kind == "segmentation" else None
    model, _, detector = given.partition(",")
    find = open_extractor(kind, model or None, labels, device, detector or None)
    if kind == "depth":
        says = "mean difference of depths, as a share of their range; less is better"
        return Reader("error", says, find, depth_difference, lambda maps: maps.mean(dim=1, keepdim=True))
    if kind == "pose":

        def limbs(drawn: Tensor) -> Tensor:
            return (drawn > _BLACK).any(dim=1)

        says = "F1 of the pixels of drawn people, right within one pixel"
        return Reader("f1", says, lambda images: limbs(find(images)), edge_agreement, limbs)

    def known(images: Images) -> Tensor:
        found = find(images)
        what = f"`{given}` finds labels from 0 to {int(found.max())}, the tokenizer of `{kind}` has {count}"
        require(int(found.max()) < count, what, hint="name a network of the same labels")
        return found

    def maps(labels: Tensor) -> Tensor:
        return labels if labels.ndim == 3 else labels.argmax(dim=1)

    return Reader("miou", "mean IoU of the labels of each image", known, _labels_agree(count), maps)
