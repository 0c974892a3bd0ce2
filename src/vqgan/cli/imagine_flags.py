"""The flags of ``vqgan imagine``; no torch, so that its ``--help`` is fast."""

from collections.abc import Sequence
from typing import Literal

from vqgan.cli.commands import Steered
from vqgan.cli.flags import argument, command, flag


@command
class Imagine(Steered):
    """Draws pictures of what words say: a text-image model judges them, and the tokenizer's latents follow it.

    The prompts are `TEXT[:WEIGHT[:STOP]]`, apart by `|`; a weight below 0 drives away, `noise#SEED` is a random prompt.
    Chapters are apart by `^`: each goes on from the picture of the one before.

    Attributes:
        model: A run folder or a weights file: of a tokenizer, or of a prior with `--start sample`, `--prior-weight`.
        prompts: What the pictures show: `"an apple | oil painting:0.5 | blurry:-0.3"`.
        judge: A folder of transformers with a CLIP or SigLIP model, or its name on huggingface.co (extra `clip`).
        out: Where pictures, frames and `report.html` go.
        image_prompt: A picture to become like, `FILE[:WEIGHT[:STOP]]`, in every chapter.
        size: By default that of `--start`, else that of the pictures that the model was trained on.
        count: Pictures, drawn in one batch.
        start: `codes` (random ones), `noise`, `gradient`, `sample` (of the prior), a picture, or a folder of pictures,
            which are drawn one after the other.
        keep_start: Weight of half the mean squared distance from where the latents began.
        steps: All steps; chapters share them.
        steps_each: Steps of each chapter, in place of `--steps`.
        optimizer: `adam`, `adamw`, `adagrad`, `adamax`, `nadam`, `radam` or `rmsprop`.
        learning_rate: Of the optimizer.
        variables: What is optimised: `latents`, a `mixture` of codes whose temperature falls, or `pixels`, for
            comparison.
        average: Show a running average of the latents, which keeps this share in each step: smoother; below 1.
        cuts: Cut-outs in each step.
        cut_power: Above 1 most cut-outs are small, below 1 most are large.
        augment: How cut-outs are changed: `rotation=30`, `perspective=0`, `noise=0`, `flip=0.5`, ...
        prior_weight: Weight of the prior's own judgement, in nats for each code.
        class_: The class of the pictures, where the prior judges or begins; short for `--condition class=`.
        condition: What else steers it then: `NAME=FILE`, as of `vqgan sample`.
        zoom: Enlarge the picture in each step by this factor, for films: 1.005.
        turn: Turn it in each step by so many degrees, anticlockwise.
        shift: Shift it in each step by `RIGHT,DOWN` pixels.
        every: Steps between two frames of the page, and between two moves; after each all is saved for `--resume`.
        film: Also write the frames as a film: `mp4` (with `imageio-ffmpeg`), `webp`, `gif` or `png`; of a folder its
            results.
        resume: Go on where an earlier call with the same flags was stopped.
    """

    prompts: str = argument("PROMPTS", "")
    judge: str = flag("FOLDER|NAME")
    image_prompt: Sequence[str] = flag("FILE[:WEIGHT[:STOP]]", ())
    count: int = flag("N", 1, minimum=1)
    start: str = flag("START", "codes")
    keep_start: float = flag("WEIGHT", 0.0)
    steps: int = flag("N", 500, minimum=1)
    steps_each: int | None = flag("N", None, minimum=1)
    optimizer: str = flag("NAME", "adam")
    learning_rate: float = flag("RATE", 0.1)
    variables: Literal["latents", "mixture", "pixels"] = flag("{latents,mixture,pixels}", "latents")
    average: float = flag("SHARE", 0.0)
    cuts: int = flag("N", 32, minimum=1)
    cut_power: float = flag("POWER", 1.0)
    augment: Sequence[str] = flag("NAME=VALUE", ())
    prior_weight: float = flag("WEIGHT", 0.0)
    zoom: float = flag("FACTOR", 1.0)
    turn: float = flag("DEGREES", 0.0)
    shift: str = flag("RIGHT,DOWN", "0,0")
    every: int = flag("N", 50, minimum=1)
    film: str | None = flag("{mp4,webp,gif,png}", None)
    resume: bool = flag("", False)
