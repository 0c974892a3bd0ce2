"""The demo of words: a text-image model judges, a tokenizer draws, a prior reads, and unseen classifiers look.

All of them are trained here on scenes of two handwritten digits: the judge, which is saved as transformers saves it and
opened as any other, the tokenizer, the prior of captions, and classifiers that tell what a picture shows.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from jaxtyping import Float
from torch import Tensor

from vqgan.checkpoints.load import load
from vqgan.classifier import Classifier
from vqgan.data.image_files import FolderConfig
from vqgan.demo.phases import Demo
from vqgan.demo.scenes import ALL, SIDE, Facts, Handwriting, captions
from vqgan.demo.text_image import retrieval, train_text_image
from vqgan.demo.words_report import write_words_report
from vqgan.evaluation.numbers import mean_interval
from vqgan.evaluation.sets import frechet_distance
from vqgan.images import write_images
from vqgan.imagine import CutOutConfig, ImagineConfig, TextImageJudge, imagine, open_judge
from vqgan.output_files import write_text
from vqgan.sampling.judge import keep_best
from vqgan.synthesizer import Synthesizer
from vqgan.types import Images

SCENES, PROMPTS, PER_PROMPT, MEASURED = 8000, 100, 4, 2000
"""Drawn for training; asked for; samples of which one is kept; held-out scenes that judge and classifiers look at."""

TABLES = {"tokenizer": "", "first": "class", "second": "class", "prior": "text"}
"""What is trained, and the condition that its table holds: the digit to the left or above with how both stand, the
other digit, captions."""

CUTS = CutOutConfig(
    count=8, rotation=6, shear=3, shift=0.04, perspective=0.1, hue=0, saturation=0, erased=(0, 0), noise=0.4
)
"""How the judge looks at pictures: whole, because a part of a scene says nothing about left and right."""

GUIDED = ImagineConfig(steps=100, cut_outs=CUTS, learning_rate=2.0, average=0.9)
PRIOR_WEIGHT = 0.1
"""How pictures are guided, and how much the prior has to say where it judges too."""

GUIDANCE = 0.0, 1.0, 2.0, 4.0
"""Of the prior that reads captions."""

Features = Float[Tensor, "b f"]
Interval = tuple[float, float, float]

TOP_P, SHOWN, COLUMNS = 0.95, 16, 8
"""Samples leave out the least probable codes; how many the page shows."""


def run_words_demo(demo: Demo) -> dict[str, Any]:
    """Trains all that reads, draws, judges and looks, and measures whether pictures show what was asked for in words.

    Returns:
        The numbers of ``report.json``.

    Raises:
        ConfigError: If scikit-learn, transformers or tokenizers is not installed, or the folder holds another demo.
        Preempted: After a signal; everything is saved.
    """
    demo.begin(words=True)
    folder = demo.folder / "scenes"
    with demo.phase("drawing scenes"):
        write_scenes(folder, 64 if demo.quick else SCENES, demo.seed)
    with demo.phase("judging by texts"):
        train_text_image(demo)
    for stage, condition in TABLES.items():
        demo.train(
            stage,
            f"words-{stage if stage in ('tokenizer', 'prior') else 'classifier'}",
            ("training.steps=600",) if stage == "second" else (),  # a digit without a relation is read sooner
            small=("training.pictures=0", "training.steps=4"),
            data=FolderConfig(path=(folder / "pictures").as_posix()),
            conditions={condition: folder / f"{stage}.csv"} if condition else None,
        )
    with demo.phase("measurement"):
        numbers = _measure(demo)
    return demo.finish(numbers, write_words_report)


def write_scenes(folder: Path, count: int, seed: int) -> None:
    """Scenes as pictures; tables of their captions and of what stands first and second; none where they are."""
    if (folder / "prior.csv").exists():
        return
    generator = torch.Generator().manual_seed(seed)
    facts = ALL[torch.arange(count) % len(ALL)]
    pictures = Handwriting.open(held_out=False).draw(facts, generator)
    names = [path.name for path in write_images(pictures, folder / "pictures")]
    first = (f"{digit} {relation}" for digit, _, relation in facts.tolist())
    for stage, values in {"first": first, "second": facts[:, 1].tolist(), "prior": captions(facts)}.items():
        lines = (f"{name},{value}\n" for name, value in zip(names, values, strict=True))
        write_text(folder / f"{stage}.csv", "".join(lines))


class Readers(NamedTuple):
    """The classifiers that guide nothing: of the first digit with how both stand, and of the other digit."""

    first: Classifier
    second: Classifier

    @classmethod
    def of(cls, folder: Path) -> "Readers":
        """Those of a demo."""
        first, second = (load(folder / stage, device="cpu") for stage in cls._fields)
        assert isinstance(first, Classifier), "a classifier's run holds one"
        assert isinstance(second, Classifier), "a classifier's run holds one"
        return cls(first, second)

    @torch.no_grad()
    def agreement(self, images: Images, facts: Facts) -> dict[str, Interval]:
        """How often all is as asked, and what each classifier and the relation alone say, with intervals of 95 %."""
        first, second = (torch.cat([each(part).argmax(1) for part in images.split(250)]) for each in self)
        read = torch.stack([first // 2, second, first % 2], dim=1)  # by name: "0 0", "0 1", "1 0", ...
        parts = {"all": [0, 1, 2], "first": [0, 2], "second": [1], "relation": [2]}
        right = {name: (read == facts)[:, part].all(dim=1) for name, part in parts.items()}
        return {name: mean_interval(each.double().numpy()) for name, each in right.items()}

    @torch.no_grad()
    def features(self, images: Images) -> Features:
        """What the classifiers' last layers see."""
        return torch.cat([each.features(images) for each in self], dim=1)


