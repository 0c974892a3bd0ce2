"""What tiles cost in quality, and what large images need in memory and time.

Quality is that of a small tokenizer, trained for a few minutes here on the two photographs of scikit-learn: the
result in tiles is compared with the result of the same tokenizer without tiles. Memory and time are those of the
original's sizes with random weights, in a process of their own.

    python benchmarks/tiling.py [--quick] [--json PATH]
"""

import json
import math
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timing import environment, parse_arguments
from vqgan.checkpoints.zoo import model_config
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.tokenizer.stages import MOST_HALO, Stage, Work, decoder_stages, decoding, encoder_stages, encoding
from vqgan.tokenizer.tiling import decode_within, encode_within, run_in_tiles, spans

MEGABYTE = 1_000_000
BUDGET = 1_800 * MEGABYTE
"""What 2048x2048 pixels are given, beside the aim of 2 GB above the weights."""


def trained(*, seconds: float) -> tuple[Tokenizer, list[Tensor]]:
    """A tokenizer of 4 M parameters, f8, that has seen two photographs for some time, and the photographs."""
    from sklearn.datasets import load_sample_images

    photographs = [torch.tensor(array).permute(2, 0, 1) / 127.5 - 1 for array in load_sample_images().images]
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(
        image_channels=3,
        base_channels=32,
        channel_multipliers=(1, 2, 4),
        num_residual_blocks=2,
        latent_channels=64,
        resolution=256,
        attention_resolutions=(32,),
        patch_size=2,
    )
    quantizer = VectorQuantizerConfig(codebook_size=512, codebook_dim=16)
    tokenizer = Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer))
    tokenizer.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(tokenizer.parameters(), betas=(0.9, 0.99))
    begun = time.perf_counter()
    step, share = 0, 0.0
    while share < 1:
        crops = torch.stack([_crop(photographs[step % 2], 64) for _ in range(4)])
        optimizer.param_groups[0]["lr"] = 6e-4 * min(1, (step + 1) / 30) * max(0.02, 1 - share)
        loss = F.l1_loss(tokenizer.decode_latents(tokenizer.latents(crops)), crops)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step, share = step + 1, (time.perf_counter() - begun) / seconds
    with torch.no_grad():  # the codes are latents of the photographs
        latents = tokenizer.latents(torch.stack([_crop(photographs[i % 2], 256) for i in range(8)]))
        points = latents.permute(0, 2, 3, 1).flatten(0, 2)
        tokenizer.quantizer.codebook.weight.copy_(points[torch.randperm(len(points))[:512]])
    print(f"trained {step} steps, mean absolute error {loss.item():.3f} of the range -1 to 1")
    return tokenizer.eval(), photographs


