"""Networks of Hugging Face that see depth, labels or people: found by name or in a folder, read at every pixel."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from vqgan.images import to_uint8
from vqgan.pretrained import open_pretrained, refusal
from vqgan.types import Images

ENLARGED = 1 << 26
"""Logits that are enlarged together, 256 MB; of large pictures few labels at a time."""

_TASKS = {
    "depth": ("MODEL_FOR_DEPTH_ESTIMATION_MAPPING",),
    "segmentation": ("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING"),
    "pose": ("MODEL_FOR_POSE_ESTIMATION_MAPPING",),
    "detector": ("MODEL_FOR_OBJECT_DETECTION_MAPPING",),
}
_DISTANCES = ("glpn", "zoedepth", "tipsv2_dpt")
"""Models of depth that give distances; so do those whose ``depth_estimation_type`` is metric."""


@dataclass(frozen=True)
class Network:
    """A network, as it was asked for, with what resizes and normalizes pictures for it."""

    name: str
    model: Any
    processor: Any

    @torch.no_grad()
    def __call__(self, image: Images) -> Any:
        """What it says of one picture (1 3 H W). Raises CheckpointError if it needs more than that."""
        picture, device = to_uint8(image)[0].cpu().numpy(), next(self.model.parameters()).device
        # Were the picture cut or padded, the result would not lie on it.
        whole = {"do_center_crop": False, "do_pad": False, "input_data_format": "channels_last"}
        inputs = {}
        if self.model.config.model_type == "vitpose":  # it gets one person, and asks its experts for COCO
            whole |= {"boxes": None, "do_affine_transform": False}
            inputs = {"dataset_index": torch.zeros(1, dtype=torch.int64, device=device)}
        try:
            pixels = self.processor(images=picture, return_tensors="pt", **whole)["pixel_values"]
            return self.model(pixel_values=pixels.to(device), **inputs)
        except (ValueError, TypeError, RuntimeError) as error:
            hint = "choose another model, or pictures of another size"
            raise refusal(self.name, "on a picture alone", error, hint) from error


def open_network(name: str, task: str, device: torch.device) -> Network:
    """A network for one of :data:`_TASKS`; what is opened and refused as by :func:`open_pretrained`."""

    def kinds_for(library: Any, config: Any) -> list[str]:
        kinds = (getattr(library, each).get(type(config), None) for each in _TASKS[task])
        return [kind.__name__ for kind in kinds if kind]

    model, processor, _ = open_pretrained(name, f"`{task}`", "extract", kinds_for)
    return Network(name, model.to(device), processor)


def inverse_depth(network: Network, image: Images) -> Float[Tensor, "1 1 H W"]:
    """Depth of one picture (1 3 H W) in [-1, 1], the nearest 1: inverse distance up to scale and shift, as of MiDaS."""
    depth, config = network(image).predicted_depth.float().cpu()[:, None], network.model.config
    if getattr(config, "depth_estimation_type", "") == "metric" or config.model_type in _DISTANCES:
        depth = 1 / depth.clamp(min=0.01)  # metres
    depth = F.interpolate(depth, size=image.shape[2:], mode="bicubic")
    low, high = depth.aminmax()
    return 2 * (depth - low) / (high - low).clamp(min=1e-8) - 1


def likeliest_labels(network: Network, image: Images) -> Int64[Tensor, "1 H W"]:
    """The network's label of each pixel of one picture (1 3 H W), from logits interpolated to its size.

    Of one that gives masks, each with probabilities of labels (Cheng et al. 2021), the sum over masks counts.
    """
    result, size = network(image), image.shape[2:]
    if "logits" in result:
        logits = result.logits
    else:
        shares, masks = result.class_queries_logits.softmax(dim=-1)[..., :-1], result.masks_queries_logits
        logits = torch.einsum("bqk,bqhw->bkhw", shares, masks.sigmoid())
    top = logits.new_full((1, *size), -torch.inf)
    found, step = torch.zeros_like(top, dtype=torch.int64), max(1, ENLARGED // size.numel())
    for number, part in enumerate(logits.split(step, dim=1)):
        values, labels = F.interpolate(part, size=size, mode="bilinear").max(dim=1)
        found, top = torch.where(values > top, labels + number * step, found), torch.maximum(values, top)
    return found.cpu()