def _measure(demo: Demo) -> dict[str, Any]:
    """All numbers and pictures."""
    count, prompts = (8, 2) if demo.quick else (MEASURED, PROMPTS)
    judge, model = open_judge(demo.folder / "judge", device="cpu"), demo.prior()
    readers = Readers.of(demo.folder)
    # Settings were chosen by other prompts than these.
    generator, hand = torch.Generator().manual_seed(demo.seed + 1000), Handwriting.open(held_out=True)
    facts = ALL[torch.randint(len(ALL), (count,), generator=generator)]
    scenes = hand.draw(facts, generator)
    asked = ALL[torch.randperm(len(ALL), generator=generator)[:prompts]]
    every, words = asked.repeat_interleave(PER_PROMPT, dim=0), captions(asked)
    real, others = (hand.draw(asked, generator) for _ in range(2))
    drawn = {
        "free": _drawn(demo, model, None, prompts),
        "guided": _guided(demo, model, judge, words, 0.0),
        "guided_prior": _guided(demo, model, judge, words, PRIOR_WEIGHT),
        "rebuilt": model.reconstruct(real).clamp(-1, 1),
        "real": others,
        **{f"text_{scale:g}": _drawn(demo, model, words, prompts, scale) for scale in GUIDANCE},
    }
    features = {name: readers.features(each) for name, each in drawn.items()}
    known = readers.features(real)
    distances = {name: frechet_distance(each, known) for name, each in features.items()}
    whole = _drawn(demo, model, captions(every), len(every))
    groups = zip(words, whole.split(PER_PROMPT), strict=True)
    best = [keep_best(group, judge.by([text]), 1 / PER_PROMPT)[0] for text, group in groups]
    drawn["kept"] = torch.cat(best)
    for name, images in drawn.items():
        demo.save(name, images[:SHOWN], columns=COLUMNS, scale=2)
    agreement = {name: readers.agreement(images, asked) for name, images in drawn.items()}
    return {
        "prompts": words[:SHOWN],
        "count": prompts,
        "held_out": {**retrieval(judge, scenes, facts), **readers.agreement(scenes, facts)},
        "agreement": {**agreement, "every": readers.agreement(whole, every)},
        "distance": distances,
    }


def _guided(
    demo: Demo, model: Synthesizer, judge: TextImageJudge, texts: list[str], prior_weight: float
) -> Images:
    """What becomes of random codes that follow the judge, and perhaps the prior as well."""
    steps = 2 if demo.quick else GUIDED.steps
    config = msgspec.structs.replace(GUIDED, steps=steps, prior_weight=prior_weight)
    return imagine(
        model, texts, judge, size=SIDE, config=config, seed=demo.seed, on_progress=demo.on_progress
    )


def _drawn(
    demo: Demo, model: Synthesizer, texts: list[str] | None, count: int, guidance: float = 0.0
) -> Images:
    condition = {"text": texts} if texts else None
    drawn = model.sample(count, SIDE, condition, seed=demo.seed, top_p=TOP_P, guidance=guidance)
    return drawn.clamp(-1, 1)
