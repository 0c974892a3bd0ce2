"""The flags of every command, one dataclass each; no torch, so that every ``--help`` is fast."""

from collections.abc import Sequence
from typing import Literal

from vqgan.cli.flags import argument, command, flag, parse_scales
from vqgan.errors import require, require_share


@command
class Compute:
    """Where to compute.

    Attributes:
        device: `auto` (CUDA, MPS, CPU in that order), `cpu`, `cuda`, `cuda:1` or `mps`.
    """

    device: str = flag("DEVICE", "auto")


@command
class Published:
    """Configuration that a published checkpoint may lack.

    Attributes:
        config: The configuration of an original checkpoint; by default the one beside it or in `configs/`.
        set: What a checkpoint's own configuration does not say: `--set prior.num_heads=16`.
    """

    config: str | None = flag("FILE.yaml", None)
    set: Sequence[str] = flag("KEY=VALUE", ())


@command
class Use(Published, Compute):
    """Which model is used and how, and where results go.

    Attributes:
        model: A run folder or a weights file.
        out: Where the results go.
        precision: `fp32`, `bf16`, `fp16` or `auto`.
        seed: The same seed gives the same result.
        memory: Memory beside the weights, in GB of 2^30 bytes; by default 4, on CUDA half of the device's. Images
            that do not fit are computed in bands of rows, more slowly, through a file in the temporary folder.
        overwrite: Also replace files that vqgan did not write.
    """

    model: str = argument("MODEL")
    out: str = flag("FOLDER")
    precision: str = flag("PRECISION", "fp32")
    seed: int = flag("N", 0)
    memory: float | None = flag("GB", None)
    overwrite: bool = flag("", False)

    def __post_init__(self) -> None:
        require(
            self.memory is None or 0 < self.memory < 2**20,
            f"`--memory` is {self.memory}, expected a number above 0 and below {2**20}",
            hint="it counts GB of 2^30 bytes: `--memory 4`",
        )

    @property
    def memory_bytes(self) -> int | None:
        """The bytes of ``--memory``."""
        return None if self.memory is None else max(1, int(self.memory * 2**30))


@command
class Steered(Use):
    """What steers a prior.

    Attributes:
        class_: Classes by number or name: `9,232`; short for `--condition class=`. Only `sample` takes several.
        condition: What steers it: `class=9,232`, `text="two cats"`, or `NAME=FILE` with a picture or map of the
            image's size, or a layout or key points (JSON). Without `--size` the images have the size of the map.
    """

    size: tuple[int, int] | None = flag("HEIGHTxWIDTH", None)
    class_: str | None = flag("CLASS[,CLASS...]", None)
    condition: Sequence[str] = flag("NAME=VALUE", ())


@command
class Chance(Use):
    """How boldly tokens are drawn.

    Attributes:
        model: A run folder or a weights file of a prior.
        temperature: Above 1 is bolder, below 1 safer, 0 always takes the most probable code.
        top_k: Draw only from the K most probable codes.
        top_p: Draw only from the most probable codes that together have the probability P.
        guidance: Follow the condition more closely than learned, at twice the cost: 0 as learned, 3 clearly. `0:3`
            begins freely and ends strictly. For priors that were trained with `task.condition_dropout`.
    """

    temperature: float = flag("T", 1.0)
    top_k: int | None = flag("K", None)
    top_p: float | None = flag("P", None)
    guidance: str = flag("S|START:END", "0")

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_scales(self.guidance)  # refused before anything is read

    @property
    def scales(self) -> tuple[float, float]:
        """Guidance at the first and at the last token."""
        return parse_scales(self.guidance)


@command
class Drawing(Chance, Steered):
    """How tokens are drawn.

    Attributes:
        batch_size: Images per batch; it changes speed and memory, not the images.
        jacobi: Guess N tokens ahead and read them in one pass: faster where much is easy to guess. The same images in
            fp32, except for near-ties; in bf16 products of other shapes round differently: about 1 token in 40 differs.
        window_stride: On images larger than those it was trained on, let blocks of K x K tokens share a window: faster,
            but an approximation, which gives other images. At most half of the window.
        frames: Also write about N pictures of the first image as it grows, an animation and a page, in `frames/`.
    """

    batch_size: int = flag("N", 16, minimum=1)
    jacobi: int | None = flag("N", None)
    window_stride: int = flag("K", 1)
    frames: int | None = flag("N", None)


