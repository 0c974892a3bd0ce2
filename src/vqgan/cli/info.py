"""``vqgan info``: what a file or run folder holds."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import nn

from vqgan.checkpoints.diffusers import weights_files
from vqgan.checkpoints.format import Header, Model
from vqgan.checkpoints.load import find_header
from vqgan.checkpoints.run_folder import RunFolder
from vqgan.classifier import Classifier
from vqgan.cli import commands
from vqgan.cli.lists import print_described
from vqgan.conditioning import Text
from vqgan.denoiser import Denoiser
from vqgan.errors import printable
from vqgan.nn.convolution import Downsample, SpatialAttention, Upsample
from vqgan.prior.transformer import Attention
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer import Tokenizer
from vqgan.tokenizer.autoencoder import Decoder, Encoder


def info(flags: commands.Info) -> None:
    """Reads the header and prints it."""
    file, header, model = find_header(Path(flags.path), flags.config, flags.set)
    print_described(_rows(file, header, model), model.config)


def _rows(file: Path, header: Header, model: Model) -> Iterator[tuple[str, str]]:
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
    yield from _sizes(model)
    counts: Counter[str] = Counter()
    for name, shape in header.shapes.items():
        counts[name.partition(".")[0]] += math.prod(shape)
    yield "parameters", ", ".join(f"{part} {count:,}" for part, count in counts.items())
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    yield "memory", f"{weights / 1e6:.1f} MB of weights in fp32, half of it in bf16 or fp16"
    if not isinstance(model, Tokenizer) or model.config.autoencoder is not None:
        yield "compute", _compute(model)


def _sizes(model: Model) -> Iterator[tuple[str, str]]:
    """What the model takes and gives."""
    if isinstance(model, Classifier):
        yield "images", f"{'x'.join(map(str, model.config.image_size))} pixels; others are resized"
        yield "classes", _shown(model.config.class_names)
        return
    if isinstance(model, Denoiser):
        yield (
            "images",
            f"{model.image_channels} channels, sides that {model.config.encoder.downsample_factor} divides",
        )
        return
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    yield "codebook", f"{tokenizer.codebook_size} codes, {tokenizer.downsample_factor} pixels per token side"
    if names := tokenizer.config.label_names:
        yield "labels", _shown(names)
    if isinstance(model, Synthesizer):
        rows, columns = model.config.window
        factor = tokenizer.downsample_factor
        yield "window", f"{rows}x{columns} tokens, {rows * factor}x{columns * factor} pixels"
        null = ", or none; takes `--guidance`" if model.config.has_null_tokens else ""
        yield "condition", model.conditioner.name + null
        for text in (part.config for part in model.conditioner.parts if isinstance(part, Text)):
            reader = text.encoder and f"read by `{printable(text.encoder)}`"
            words = reader or f"vocabulary of {text.vocabulary_size} tokens"
            yield "text", f"{words}, {text.max_tokens} for each text"


def _shown(names: Sequence[str]) -> str:
    return f"{len(names)}: " + ", ".join(map(printable, names[:8])) + ", ..." * (len(names) > 8)


def _compute(model: Model) -> str:
    """Floating-point operations of each network for one image of the size it was made for."""
    if isinstance(model, Classifier | Denoiser):
        side = model.config.encoder.resolution
        height, width = model.config.image_size if isinstance(model, Classifier) else (side, side)
        positions = height * width // model.encoder.patch_size**2
        return f"GFLOP for {height}x{width} pixels: {_operations([model.encoder], positions) / 1e9:.3g}"
    prior = model if isinstance(model, Synthesizer) else None
    tokenizer = model.tokenizer if isinstance(model, Synthesizer) else model
    factor, sizes = tokenizer.downsample_factor, tokenizer.config.autoencoder
    side = factor if sizes is None else sizes.resolution
    rows, columns = prior.config.window if prior else (side // factor, side // factor)
    encoder, decoder, tokens = tokenizer.encoder, tokenizer.decoder, rows * columns
    parts = {}
    if isinstance(encoder, Encoder) and isinstance(decoder, Decoder):
        way_back = [tokenizer.from_codebook, decoder.input_conv, decoder.middle, *reversed(decoder.levels)]
        entered = tokens * (factor // encoder.patch_size) ** 2
        parts["encoder"] = _operations([encoder, tokenizer.to_codebook], entered)
        parts["decoder"] = _operations([*way_back, decoder.output_conv], tokens)
    if prior is not None:
        read = prior.conditioner.config.num_tokens((rows, columns)) + tokens - 1
        parts["prior"] = _operations([prior.prior.transformer], read) + _operations(
            [prior.prior.head], tokens
        )
    text = ", ".join(f"{name} {count / 1e9:.3g}" for name, count in parts.items())
    return f"GFLOP for {rows * factor}x{columns * factor} pixels: {text}"


def _operations(parts: Iterable[nn.Module], positions: int) -> int:
    """Two for each product of a convolution, a linear layer or attention; norms and the like do not count.

    Args:
        parts: What is passed one after the other.
        positions: Of the first one's input.
    """
    products = 0
    for layer in (layer for part in parts for layer in part.modules()):
        match layer:
            case Downsample():
                positions //= 4
            case Upsample():
                positions *= 4
            case nn.Conv2d() | nn.Linear():
                products += positions * layer.weight.numel()
            case Attention() | SpatialAttention():
                products += 2 * positions**2 * layer.query.weight.shape[0]
    return 2 * products
