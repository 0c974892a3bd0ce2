"""Texts through a frozen encoder of transformers: CLIP's (Radford et al. 2021) or T5's (Raffel et al. 2020)."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.conditioning.text import Text, TextConfig, utf8
from vqgan.errors import CheckpointError, printable, require
from vqgan.pretrained import open_pretrained
from vqgan.types import Condition

KINDS = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
"""The class that reads texts, by the type of the model."""

KEPT = 2**29
"""Bytes of the vectors of texts that are kept, so that captions are read once."""


def open_text_encoder(config: TextConfig) -> tuple[Any, Any, TextConfig]:
    """A text's encoder in fp32 (extra ``clip``), its tokenizer, and the configuration with all that tells of it.

    The encoder that was opened last stays in memory, for all that read with it.

    Raises:
        ConfigError: If transformers is not installed.
        CheckpointError: If there is no such model, it is of another type, or has another digest or tokenizer.
    """
    path = Path(config.encoder).expanduser()
    back = "put the one there that the prior learned with, or a link to it"
    name = str(path.resolve()) if path.is_dir() else config.encoder
    try:
        model, tokenizer, digest = _open(name)
    except CheckpointError as error:
        raise CheckpointError(error.message, hint=back if config.digest else error.hint) from error
    if config.digest not in ("", digest):
        what = f"`{printable(name)}` is not the text encoder that the prior learned with"
        digests = f"its digest is {digest}, expected {printable(config.digest)}"
        raise CheckpointError(f"{what}: {digests}", hint=back)
    found = {"encoder": name, "vector_width": model.config.hidden_size, "digest": digest}
    return model, tokenizer, msgspec.structs.replace(config, **found)


@lru_cache(maxsize=1)
def _open(name: str) -> tuple[Any, Any, str]:
    """With a digest of some numbers of each weight, and of the vocabulary."""

    def kinds(library: Any, config: Any) -> dict[str, str]:
        return dict.fromkeys(config.architectures or (), KINDS.get(config.model_type, ""))

    opened = open_pretrained(name, "the condition `text`", "clip", kinds, images=False, texts=True)
    model, _, tokenizer = opened
    found = [f"{tokenizer('')['input_ids']} {sorted(tokenizer.get_vocab().items())}"]
    for weight in model.parameters():  # without names, which versions of transformers change
        some = weight.flatten()[:: max(1, weight.numel() // 64)].tolist()
        found.append(f"{tuple(weight.shape)} {some}")
    digest = hashlib.sha256("\n".join(sorted(found)).encode(errors="replace"))
    return model, tokenizer, digest.hexdigest()[:16]


class EncodedText(Text):
    """The last hidden states of a text encoder, one for each token of the text, then padding, which is learned.

    Each text is read by itself, so its vectors depend on no other. The encoder is opened where the first text is read;
    it is no part of the model's weights.
    """

    place: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.vector_width, self._known = config.vector_width, dict[str, Tensor]()
        hint = "training takes it from the encoder"
        require(self.vector_width >= 1, "a text's vectors have no width: `vector_width` is 0", hint=hint)
        # Empty, it tells where the model is.
        self.register_buffer("place", torch.empty(0, device="cpu"), persistent=False)

    @property
    def _encoder(self) -> Any:
        return open_text_encoder(self.config)[1]

    def read(self, text: str) -> list[int]:
        """The encoder's tokens of a text of any length; marks, as those of its start and end, stand first."""
        words = self._encoder(utf8(text), add_special_tokens=False, verbose=False)["input_ids"]
        return [*self._encoder("")["input_ids"], *words]

    def vectors(self, condition: Condition | None) -> Float[Tensor, "rows width"] | None:
        """The hidden states of all texts, each once, one text after the other; on the CPU."""
        is_given = condition is not None and condition.get(self.name) is not None
        return torch.cat([*self._states(self._texts(condition)).values()]) if is_given else None

    def _numbers(self, texts: list[str]) -> dict[str, list[int]]:
        found = self._states(texts)
        lengths = [len(states) for states in found.values()]
        numbers = torch.arange(-sum(lengths), 0).split(lengths)
        return {text: each.tolist() for text, each in zip(found, numbers, strict=True)}

    def _states(self, texts: list[str]) -> dict[str, Float[Tensor, "tokens width"]]:
        """Those of each text; of the last that fit into :data:`KEPT` they are kept."""
        before = {text: self._known.pop(text, None) for text in dict.fromkeys(texts)}
        found = {text: self._read(text) if known is None else known for text, known in before.items()}
        self._known |= found
        size = sum(states.nbytes for states in self._known.values())
        while size > KEPT and len(self._known) > len(found):
            size -= self._known.pop(next(iter(self._known))).nbytes
        return found

    def _read(self, text: str) -> Float[Tensor, "tokens width"]:
        (model, tokenizer, _), device = open_text_encoder(self.config), self.place.device
        places = getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
        most = min(self.config.max_tokens, tokenizer.model_max_length, places)
        self._cut(text, most)  # warns
        tokens = tokenizer(utf8(text), return_tensors="pt", truncation=True, max_length=most)["input_ids"]
        # What is kept may be needed in training later, wherever this is called.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            return model.to(device)(input_ids=tokens.to(device)).last_hidden_state[0].cpu()
