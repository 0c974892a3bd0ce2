"""Networks of Hugging Face that see depth or labels: found by name or in a folder, and read at every pixel."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from vqgan.errors import CheckpointError, ConfigError, printable
from vqgan.images import to_uint8
from vqgan.types import Images

ENLARGED = 1 << 26
"""Logits that are enlarged together, 256 MB; of large pictures few labels at a time."""

_TASKS = {
    "depth": ("MODEL_FOR_DEPTH_ESTIMATION_MAPPING",),
    "segmentation": ("MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING", "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING"),
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
        try:
            pixels = self.processor(images=picture, return_tensors="pt", **whole)["pixel_values"]
            return self.model(pixel_values=pixels.to(device))
        except (ValueError, TypeError, RuntimeError) as error:
            hint = "choose another model, or smaller pictures"
            raise _refusal(self.name, "on a picture alone", error, hint) from error


def open_network(name: str, task: str, device: torch.device) -> Network:
    """A network for ``depth`` or ``segmentation`` in fp32, of a folder or a name on huggingface.co.

    It is fetched into Hugging Face's cache. Weights come from safetensors alone, and no code beside them is run.

    Raises:
        ConfigError: If transformers is not installed.
        CheckpointError: If there is no such model, or it is for another task.
    """
    try:
        import transformers
    except ImportError:
        message, hint = f"`{task}` needs transformers, which is not installed", 'pip install "vqgan[extract]"'
        raise ConfigError(message, hint=f"install the extra `extract`: {hint}") from None
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        kinds = [getattr(transformers, each).get(type(config), None) for each in _TASKS[task]]
        kind = next((each for each in kinds if each and each.__name__ in (config.architectures or ())), None)
        if kind is None:
            raise ValueError(f"it is a {' and '.join(config.architectures or ['model without a task'])}")
        processor = transformers.AutoImageProcessor.from_pretrained(
            name, backend="pil", trust_remote_code=False
        )
        model = kind.from_pretrained(name, config=config, dtype=torch.float32, use_safetensors=True)
    except Exception as error:  # of many kinds: no file, a damaged one, no network, a package that is missing
        hint = "name a model on huggingface.co or a folder: config.json, preprocessor_config.json, model.safetensors"
        raise _refusal(name, f"for `{task}`", error, hint) from error
    return Network(name, model.eval().to(device), processor)


def _refusal(name: str, where: str, error: Exception, hint: str) -> CheckpointError:
    reason = printable((str(error).strip() or type(error).__name__).splitlines()[0])
    return CheckpointError(f"`{printable(name)}` cannot be used {where}: {reason}", hint=hint)


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
