"""``vqgan info``: what a file or run folder holds."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from vqgan.checkpoints.diffusers import weights_files
from vqgan.checkpoints.format import Header, Model
from vqgan.checkpoints.load import find_header
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.cli import commands
from vqgan.cli.lists import print_described
from vqgan.synthesizer import Synthesizer


def info(flags: commands.Info) -> None:
    """Reads the header and prints it."""
    file, header, model = find_header(Path(flags.path), flags.config, flags.set)
    print_described(_rows(file, header, model), model.config)


def _rows(file: Path, header: Header, model: Model) -> Iterator[tuple[str, str]]:
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    yield "file", str(file)
    yield "holds", header.kind
    digest = f", digest {header.digest[:12]}" if header.digest else ""
    steps = f", after {header.step} steps" if header.step else ""  # most others do not say
    yield "weights", f"{header.weights}{steps}{digest}"
    yield "written by", header.version if header.version[0].isalpha() else f"vqgan {header.version}"
    if header.inferred:
        yield "sizes", "inferred from the tensors, which do not tell `resolution`"
    if header.training:
        yield "beside them", f"for training: {', '.join(sorted(header.training))}"
    saved = RunFolder(file.parent).numbers()
    if saved:
        yield "run", f"{file.parent}, can be continued from step {saved[-1]}"
    stored = weights_files(file) if file.is_dir() else [file]
    yield "size", f"{sum(each.stat().st_size for each in stored) / 1e6:.1f} MB"
    yield "codebook", f"{tokenizer.codebook_size} codes, {tokenizer.downsample_factor} pixels per token side"
    if isinstance(model, Synthesizer):
        rows, columns = model.config.window
        factor = tokenizer.downsample_factor
        yield "window", f"{rows}x{columns} tokens, {rows * factor}x{columns * factor} pixels"
        yield "condition", model.conditioner.name
    counts: Counter[str] = Counter()
    for name, shape in header.shapes.items():
        counts[name.partition(".")[0]] += math.prod(shape)
    yield "parameters", ", ".join(f"{part} {count:,}" for part, count in counts.items())
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    yield "memory", f"{weights / 1e6:.1f} MB of weights in fp32, half of it in bf16 or fp16"
    yield "compute", _compute(model)


def _compute(model: Model) -> str:
    """Floating-point operations of each network for one image of the size it was made for, as PyTorch counts them."""
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    side = tokenizer.config.autoencoder.resolution // tokenizer.downsample_factor
    grid = model.config.window if isinstance(model, Synthesizer) else (side, side)
    size = [side * tokenizer.downsample_factor for side in grid]
    with torch.device("meta"):  # as the model itself: only shapes are computed
        images = torch.empty(1, tokenizer.image_channels, *size)
        latents = torch.empty(1, tokenizer.config.quantizer.codebook_dim, *grid)
        tokens = torch.empty(1, math.prod(grid), dtype=torch.int64)
    networks: dict[str, Callable[[], object]] = {
        "encoder": lambda: tokenizer.latents(images),
        "decoder": lambda: tokenizer.decode_latents(latents),
    }
    if isinstance(model, Synthesizer):
        steered = tokens.new_empty(1, model.conditioner.config.num_tokens(grid))
        networks["prior"] = lambda: model.prior(tokens, steered)
    counts = []
    for name, compute in networks.items():
        with FlopCounterMode(display=False) as counter:
            compute()
        counts.append(f"{name} {counter.get_total_flops() / 1e9:.3g}")
    return f"GFLOP for {size[0]}x{size[1]} pixels: {', '.join(counts)}"