@command
class Sample(Drawing):
    """Draws new images and writes them as `000000.png`, `000001.png`, ... with `grid.png` of the first 64.

    Image i has the seed `--seed` + i; the same seed gives the same image whatever the batch size.

    Attributes:
        count: Number of images; with `--class` the number of each class, class after class.
        size: By default the size it was trained on. On larger ones its window slides over the image, unless its span
            is local.
        zoom: Write each image band by band, so that it need not fit in memory, and also as tiles of every level of
            detail (Deep Zoom) with a page that zooms: `000000.html`. `--frames` then follow its rows, made smaller.
        judge: A classifier (`vqgan train classifier`) that scores each image: the probability of its class, or without
            a class the highest of any. Or a CLIP or SigLIP, as a folder or a name on huggingface.co: how well it fits.
        prompt: The text that images shall fit; by default that of `--condition text=`.
        keep_best: Keep only this share of the images of each class, those with the best scores: `0.25`.
        beam: Let the judge choose while an image is drawn: it goes on with the best of K continuations of each block.
        beam_rows: Rows of tokens in a block.
    """

    count: int = flag("N", 8, minimum=1)
    zoom: bool = flag("", False)
    judge: str | None = flag("RUN|FOLDER|NAME", None)
    prompt: str | None = flag("TEXT", None)
    keep_best: float = flag("SHARE", 1.0)
    beam: int = flag("K", 1, minimum=1)
    beam_rows: int = flag("N", 4, minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = "give a classifier, or a text-image model: `--judge RUN`"
        for name in ("keep-best", "prompt", "beam"):
            is_given = getattr(self, name.replace("-", "_")) not in (None, 1)
            require(self.judge is not None or not is_given, f"`--{name}` needs a judge", hint=hint)
        is_empty = self.prompt is not None and not self.prompt.strip()
        require(not is_empty, "`--prompt` is empty", hint="say what images shall show, or omit it")
        require(self.beam > 1 or self.beam_rows == 4, "`--beam-rows` needs `--beam`", hint="add `--beam 4`")
        require_share("--keep-best", self.keep_best, hint="0.25 keeps the best quarter")
        name = "--zoom" if self.zoom else "--frames"
        excluded = self.judge is not None and (self.zoom or self.frames is not None)
        require(not excluded, f"`--judge` is not possible with `{name}`", hint="omit one of the two")


@command
class Dream(Chance, Steered):
    """Plays a game inside a prior of previous frames and actions: draws one frame for each action.

    Writes `000000.png`, `000001.png`, ..., and an animation and a page in `frames/`, beside the true game where it is
    known. Frame i has the seed `--seed` + i.

    Attributes:
        start: A picture, or a folder of frames in the order of their names: as many as the prior reads are given, the
            others are the true game. `atari:GAME` is a game from its beginning, `atari:GAME@UP,1` after these actions.
        actions: What is done before each frame: numbers or names, `2,2,FIRE`.
        every: Take one of so many files of the folder; by default all, but of a folder of the Atari Grand Challenge
            (`screens/GAME/EPISODE`) every 4th, as training does.
        size: Resize and crop the frames to this size first; by default they keep theirs.
    """

    start: str = flag("FRAMES|atari:GAME")
    actions: str = flag("ACTION[,ACTION...]")
    every: int | None = flag("N", None, minimum=1)


@command
class Complete(Drawing):
    """Keeps a part of each image and draws the rest; writes PNGs of the same names.

    Kept pixels come back exactly as they are, and what is drawn has not seen what was there.

    Attributes:
        images: Image files, or folders of them (read with their sub-folders).
        keep: What is kept: `top`, `bottom`, `left` or `right` with a share, or a picture file that is white there; by
            default `top=0.5`.
        redraw: Instead, draw the least probable share of the tokens again and keep the others: `0.05`.
        refine: Draw each of these tokens again in N sweeps, given all others, also those behind it: needed where
            something is kept to the right of or below a hole.
        margin: Also draw so many tokens around a hole; by default none, with `--no-paste` 1.
        no_paste: Leave the kept part as the tokens describe it, too.
        size: Resize and crop to this size first; by default the size the prior was trained on.
    """

    images: Sequence[str] = argument("IMAGES [IMAGES ...]", ())
    keep: str | None = flag("PART", None)
    redraw: float | None = flag("SHARE", None)
    refine: int = flag("N", 0, minimum=0)
    margin: int | None = flag("N", None, minimum=0)
    no_paste: bool = flag("", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.keep is None or self.redraw is None,
            "`--redraw` is not possible with `--keep`",
            hint="omit one of the two",
        )
        if self.redraw is not None:
            require_share("--redraw", self.redraw, hint="0.05 draws the least probable twentieth again")


@command
class Score(Steered):
    """Tells how probable each token of images is: `NAME.png` is the image under a heat map, `NAME.npy` the numbers.

    These are -log p in nats, (rows, columns) of tokens. Black is certain; white is no better than a guess among
    all codes. `NAME.json` has the mean.

    Attributes:
        model: A run folder or a weights file of a prior.
        images: Image files, or folders of them (read with their sub-folders).
        size: Resize and crop to this size first; by default images keep theirs, without pixels at the border that do
            not fill a token; but with a picture or a pose as a condition, they have its size, or the prior's.
    """

    images: Sequence[str] = argument("IMAGES [IMAGES ...]", ())


@command
class Extract(Compute):
    """Finds what steers a prior in photographs and writes it as PNGs of the same names, for `--condition KIND=FOLDER`.

    Attributes:
        kind: `depth`, `segmentation` or `pose`, by networks (extra `extract`); `edges`, `low_resolution` or `palette`.
        images: Image files, or folders of them (read with their sub-folders).
        out: Where the results go.
        model: A folder of transformers or a name on huggingface.co, by default a small one; of the last three kinds the
            run whose settings or colours count.
        labels: Numbers of the labels: `coco-stuff` by default, `ade20k`, `s-flckr`, or `own`: the model's.
        detector: Of `pose`, the model that finds the people, named as that of the key points is.
        size: Resize and crop to this size first; by default every image keeps its size.
        overwrite: Also replace files that vqgan did not write.
    """

    kind: str = argument("KIND")
    images: Sequence[str] = argument("IMAGES [IMAGES ...]", ())
    out: str = flag("FOLDER")
    model: str | None = flag("FOLDER|NAME|RUN", None)
    labels: str | None = flag("LABELS", None)
    detector: str | None = flag("FOLDER|NAME", None)
    size: tuple[int, int] | None = flag("HEIGHTxWIDTH", None)
    overwrite: bool = flag("", False)


@command
class Coded(Use):
    """Which images become codes.

    Attributes:
        images: Image files, or folders of them (read with their sub-folders).
    """

    images: Sequence[str] = argument("IMAGES [IMAGES ...]", ())
    size: tuple[int, int] | None = flag("HEIGHTxWIDTH", None)
    fit: Literal["pad", "crop", "exact"] = flag("{pad,crop,exact}", "pad")


@command
class Reconstruct(Coded):
    """Encodes images and decodes their codes, and writes the results as PNGs of the same names.

    The PSNR of each goes to stderr.

    Attributes:
        out: Where the results go.
        size: Resize and crop to this size first; by default every image keeps its size.
        fit: What to do with a size that the tokenizer's factor does not divide: pad and cut back, crop, or refuse.
        compare: Also write `comparison.png`: the first 32 images, each with its reconstruction to the right.
    """

    compare: bool = flag("", False)


@command
class Decode(Use):
    """Writes the images of codes that `vqgan encode` wrote, as PNGs of the original names.

    Attributes:
        model: The tokenizer that encoded them: a run folder or a weights file.
        codes: The folder with `codes.npy` and `codes.json`.
        batch_size: Images per batch.
    """

    codes: str = argument("CODES")
    batch_size: int = flag("N", 16, minimum=1)


@command
class Convert(Published):
    """Turns a published checkpoint into one `.safetensors` file with its configuration inside.

    Reads checkpoints of the original (with their YAML file), of LlamaGen and of latent diffusion's first stages, and
    diffusers folders. No code in a file is run.

    Attributes:
        checkpoint: The checkpoint, the folder that it was published in, or a diffusers folder; with `--to diffusers`
            any of ours.
        out: The file to write; with `--to diffusers` a folder.
        to: The format to write.
        keep_training_state: Keep the discriminator and the perceptual network, for fine-tuning with `--from`.
    """

    checkpoint: str = argument("CHECKPOINT")
    out: str = flag("PATH")
    to: Literal["vqgan", "diffusers"] = flag("{vqgan,diffusers}", "vqgan")
    keep_training_state: bool = flag("", False)


@command
class Download:
    """Fetches a published model (`vqgan models` lists them), converts it into one file of ours, and prints its path.

    One plain request for each file; checksums are compared where they are known. What was fetched is removed once it is
    converted, also when something fails.

    Attributes:
        name: The model.
        out: The file to write; by default `models/NAME.safetensors` in the cache ($VQGAN_CACHE), fetched once.
        keep_training_state: Keep the discriminator and the perceptual network, for fine-tuning with `--from`.
    """

    name: str = argument("NAME")
    out: str | None = flag("FILE", None)
    keep_training_state: bool = flag("", False)


@command
class Info(Published):
    """Prints what a weights file, an original checkpoint or a run folder holds; reads only its header.

    Attributes:
        path: A run folder, a weights file, or a published checkpoint.
    """

    path: str = argument("PATH")


@command
class Models:
    """Lists the published models, or shows all that is known of one, its architecture included.

    Attributes:
        name: The model to show.
    """

    name: str | None = argument("[NAME]", None)


@command
class Presets:
    """Lists the named runs, or prints one as YAML: the beginning of a run file of your own.

    Attributes:
        name: The preset to print, or a run file, completed by its preset.
    """

    name: str | None = argument("[PRESET]", None)


@command
class Doctor:
    """Shows versions, devices, optional packages and the cache, and checks that the device computes."""
