"""Captions as byte-pair tokens (Sennrich et al. 2016) in front of the image's, as in DALL-E (Ramesh et al. 2021)."""

import json
import logging
import os
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any

import torch

from vqgan.conditioning.base import Conditioner, Grid
from vqgan.config import Bounds, Config, Natural
from vqgan.errors import needing, printable, require
from vqgan.types import Condition, ConditionTokens

logger = logging.getLogger(__name__)

MAX_WARNINGS = 20
"""Of one model, about texts that are too long: data may hold thousands."""

_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = [chr(each) for each in _SHOWN] + [chr(256 + each) for each in range(256 - len(_SHOWN))]
"""A letter for each byte, as GPT-2's vocabulary has them; that of a space is ``Ġ``."""

_HINT = 'write `condition={"text": "two cats"}`, one text for all images or one each'


def pairs_of(merges: str) -> list[tuple[str, str]]:
    """The pairs of words that ``merges`` lists, in their order."""
    return [*zip(merges.split()[::2], merges.split()[1::2], strict=False)]


def words_of(merges: str) -> list[str]:
    """What the tokens mean with these merges: first a byte each, then what they give."""
    return list(dict.fromkeys([*BYTES, *(first + second for first, second in pairs_of(merges))]))


class TextConfig(Config, frozen=True, tag_field="kind", tag="text"):
    """A text steers the prior.

    Attributes:
        max_tokens: Tokens of a text: longer ones are cut, shorter ones padded. 0 means as many as the longest training
            caption has, at most 64; it cannot be built.
        num_merges: Merges that are learned from the training captions at most, where ``merges`` is empty.
        merges: Pairs of words that become one, in the order of merging, with spaces between all words.
        encoder: A text encoder of transformers (CLIP's or T5's), a folder or a name on huggingface.co, that reads texts
            in place of merges. It stays as it is; its weights are no part of the model.
        vector_width: Of its hidden states; 0 means that training asks it. Then it cannot be built.
        digest: Tells this encoder from others; empty means any.
    """

    max_tokens: Natural = 0
    num_merges: Annotated[int, Bounds("0 to 4096", lambda value: 0 <= value <= 4096)] = 1024
    merges: Annotated[
        str, Bounds("pairs of bytes and merged words", lambda value: {*value.split()} <= {*words_of(value)})
    ] = ""
    encoder: str = ""
    vector_width: Natural = 0
    digest: str = ""

    @property
    def name(self) -> str:
        """The name of its value."""
        return "text"

    @property
    def vocabulary_size(self) -> int:
        """All words and, last, the padding; beside an encoder, that alone."""
        return 1 if self.encoder else len(words_of(self.merges)) + 1

    def num_tokens(self, grid: Grid) -> int:
        """The same for every text and grid."""
        return self.max_tokens


class Text(Conditioner):
    """The words of a text in small letters, padded. Needs tokenizers only where a text is read."""

    is_spatial = False
    config: TextConfig

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        hint = "give their number; training takes that of the longest caption"
        require(config.max_tokens >= 1, "a text has no tokens: `max_tokens` is 0", hint=hint)
        self._warned = set[str]()

    @cached_property
    def _encoder(self) -> Any:
        return byte_pairs(self.config.merges)

    def tokens(
        self, condition: Condition | None, count: int, grid: Grid, *, memory: int | None = None
    ) -> ConditionTokens:
        """The tokens of texts, one for all images or one each: ``{"text": "two cats"}``.

        Of a text that is too long a warning shows what is cut, once.

        Raises:
            ConfigError: If the value is no text, or empty, their number is neither 1 nor ``count``, or tokenizers is
                not installed.
        """
        texts, most = self._texts(condition), self.config.max_tokens
        require(len(texts) in (1, count), f"`text` holds {len(texts)} texts for {count} images", hint=_HINT)
        numbers, padding = self._numbers(texts), [self.config.vocabulary_size - 1] * most
        return torch.tensor([(numbers[text] + padding)[:most] for text in texts]).expand(count, -1)

    def _texts(self, condition: Condition | None) -> list[str]:
        value = self.required(condition, hint=_HINT)
        texts = list(value) if isinstance(value, list | tuple) else [value]
        wrong = [text for text in texts if not (isinstance(text, str) and text.strip())]
        require(not wrong, f"`text` holds {wrong[:1]}, expected words", hint=_HINT)
        return texts

    def _numbers(self, texts: list[str]) -> dict[str, list[int]]:
        """The tokens of each text, without padding."""
        return {text: self._cut(text, self.config.max_tokens) for text in texts}

    def _cut(self, text: str, most: int) -> list[int]:
        found = self.read(text)
        if len(found) > most and text not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(text)
            what = "of `%s` the prior reads %d of %d tokens, this is cut: `%s`"
            lost = printable(self._encoder.decode(found[most:]).strip())
            logger.warning(what, printable(text), most, len(found), lost)
        return found[:most]

    def read(self, text: str) -> list[int]:
        """The tokens of a text of any length."""
        return self._encoder.encode(utf8(text)).ids


def byte_pairs(merges: str = "") -> Any:
    """The encoder of the tokenizers library. Raises ConfigError if that is not installed."""
    # With threads it would warn in every process that reads images.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with needing("tokenizers", "the condition `text`", "text"):
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
        from tokenizers.normalizers import NFC, Lowercase, Replace, Sequence, Strip
    found = Tokenizer(models.BPE({word: i for i, word in enumerate(words_of(merges))}, pairs_of(merges)))
    found.normalizer = Sequence([NFC(), Lowercase(), Replace(Regex(r"\s+"), " "), Strip()])
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    return found


def find_merges(texts: Iterable[str], count: int) -> str:
    """At most so many merges of the pairs that are the most frequent, each at least twice, within words.

    Example:
        >>> find_merges(["a cat", "a cat and a hat"], 3)
        'Ġ a a t c at'
    """
    encoder, size = byte_pairs(), len(BYTES) + count
    from tokenizers.trainers import BpeTrainer

    trainer = BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, initial_alphabet=BYTES)
    encoder.train_from_iterator(map(utf8, texts), trainer)
    return " ".join(word for pair in json.loads(encoder.to_str())["model"]["merges"] for word in pair)


def utf8(text: str) -> str:
    """The text with question marks in place of what is no character."""
    return text.encode(errors="replace").decode()
