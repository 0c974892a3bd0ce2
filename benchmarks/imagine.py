"""A step of judging a picture by words, compared with the classic loop: 32 cut-outs, their embeddings, the gradient.

The judge has the sizes of CLIP ViT-B/32 and the tokenizer those of the published f16 models, with random weights; both
sides use the same. The reference is the step of the
well-known programs (VQGAN-CLIP): crops of random size one after another, each pooled to the judge's size, then kornia's
augmentations on all of them, and noise. Ours passes 8 cut-outs at a time, with the same gradient as all at once.
kornia is needed by this script alone: ``pip install kornia`` into an environment of its own.

    python benchmarks/imagine.py [--quick] [--json PATH]
"""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from streaming import MEGABYTE, Peak, anonymous, picture
from timing import Row, Timing, compare, parse_arguments, report
from vqgan.config import from_mapping
from vqgan.imagine import (
    CutOutConfig,
    ImagineConfig,
    Imagining,
    Prompt,
    Request,
    TextImageJudge,
    cut_outs,
    random_codes,
)
from vqgan.presets import find_preset
from vqgan.tokenizer import Tokenizer, TokenizerConfig

CUTS, CHUNK, SIZE, MEMORY = 32, 8, 224, int(7.2 * 2**30)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Backward = Callable[[Tensor], None]
"""Takes cut-outs with values in [-1, 1] and passes gradients back to them."""


def opened(*, quick: bool) -> TextImageJudge:
    """A judge with random weights."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=small, vision_config=small) if quick else CLIPConfig()
    processor = SimpleNamespace(
        image_mean=(0.481, 0.458, 0.408), image_std=(0.269, 0.261, 0.276), resample=3, do_center_crop=True
    )
    model = CLIPModel(config).to(DEVICE)
    return TextImageJudge(model, processor, tokenizer=SimpleNamespace(model_max_length=77))


def judging(*, quick: bool) -> Backward:
    """The squared angle between each cut-out's embedding and a text's, as the classic loop measures it."""
    judge = opened(quick=quick)
    text = nn.functional.normalize(torch.randn(1, judge.model.config.projection_dim), dim=1).to(DEVICE)

    def backward(cuts: Tensor) -> None:
        angles = ((judge.embed_images(cuts) - text).norm(dim=1) / 2).arcsin()
        (2 * angles.square().sum() / CUTS).backward()

    return backward


def plain(cuts: Tensor) -> None:
    """No judge: the same gradient for all values."""
    cuts.backward(torch.ones_like(cuts))


def ours(image: Tensor, backward: Backward) -> Callable[[], object]:
    config, numbers = CutOutConfig(count=CUTS), itertools.count()

    def step() -> None:
        number, image.grad = next(numbers), None
        for first in range(0, CUTS, CHUNK):
            cuts = cut_outs(image, config, size=SIZE, seed=0, step=number, first=first, count=CHUNK)
            backward(cuts[0])

    return step


def reference(image: Tensor, backward: Backward) -> Callable[[], object]:
    cut = crops(image)

    def step() -> None:
        image.grad = None
        backward(cut((image + 1) / 2) * 2 - 1)

    return step


def crops(image: Tensor) -> Callable[[Tensor], Tensor]:
    """How the classic loop cuts pictures of this shape, values in [0, 1]."""
    try:
        import kornia.augmentation as augmentations
    except ImportError:
        sys.exit("kornia, the other side of this benchmark, is not installed: `pip install kornia`")
    change = nn.Sequential(
        augmentations.RandomAffine(degrees=15, translate=(0.1, 0.1), shear=5, padding_mode="border", p=0.7),
        augmentations.RandomPerspective(0.7, p=0.7),
        augmentations.ColorJitter(0.1, 0.1, 0.1, 0.1, p=0.7),
        augmentations.RandomErasing((0.1, 0.4), (0.3, 1 / 0.3), same_on_batch=True, p=0.7),
    )
    mean, largest = nn.AdaptiveAvgPool2d(SIZE), nn.AdaptiveMaxPool2d(SIZE)
    whole, least = min(image.shape[2:]), min(*image.shape[2:], SIZE)

    def cut(values: Tensor) -> Tensor:
        found = []
        for _ in range(CUTS):
            side = int(torch.rand(()) * (whole - least) + least)
            top, left = (int(torch.randint(0, length - side + 1, ())) for length in image.shape[2:])
            crop = values[:, :, top : top + side, left : left + side]
            found.append((mean(crop) + largest(crop)) / 2)
        cuts = change(torch.cat(found))
        return cuts + cuts.new_empty(CUTS, 1, 1, 1).uniform_(0, 0.1) * torch.randn_like(cuts)

    return cut


SIDES = {"ours": ours, "reference": reference}


def prepared(side: str, pixels: int, backward: Backward) -> Callable[[], object]:
    return SIDES[side](picture(pixels).to(DEVICE).requires_grad_(), backward)


def whole(side: str, pixels: int, *, quick: bool) -> Callable[[], object]:
    """A step of the latents of a picture: decoding, judging, the gradient back to the latents, Adam."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(read_tokenizer(quick=quick)).to(DEVICE).eval().requires_grad_(False)
    judge = opened(quick=quick)
    codes = random_codes(tokenizer, tokenizer.grid_size(pixels), count=1, seed=0).to(DEVICE)
    text = nn.functional.normalize(torch.randn(1, 3, 8, 8), dim=1)
    if side == "ours":
        story = ((Prompt("asked for", image=text[0].clamp(-1, 1)),),)
        request = Request([story], codes)
        config = ImagineConfig(cut_outs=CutOutConfig(count=CUTS))
        return Imagining(tokenizer, judge, request=request, config=config, memory=MEMORY).step
    latents = tokenizer.quantizer.lookup(codes).clone().requires_grad_()
    optimizer, table = torch.optim.Adam([latents], lr=0.1), tokenizer.quantizer.codebook_vectors()
    low, high = (each.view(1, -1, 1, 1) for each in table.aminmax(dim=0))
    cut = crops(SimpleNamespace(shape=(1, 3, pixels, pixels)))
    asked = judge.embed_images(text.clamp(-1, 1).to(DEVICE)).detach()

    def step() -> None:
        optimizer.zero_grad()
        points = latents.permute(0, 2, 3, 1)
        distances = (
            points.square().sum(dim=-1, keepdim=True) + table.square().sum(dim=1) - 2 * points @ table.T
        )
        chosen = nn.functional.one_hot(distances.argmin(-1), len(table)).to(table) @ table
        image = tokenizer.decode_latents(latents + (chosen.permute(0, 3, 1, 2) - latents).detach())
        cuts = cut((image.clamp(-1, 1) + 1) / 2)
        angles = ((judge.embed_images(cuts * 2 - 1) - asked).norm(dim=1) / 2).arcsin()
        (2 * angles.square().mean()).backward()
        optimizer.step()
        latents.data.clamp_(low, high)

    return step


