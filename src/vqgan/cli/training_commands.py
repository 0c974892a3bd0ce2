"""The flags of the commands that train, one dataclass each; no torch, so that every ``--help`` is fast."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from vqgan.cli.commands import Chance, Coded, Compute, Steered
from vqgan.cli.flags import argument, command, flag
from vqgan.errors import require


@command
class TrainTokenizer(Compute):
    """Trains a tokenizer: images become grids of codes. After Ctrl-C, everything is saved for `--resume`.

    Attributes:
        preset: A preset (`vqgan presets` lists them) or a YAML file, also one of the original; omit it with `--resume`.
        data: A folder (class = sub-folder), a text file of paths, `idx:FOLDER`, a data set (`coco:FOLDER`), `digits`,
            `sample:NAME,NAME`, `atari:GAME,GAME`, `agc:FOLDER`, `shards:data-{000..127}.tar`, or `hf:NAME`; for
            a prior also `codes:FOLDER`, which `vqgan encode` writes.
        eval_data: Held-out images; by default a fixed 5 % of the data.
        out: The run's folder; new or empty.
        resume: A run folder to continue, in place of `--out`; the run keeps its configuration.
        from_: Begin with the weights of this file or run.
        steps: Short for `--set training.steps=N`.
        batch_size: Short for `--set training.batch_size=N`.
        image_size: Short for `--set data.image_size=[HEIGHT,WIDTH]`.
        workers: Processes that read images; short for `--set data.workers=N`.
        set: Any value of the run's configuration: `--set task.optimizer.learning_rate=1e-4`.
        precision: `fp32`, `bf16`, `fp16`, `auto`, or `tf32` on NVIDIA cards. (default: fp32)
        seed: The same seed gives the same result. (default: 0)
        log: Also send numbers and pictures to a tracker: `wandb`, `mlflow` or `aim`; may be repeated.
    """

    preset: str | None = argument("[PRESET|FILE.yaml]", None)
    data: str | None = flag("SOURCE", None)
    eval_data: str | None = flag("SOURCE", None)
    out: str | None = flag("RUN", None)
    resume: str | None = flag("RUN", None)
    from_: str | None = flag("FILE|RUN", None)
    steps: int | None = flag("N", None)
    batch_size: int | None = flag("N", None)
    image_size: tuple[int, int] | None = flag("HEIGHTxWIDTH", None)
    workers: int | None = flag("N", None)
    set: Sequence[str] = flag("KEY=VALUE", ())
    precision: str | None = flag("PRECISION", None)
    seed: int | None = flag("N", None)
    log: Sequence[str] = flag("TRACKER", ())

    stage: ClassVar[Literal["tokenizer", "prior", "classifier", "denoiser"]] = "tokenizer"


@command
class TrainPrior(TrainTokenizer):
    """Trains a prior: a transformer learns the grids of a trained tokenizer.

    After Ctrl-C, everything is saved for `--resume`.

    Attributes:
        tokenizer: The trained tokenizer: a file or a run folder.
        condition: What steers it, beside the images: `class=TABLE.csv` (`file,class` in each line), `text=CAPTIONS`
            (`.csv`, `.jsonl`, COCO's `.json`, or a folder of `.txt`), `layout=BOXES.json` or `pose=PEOPLE.json` (like
            COCO's), or `NAME=FOLDER` of maps with the paths of the images; just `NAME` of what a data set brings.
        condition_tokenizer: The trained tokenizer of such maps; without one, they share that of the images.
    """

    stage = "prior"
    tokenizer: str | None = flag("FILE|RUN", None)
    condition: Sequence[str] = flag("NAME[=PATH]", ())
    condition_tokenizer: Sequence[str] = flag("NAME=FILE|RUN", ())


@command
class TrainClassifier(TrainTokenizer):
    """Trains a small classifier of the images' classes, which judges drawn images: `vqgan sample --judge`.

    After Ctrl-C, everything is saved for `--resume`.

    Attributes:
        condition: Where the classes lie, if not in sub-folders: `class=TABLE.csv` (`file,class` in each line).
    """

    stage = "classifier"
    condition: Sequence[str] = flag("class=TABLE", ())


@command
class TrainDenoiser(TrainTokenizer):
    """Trains a small network that takes noise from your images; a tokenizer's perceptual loss compares what it sees.

    Give its run as `--set task.perceptual.weights=RUN`. After Ctrl-C, everything is saved for `--resume`.
    """

    stage = "denoiser"


@command
class Encode(Coded):
    """Writes the codes of images as one array `codes.npy` (images, rows, columns) with `codes.json` beside it.

    With `--data`, the samples that a prior's training would encode: `vqgan train prior PRESET --data codes:FOLDER`
    needs no encoder. After an interruption, the same command encodes what is missing.

    Attributes:
        out: Where the files go.
        size: Resize and crop to this size first; without it all images must give grids of one size. With `--data`,
            short for `--set data.image_size=[HEIGHT,WIDTH]`.
        fit: What to do with a size that the tokenizer's factor does not divide: pad (`decode` cuts back), crop, or
            refuse.
        data: In place of IMAGES, the source that a prior will be trained on; its held-out images are encoded too.
        for_: The run of that prior, a preset or a YAML file: its `data` and `training.batch_size` count.
        copies: So many samples of each image, one for each epoch; later epochs repeat them.
        condition: What else the prior is given: `class=TABLE.csv`, `text=CAPTIONS`, or just the name of what a data set
            brings.
        set: What a checkpoint's own configuration does not say; with `--data` also values of the run:
            `--set data.flip=true`.
        seed: Of order, crops and mirroring, as that of the prior's run.
    """

    data: str | None = flag("SOURCE", None)
    for_: str | None = flag("PRESET|FILE.yaml", None)
    copies: int = flag("K", 1, minimum=1)
    condition: Sequence[str] = flag("NAME[=PATH]", ())

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.data is None) == (self.for_ is None) and not (self.data and self.images),
            "expected either IMAGES, or a source and the run of the prior that will be trained on it",
            hint="give IMAGES, or `--data SOURCE --for PRESET`",
        )


@command
class Compare:
    """Compares runs: one page with their curves over each other, what differs in their settings, numbers and pictures.

    Attributes:
        runs: Their folders, two to eight; they may still be training.
        out: The page, which needs no other files.
    """

    runs: Sequence[str] = argument("RUN", ())
    out: str = flag("FILE.html")


@command
class Figure(Steered):
    """Draws the figure of a report: an image, its reconstruction, the given part, and how it goes on by temperature.

    Attributes:
        model: A run folder or a weights file of a prior.
        images: Image files, or folders of them; each gets a figure of its name.
        keep: What is given: `top`, `bottom`, `left` or `right` with a share, or a picture file that is white there.
        temperatures: For each of them the rest is drawn once.
        top_ks: And once for each number of most probable codes that it is drawn from, at temperature 1.
        size: Resize and crop to this size first; by default the size the prior was trained on.
    """

    images: Sequence[str] = argument("IMAGES [IMAGES ...]", ())
    keep: str = flag("PART", "top=0.5")
    temperatures: str = flag("T,T,...", "0.5,0.8,1,1.4,2")
    top_ks: str = flag("K,K,...", "1,4,16,64,256")

    def numbers(self, name: Literal["temperatures", "top_ks"]) -> list[float]:
        """What a flag lists. Raises ConfigError if it is no list of numbers above 0, of ``top_ks`` of whole ones."""
        text = getattr(self, name)
        try:
            found = [float(each) for each in text.split(",") if each.strip()]
        except ValueError:
            found = [0.0]
        fits = all(0 < each < 2**31 and (name == "temperatures" or each == int(each)) for each in found)
        flag_name = f"--{name.replace('_', '-')}"
        require(fits, f"`{flag_name}` is `{text}`, expected numbers above 0", hint=f"write `{flag_name} 1,2`")
        return found


@command
class Evaluate(Chance):
    """Measures a tokenizer or a prior on images that it was not trained on: numbers, and a page that shows them.

    Every number says how sure it is, and by which convention it was found: images, crop, size, features, how many.

    Attributes:
        model: A run folder or a weights file.
        data: All of these images are measured, or what the source itself holds out; by default the run's held-out ones.
        size: To which images are brought; by default the run's, or the model's own.
        images: At most N, evenly spread over the source.
        samples: How many a prior draws, with the conditions of the measured images in turn; by default as many.
        features: What sets of images are compared by: `latents` of the model's own tokenizer, `imagenet-lite` (a small
            network that knows ImageNet, extra `features`), those of a classifier's run, of the file with FID's
            Inception, or of a folder of Hugging Face with DINOv2, CLIP or another network that pools (extra `clip`).
        reference: Mean and covariance, as evaluators of FID publish them (`mu`, `sigma`), to which distances are taken.
        lpips: Weights of LPIPS, such as an original checkpoint; by default what a training left in the cache.
        judge: What reads a condition out of drawn images: `class=RUN` of a classifier (by default that of
            `--features`, if it knows the classes), `text=MODEL` that compares images with texts, `depth`
            or `segmentation` (`=MODEL` if not the usual one), `pose` (`=MODEL,DETECTOR`); may be repeated.
        against: An earlier `evaluation.json`: both numbers are printed, if they follow the same conventions.
        npz: Also write `reference.npz`, `reconstructions.npz` and `samples.npz`, which public evaluators of FID read.
    """

    data: str | None = flag("SOURCE", None)
    size: tuple[int, int] | None = flag("HEIGHTxWIDTH", None)
    images: int = flag("N", 2000, minimum=1)
    samples: int | None = flag("N", None)
    features: str = flag("latents|imagenet-lite|RUN|FILE|FOLDER", "latents")
    reference: str | None = flag("STATS.npz", None)
    lpips: str | None = flag("FILE", None)
    judge: Sequence[str] = flag("NAME[=MODEL]", ())
    against: str | None = flag("FILE.json", None)
    npz: bool = flag("", False)


@command
class Plan(Compute):
    """Predicts what a training needs on each device, without training: memory by part, operations, time of a step.

    Attributes:
        preset: A preset (`vqgan presets` lists them) or a YAML file, also one of the original.
        tokenizer: What a prior will be trained on: a file, a run folder, a preset or a YAML file; by default the preset
            of the same family.
        devices: How many share each batch.
        memory: That of a device, in GB of 2^30 bytes; by default what this one has.
        precision: As for `vqgan train`.
        set: Any value of the run's configuration: `--set training.recompute=true`.
    """

    preset: str = argument("PRESET|FILE.yaml")
    tokenizer: str | None = flag("FILE|RUN|PRESET", None)
    devices: int = flag("N", 1, minimum=1)
    memory: float | None = flag("GB", None, minimum=1)
    precision: str = flag("PRECISION", "fp32")
    set: Sequence[str] = flag("KEY=VALUE", ())


@command
class Demo(Compute):
    """Trains both stages on real images in minutes on a CPU, and writes pictures and a report.

    Frames of Montezuma's Revenge with the extra `demo`, else scikit-learn's digits; with `--screen` the same at full
    size, with `--large` a sky, with `--conditions` four games, with `--words` scenes and captions. After Ctrl-C, the
    same command continues where it stopped.

    Attributes:
        out: Where everything goes; by default `runs/demo`, `runs/screen`, `runs/deepfield` if large, `runs/conditions`
            or `runs/words`; quick ones end in `-quick`.
        screen: Keep the screen's own pixels, 192x160, in place of averages of 2x2 (extra `demo`), so that skulls have
            eyes: about 12 minutes on two cores.
        large: Learn from the Hubble Deep Field (extra `demo`), and draw 2048x2048 pixels of such a sky, with pages that
            zoom and show how it grew: about 20 minutes on two cores.
        conditions: Learn from four games (extra `demo`) to follow class, edges, colours, boxes, kept pixels, actions,
            and measure it: at most 20 minutes on two cores.
        words: Train a judge of texts, draw scenes of two digits that it likes, and a prior that reads captions (extra
            `demo`), and measure what they show: at most 20 minutes on two cores.
        quick: Everything small, in under a minute: shows that it works, not what it can do.
        seed: The same seed gives the same result.
    """

    out: str | None = flag("FOLDER", None)
    screen: bool = flag("", False)
    large: bool = flag("", False)
    conditions: bool = flag("", False)
    words: bool = flag("", False)
    quick: bool = flag("", False)
    seed: int = flag("N", 0)
