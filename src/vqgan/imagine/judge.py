"""How well pictures fit texts, with gradients: CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023) and SigLIP 2."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqgan.checkpoints.load import pick_device
from vqgan.errors import printable, require
from vqgan.pretrained import open_pretrained
from vqgan.sampling.judge import Judge
from vqgan.types import Images, check_images, describe

logger = logging.getLogger(__name__)

KINDS = ("CLIPModel", "SiglipModel", "Siglip2Model")

KEPT = 4096  # texts


class TextImageJudge:
    """A frozen text-image model of transformers; :func:`open_judge` opens one.

    Results lie on the model's device. Gradients flow to the images, none to the weights.

    Args:
        model: One of :data:`KINDS`.
        processor: Its image processor, of which the mean, the standard deviation and the kind of resizing are taken.
        tokenizer: Its tokenizer.
        batch_size: How many images or texts pass at once. If there are more images, with gradients, those that passed
            pass again in the backward pass, so that memory is that of one batch.
    """

    def __init__(self, model: Any, processor: Any, *, tokenizer: Any, batch_size: int = 64) -> None:
        require(batch_size >= 1, f"`batch_size` is {batch_size}, expected at least 1")
        self.model, self.tokenizer = model.requires_grad_(False).eval(), tokenizer
        self.batch_size = batch_size
        text, vision = model.config.text_config, model.config.vision_config
        self.length = min(tokenizer.model_max_length, text.max_position_embeddings)
        self._crop = bool(getattr(processor, "do_center_crop", False))
        self._mode = "bilinear" if processor.resample == 2 else "bicubic"  # Pillow's number
        self._mean, self._std = torch.tensor([processor.image_mean, processor.image_std])[..., None, None]
        self._side: int = getattr(vision, "image_size", 0)  # 0: any number of patches
        self._patch, self._patches = vision.patch_size, getattr(processor, "max_num_patches", 0)
        self._known: dict[str, Tensor] = {}

    @property
    def side(self) -> int:
        """Side of the squares that it sees as they are."""
        return self._side or math.isqrt(self._patches) * self._patch

    @property
    def bytes_per_image(self) -> int:
        """About what one square takes from here to the end of the backward pass."""
        vision, element = self.model.config.vision_config, self.model.logit_scale.element_size()
        places = (self.side // self._patch) ** 2 + 1
        layer = (
            16 * vision.hidden_size + 3 * vision.intermediate_size + 3 * vision.num_attention_heads * places
        )
        return element * (vision.num_hidden_layers * places * layer + 40 * self.side**2)

    def similarity(self, images: Images, texts: Sequence[str]) -> Float[Tensor, "b n"]:
        """The cosine of the angle between each image and each text; arguments and errors as of both embeddings."""
        return self.embed_images(images) @ self.embed_text(texts).T

    def logits(self, images: Images, texts: Sequence[str]) -> Float[Tensor, "b n"]:
        """The similarity with the model's own scale and bias: for CLIP before softmax, for SigLIP before sigmoid."""
        bias = getattr(self.model, "logit_bias", 0.0)
        return self.similarity(images, texts) * self.model.logit_scale.exp() + bias

    def by(self, texts: Sequence[str]) -> Judge:
        """A judge for :func:`vqgan.keep_best` and :class:`vqgan.Beam`: the mean similarity with these texts.

        It sees images as they are written: values beyond [-1, 1] are clamped, and grey becomes RGB. Errors as of both.
        """
        self.embed_text(texts)  # refused now, not when something is drawn

        def judge(images: Images) -> Float[Tensor, " b"]:
            colours = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
            return self.similarity(colours.clamp(-1, 1), texts).mean(dim=1)

        return judge

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embeddings of length 1, without gradients; those of the last 4096 texts are kept.

        A text that is too long is cut, and a warning shows what was cut. Raises ConfigError if there is no text.
        """
        are_texts = not isinstance(texts, str) and all(isinstance(text, str) for text in texts)
        what = f"`texts` is {describe(texts)}, expected a list of at least one text"
        require(are_texts and len(texts) > 0, what, hint='write `["a red car"]`')
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        # What is kept may be needed for gradients later, wherever this is called.
        with torch.inference_mode(False), torch.no_grad():
            for start in range(0, len(new), self.batch_size):
                part = new[start : start + self.batch_size]
                self._known.update(zip(part, self._read(part), strict=True))
        found = torch.stack([self._known[text] for text in texts])
        for text in list(self._known)[:-KEPT]:
            del self._known[text]
        return found

    def embed_images(self, images: Images) -> Float[Tensor, "b d"]:
        """Embeddings of length 1 of RGB images in [-1, 1] of any size.

        They are resized as the model's own processor does, with antialiasing and unrounded: CLIP sees the central
        square, SigLIP the whole image as a square, SigLIP 2 the whole image in its proportions.
        Raises ConfigError if these are not images of three channels.
        """
        check_images(images, 3)
        parts = images.split(self.batch_size)
        if len(parts) > 1 and torch.is_grad_enabled() and images.requires_grad:
            return torch.cat([checkpoint(self._see, part, use_reentrant=False) for part in parts])
        return torch.cat([self._see(part) for part in parts])

    def _read(self, texts: list[str]) -> Float[Tensor, "n d"]:
        texts = [text.encode(errors="replace").decode() for text in texts]
        room = self.length - self.tokenizer.num_special_tokens_to_add()
        whole = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for text, tokens in zip(texts, whole, strict=True):
            if len(tokens) > room:
                lost = printable(self.tokenizer.decode(tokens[room:]))
                message = "of `%s` the model reads %d of %d tokens, this is cut: `%s`"
                logger.warning(message, printable(text), room, len(tokens), lost)
        # Padded to the full length, without a mask: so SigLIP was trained, and CLIP does not look behind the end.
        full = {"padding": "max_length", "truncation": True, "max_length": self.length}
        tokens = self.tokenizer(texts, return_tensors="pt", **full)["input_ids"]
        found = self.model.get_text_features(input_ids=tokens.to(self.model.logit_scale.device))
        return F.normalize(found.pooler_output, dim=-1)

    def _see(self, images: Images) -> Float[Tensor, "b d"]:
        images = images.to(self.model.logit_scale)  # its device and type
        height, width = images.shape[2:]
        if self._crop:
            side = min(height, width)
            images = images[:, :, (height - side) // 2 :, (width - side) // 2 :][:, :, :side, :side]
        size = (self._side, self._side) if self._side else self._fitting(height, width)
        if images.shape[2:] != size:
            images = F.interpolate(images, size=size, mode=self._mode, antialias=True)
        pixels = ((images + 1) / 2 - self._mean.to(images)) / self._std.to(images)
        inputs = {"pixel_values": pixels}
        if not self._side:
            grid = tuple(side // self._patch for side in size)
            patches = pixels.unflatten(2, (grid[0], self._patch)).unflatten(4, (grid[1], self._patch))
            patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
            shapes = torch.tensor([grid] * len(images), device=images.device)
            mask = torch.ones(patches.shape[:2], dtype=torch.int32, device=images.device)
            inputs = {"pixel_values": patches, "spatial_shapes": shapes, "pixel_attention_mask": mask}
        return F.normalize(self.model.get_image_features(**inputs).pooler_output, dim=-1)

    def _fitting(self, height: int, width: int) -> tuple[int, int]:
        """The size of the patches that keep the proportions of an image (SigLIP 2, "NaFlex")."""
        from transformers.models.siglip2 import image_processing_pil_siglip2 as naflex

        found: tuple[int, int] = naflex.get_image_size_for_max_num_patches(
            height, width, self._patch, self._patches
        )
        return found


def open_judge(name: str | Path, device: str = "auto", batch_size: int = 64) -> TextImageJudge:
    """Opens a ``CLIPModel``, ``SiglipModel`` or ``Siglip2Model`` (extra ``clip``) in fp32.

    Args:
        name: A folder of transformers with the processor and the tokenizer, or a name on huggingface.co.
        device: As :func:`vqgan.load` takes it.
        batch_size: As of :class:`TextImageJudge`.

    Raises:
        ConfigError: If an argument does not fit, or transformers is not installed.
        CheckpointError: If there is no such model, it is of another kind, or its tokenizer does not fit.
    """
    target = pick_device(device)  # before the weights are read
    purpose = "judging by texts"
    model, processor, tokenizer = open_pretrained(str(name), purpose, "clip", lambda *_: KINDS, texts=True)
    return TextImageJudge(model.to(target), processor, tokenizer=tokenizer, batch_size=batch_size)