def read_tokenizer(*, quick: bool) -> TokenizerConfig:
    mapping = find_preset("laptop-tokenizer" if quick else "f16-tokenizer").mapping()["tokenizer"]
    return from_mapping(mapping, TokenizerConfig)


def print_peak(work: str, side: str, pixels: int, *, quick: bool) -> None:
    """The work of a separate process: what two steps add to its memory in MB, and their seconds."""
    made = (
        whole(side, pixels, quick=quick) if work == "whole" else prepared(side, pixels, judging(quick=quick))
    )
    step, before = made, anonymous()
    begun = time.perf_counter()
    with Peak() as peak:
        step()
        step()
    seconds = time.perf_counter() - begun
    most = torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else peak.bytes - before
    print(json.dumps([most / MEGABYTE, seconds]))


def memory_row(work: str, pixels: int, *, quick: bool) -> Row:
    found = {}
    for side in SIDES:
        command = [
            sys.executable,
            __file__,
            "--peak",
            work,
            side,
            str(pixels),
            *(["--quick"] if quick else []),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[side] = json.loads(done.stdout)
    return Row(
        work=f"peak memory of a {work} step beside the weights, {pixels}x{pixels} (less is better)",
        unit="MB",
        ours=found["ours"][0],
        reference=found["reference"][0],
        ratio=found["ours"][0] / found["reference"][0],
        ours_seconds=Timing(*[found["ours"][1]] * 3),
        reference_seconds=Timing(*[found["reference"][1]] * 3),
    )


def timed(work: str, sides: Mapping[str, Callable[[], object]], *, quick: bool) -> Row:
    return compare(work, **sides, amount=1, unit="steps/s", repeats=1 if quick else 5)


def main() -> None:
    if "--peak" in sys.argv:
        work, side, pixels = sys.argv[sys.argv.index("--peak") + 1 :][:3]
        print_peak(work, side, int(pixels), quick="--quick" in sys.argv)
        return
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    rows = []
    for pixels in (256,) if quick else (256, 1024):
        for work, backward in (("cut-outs alone", plain), ("cut-outs and judge", judging(quick=quick))):
            sides = {side: prepared(side, pixels, backward) for side in SIDES}
            rows.append(timed(f"{work}, {pixels}x{pixels}", sides, quick=quick))
        rows.append(memory_row("judging", pixels, quick=quick))
    for pixels in (32,) if quick else (256, 512, 1024):
        if pixels <= 256:
            sides = {side: whole(side, pixels, quick=quick) for side in SIDES}
            rows.append(timed(f"whole step, {pixels}x{pixels}", sides, quick=quick))
        rows.append(memory_row("whole", pixels, quick=quick))
    report(rows, quick=quick, path=arguments.json)


if __name__ == "__main__":
    main()
