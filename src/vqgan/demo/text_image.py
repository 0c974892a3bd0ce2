"""A small CLIP, trained on scenes and their captions (Radford et al. 2021): the judge of the demo of words."""

from typing import Any

import torch
import torch.nn.functional as F

from vqgan.demo.phases import Demo
from vqgan.demo.scenes import ALL, NAMES, RELATIONS, SIDE, Facts, Handwriting, captions
from vqgan.errors import needing
from vqgan.evaluation.numbers import mean_interval
from vqgan.imagine import TextImageJudge
from vqgan.types import Images, Progress

STEPS, BATCH_SIZE, LEARNING_RATE = 1000, 128, 3e-3
NOISE = 0.4
"""Largest standard deviation of the noise on scenes, where black to white is 1."""

_SPECIAL = "<pad>", "<unk>", "<start>", "<end>"
_LENGTH = 9  # tokens of the longest caption, with start and end
_GROUP = 64


def train_text_image(demo: Demo) -> None:
    """Trains a ``CLIPModel`` and saves it in ``judge/``, with its processor and its tokenizer, as transformers does.

    The scenes of a batch show different things, so that each caption fits one of them. Raises ConfigError if
    transformers is not installed.
    """
    folder = demo.folder / "judge"
    if (folder / "model.safetensors").exists():
        return
    with needing("transformers", "the demo of words", "demo"):
        from transformers import CLIPImageProcessorPil
    steps, size = (4, 8) if demo.quick else (STEPS, BATCH_SIZE)
    tokenizer, hand = _tokenizer(), Handwriting.open(held_out=False)
    generator = torch.Generator().manual_seed(demo.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(demo.seed)
        model = _new_model(tokenizer).train()
    full = {"return_tensors": "pt", "padding": "max_length", "max_length": _LENGTH}
    codes = tokenizer(captions(ALL), **full)["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        kinds = torch.randperm(len(ALL), generator=generator)[:size]
        images = hand.draw(ALL[kinds], generator)
        spread = 2 * NOISE * torch.rand(size, 1, 1, 1, generator=generator)
        images += spread * torch.randn(images.shape, generator=generator)
        logits = model(input_ids=codes[kinds], pixel_values=images).logits_per_image
        right = torch.arange(size)
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2  # either chooses
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        demo.on_progress(Progress("judge", step + 1, steps, {"loss": float(loss.detach())}))
    half, square = [0.5] * 3, {"height": SIDE, "width": SIDE}
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=square, image_mean=half, image_std=half
    )
    for part in (processor, tokenizer, model):  # the weights last: with them, it is complete
        part.save_pretrained(folder)


def _tokenizer() -> Any:
    """A tokenizer of transformers that knows the words of the captions."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIAL, *dict.fromkeys(" ".join([*NAMES, *RELATIONS]).split())]
    backend = Tokenizer(models.WordLevel({word: code for code, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, words.index(word)) for word in _SPECIAL[2:]]
    backend.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=ends)
    roles = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=_LENGTH, **roles)


def _new_model(tokenizer: Any) -> Any:
    """A ``CLIPModel`` with random weights: 17 places of a scene, the words of a caption."""
    from transformers import CLIPConfig, CLIPModel

    sizes = {"num_attention_heads": 4, "projection_dim": 64}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": len(tokenizer)}
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    vision = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3, "patch_size": 8}
    model = CLIPModel(
        CLIPConfig(
            text_config={**sizes, **text, **ends, "max_position_embeddings": _LENGTH},
            vision_config={**sizes, **vision, "image_size": SIDE},
            projection_dim=64,
        )
    )
    # The usual weights suit long trainings: places and words start too much alike, and each word sees all others.
    for name, weight in model.named_parameters():
        if "embedding" in name:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5 if "patch" in name else 1.0)
        elif name.startswith("text") and ("q_proj.weight" in name or "k_proj.weight" in name):
            weight.data *= 2.5
    return model


@torch.no_grad()
def retrieval(judge: TextImageJudge, images: Images, facts: Facts) -> dict[str, tuple[float, float, float]]:
    """How often the best of all 200 captions, of those of 64 scenes and of these scenes is right, with intervals.

    Args:
        judge: The judge.
        images: Scenes.
        facts: What they show.
    """
    scenes, texts = judge.embed_images(images), judge.embed_text(captions(ALL))
    kinds = facts @ torch.tensor([20, 2, 1])  # in the order of all
    numbers = {"caption": (scenes @ texts.T).argmax(dim=1) == kinds}
    pairs = [each.split(_GROUP) for each in (scenes, texts[kinds], kinds)]
    for name, axis in (("caption_of_64", 0), ("scene_of_64", 1)):
        # Another pair that shows the same is as right.
        chosen = [of[(text @ scene.T).argmax(dim=axis)] == of for scene, text, of in zip(*pairs, strict=True)]
        numbers[name] = torch.cat(chosen)
    return {name: mean_interval(right.double().numpy()) for name, right in numbers.items()}