def _crop(image: Tensor, side: int) -> Tensor:
    top, left = (int(torch.randint(length - side + 1, ())) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def psnr(images: Tensor, others: Tensor) -> float:
    return 10 * math.log10(4 / max(1e-12, float((images - others).square().mean())))


def seam_energy(difference: Tensor, cuts: list[int]) -> float:
    """The mean absolute step of the error across the middles of overlaps, relative to all steps; 1 = no seam."""
    steps = [difference.diff(dim=axis).abs() for axis in (2, 3)]
    across = [steps[0][:, :, [cut - 1 for cut in cuts]], steps[1][:, :, :, [cut - 1 for cut in cuts]]]
    mean = sum(float(each.mean()) for each in steps)
    return sum(float(each.mean()) for each in across) / max(mean, 1e-12)


def quality(tokenizer: Tokenizer, photograph: Tensor, side: int, *, quick: bool) -> list[dict[str, Any]]:
    """Decoding and encoding with the border at each change of resolution, several tiles and halos."""
    square = photograph[None, :, :, :427]
    image = F.interpolate(square, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
    indices, latents = tokenizer.encode(image), tokenizer.latents(image)
    decoded = tokenizer.decode(indices)
    rows = []
    for tile in (side // 2, side // 4):
        for stages, encodes in ((decoder_stages(tokenizer), False), (encoder_stages(tokenizer), True)):
            for border in _borders(stages, encodes):
                tiled = stages[:border] if encodes else stages[border:]
                position = max(tiled[0].side, tiled[-1].result_side)
                whole_halo = math.ceil(min(sum(stage.reach for stage in tiled) / position, MOST_HALO))
                if tile // position + 2 * whole_halo >= side // position:
                    continue  # a single tile
                for halo in [whole_halo] if quick else sorted({whole_halo // 2, whole_halo}):
                    begun = time.perf_counter()
                    parts = spans(side // position, tile // position + 2 * halo, halo)
                    if encodes:
                        hidden = run_in_tiles(tiled, image, tile // position + 2 * halo, halo)
                        for stage in stages[border:]:
                            hidden = stage.run(hidden)
                        same = float((tokenizer.quantizer.encode(hidden) == indices).float().mean())
                        result = {"codes_equal": same, "psnr": _signal(hidden, latents)}
                    else:
                        hidden = tokenizer.quantizer.lookup(indices)
                        for stage in stages[:border]:
                            hidden = stage.run(hidden)
                        hidden = run_in_tiles(tiled, hidden, tile // position + 2 * halo, halo)
                        cuts = [(a[1] + b[0]) // 2 * position for a, b in pairwise(parts)]
                        result = {
                            "psnr": psnr(hidden, decoded),
                            "seam": seam_energy(hidden - decoded, cuts),
                            "seam_of_image": seam_energy(hidden, cuts),
                            "seam_untiled": seam_energy(decoded, cuts),
                        }
                    row = {
                        "work": "encode" if encodes else "decode",
                        "side": side,
                        "tiled_from": position,
                        "attention_in_tiles": any(math.isinf(stage.reach) for stage in tiled),
                        "tile": parts[0][1] * position,
                        "halo": halo * position,
                        "default": halo == whole_halo,
                        **result,
                        "seconds": time.perf_counter() - begun,
                    }
                    rows.append(row)
                    print(json.dumps(_short(row)), flush=True)
    return rows


def _borders(stages: list[Stage], encodes: bool) -> list[int]:
    """Where the resolution changes, and one with everything in tiles."""
    changes = [
        i for i, stage in enumerate(stages) if stage.side != stage.result_side and 1 < i < len(stages) - 1
    ]
    return [i + 1 for i in changes] + [len(stages)] if encodes else [1, *changes]


def _signal(values: Tensor, others: Tensor) -> float:
    """Signal to error in dB."""
    return 10 * math.log10(float(others.var()) / max(1e-12, float((values - others).square().mean())))


def _short(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def peak(side: int, memory: int, precision: str) -> dict[str, Any]:
    """A reconstruction by the original's sizes in a process of its own; ``memory`` 0 is without tiles."""
    command = [sys.executable, __file__, "--peak", str(side), str(memory), precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(_short(row)), flush=True)
    return row


@torch.no_grad()
def print_peak(side: int, memory: int, precision: str) -> None:
    """The work of that process."""
    config = model_config("vqgan_imagenet_f16_1024")
    assert isinstance(config, TokenizerConfig)
    torch.manual_seed(0)
    tokenizer = Tokenizer(config).eval().to(getattr(torch, precision))
    tokenizer.decode(tokenizer.encode(torch.zeros(1, 3, 32, 32)))  # libraries load what they need
    smooth = F.interpolate(torch.rand(1, 3, 16, 16), (side, side), mode="bicubic").clamp(0, 1) * 2 - 1
    image_bytes = smooth.numel() * smooth.element_size()
    before = _resident("VmRSS") - image_bytes  # the image counts
    works: tuple[Work, Work] = (
        encoding(tokenizer, (side, side), count=1, image_number=4),
        decoding(tokenizer, (side, side), count=1),
    )
    begun = time.perf_counter()
    indices = encode_within(tokenizer, smooth, memory) if memory else tokenizer.encode(smooth)
    encoded, encode_peak = time.perf_counter(), _resident("VmHWM") - before
    result = decode_within(tokenizer, indices, memory) if memory else tokenizer.decode(indices)
    row = {
        "work": f"{side}x{side} {precision}" + (" in tiles" if memory else " without tiles"),
        "weights_mb": sum(p.numel() * p.element_size() for p in tokenizer.parameters()) / MEGABYTE,
        "budget_mb": memory / MEGABYTE,
        "encode_peak_mb": encode_peak / MEGABYTE,
        "peak_mb": (_resident("VmHWM") - before) / MEGABYTE,
        "untiled_estimate_encode_mb": (works[0].outside + works[0].each) / MEGABYTE,
        "untiled_estimate_decode_mb": (works[1].outside + works[1].each) / MEGABYTE,
        "encode_seconds": encoded - begun,
        "decode_seconds": time.perf_counter() - encoded,
        "finite": bool(result.isfinite().all()),
    }
    print(json.dumps(row))


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text(encoding="ascii").split(f"{field}:")[1].split()[0])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


@torch.no_grad()
def measure(tokenizer: Tokenizer, photographs: list[Tensor], *, quick: bool) -> list[dict[str, Any]]:
    sides = (128,) if quick else (512, 1024)
    return [row for side in sides for row in quality(tokenizer, photographs[0], side, quick=quick)]


def main() -> None:
    if "--peak" in sys.argv:
        side, memory, precision = sys.argv[sys.argv.index("--peak") + 1 :][:3]
        print_peak(int(side), int(memory), precision)
        return
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    rows = measure(*trained(seconds=3 if quick else 180), quick=quick)
    if quick:
        peaks = [peak(128, 0, "float32"), peak(256, 120 * MEGABYTE, "float32")]
    else:
        peaks = [peak(1024, 0, "float32"), peak(1024, 600 * MEGABYTE, "float32")]
        peaks += [peak(2048, BUDGET, "float32")]
    if arguments.json is not None:
        record = {"quick": quick, "environment": environment(), "quality": rows, "memory": peaks}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
