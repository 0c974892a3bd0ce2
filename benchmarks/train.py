"""A training step of both stages beside the step as it is usually written, and as the original runs it.

The tokenizer: 64x64 pixels, base width 32, multipliers 1, 2, 4, batch 16, a discriminator and no perceptual network.
Its reference has the same layers in the default memory layout, with swish as ``x * sigmoid(x)`` and attention as two
products around a softmax; one forward pass for the generator's update and another, without gradients, for the
discriminator's; the adaptive weight by two gradients at the last layer; ``torch.optim.Adam`` as it comes. While one
network is updated, the other's parameters require no gradient.

The prior: 6 layers of width 512, 256 tokens of condition and 256 of image (511 are read), 1024 codes, batch 4. Its
reference has ``nn.Linear`` layers, attention as two products around a masked softmax, logits of all tokens, and
``torch.optim.AdamW`` as it comes. Both sides are given the codes.

    python benchmarks/train.py [--quick] [--compiled] [--json PATH]

On CPUs seconds are those of the processor, so that other programs count little; run it on one thread then
(``OMP_NUM_THREADS=1``). Where the processor or the card computes in bf16, two more rows compare our step in bf16 with
the reference in fp32. With ``--compiled`` our steps go through compiled code, which takes minutes to compile.
"""

import os
import sys
import time
from collections.abc import Callable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timing import Row, compare, parse_arguments, peak_memory_row, print_peak_memory, report
from vqgan.checkpoints.load import best_precision
from vqgan.conditioning import CoordinatesConfig
from vqgan.nn.convolution import ResidualBlock, SpatialAttention
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.prior import PriorConfig
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.compiled import compile_networks
from vqgan.training.engine import Engine
from vqgan.training.losses import adaptive_weight, discriminator_loss
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.prior_task import PriorTask, PriorTaskConfig
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import (
    DiscriminatorConfig,
    PerceptualConfig,
    TokenizerTask,
    TokenizerTaskConfig,
)
from vqgan.types import Batch

Step = Callable[[], object]

RATE, BETAS, WEIGHT = 1e-4, (0.5, 0.9), 0.8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time


def tokenizer_task(
    *, quick: bool, precision: str = "fp32", with_perceptual: bool = False
) -> tuple[TokenizerTask, Batch]:
    """Tokenizer, discriminator and images, the same for both sides; larger with a perceptual network."""
    torch.manual_seed(0)
    large, (side, batch) = with_perceptual, (128, 4) if with_perceptual else (64, 16)
    side, batch = (32, 1) if quick else (side, batch)
    autoencoder = AutoencoderConfig(
        image_channels=3,
        base_channels=64 if large and not quick else 32,
        channel_multipliers=(1, 1) if quick else (1, 2, 2) if large else (1, 2, 4),
        num_residual_blocks=1 if quick else 2,
        latent_channels=32 if quick else 128,
        resolution=side,
        attention_resolutions=() if large else (16,),
    )
    quantizer = VectorQuantizerConfig(codebook_size=1024, codebook_dim=64)
    tokenizer = Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)).to(DEVICE)
    sizes = {"base_channels": 32 if quick else 64, "num_layers": 3 if large and not quick else 2}
    perceptual = PerceptualNetwork().to(DEVICE) if with_perceptual else None
    for parameter in perceptual.parameters() if perceptual else ():  # their values do not affect the time
        nn.init.uniform_(parameter, 0, 1e-2)
    config = TokenizerTaskConfig(
        optimizer=OptimizerConfig(learning_rate=RATE, betas=BETAS),
        perceptual=PerceptualConfig() if with_perceptual else None,
        discriminator=DiscriminatorConfig(weight=WEIGHT, **sizes),
    )
    engine, loop = Engine(DEVICE.type, precision), LoopConfig(steps=1, batch_size=batch)
    images = (torch.rand(batch, 3, side, side) * 2 - 1).to(DEVICE)
    task = TokenizerTask(tokenizer, config, loop=loop, engine=engine, seed=0, perceptual=perceptual)
    return task, Batch(images, {}, torch.arange(batch))


def tokenizer_step(*, quick: bool, precision: str = "fp32", compiled: bool = False) -> Step:
    """A step of the task, as training runs it."""
    task, batch = tokenizer_task(quick=quick, precision=precision)
    if compiled:
        compile_networks(task.state.modules.values())
    return lambda: task.train_step([batch], 0)


def textbook_tokenizer_step(*, quick: bool) -> Step:
    """The step and its layers written down."""
    task, batch = tokenizer_task(quick=quick)
    for part in task.tokenizer.modules():
        if isinstance(part, ResidualBlock):
            part.forward = MethodType(_block, part)  # type: ignore[method-assign]
        if isinstance(part, SpatialAttention):
            part.forward = MethodType(_attention, part)  # type: ignore[method-assign]
    return textbook_update(task, batch)


def textbook_update(task: TokenizerTask, batch: Batch, *, freezes: bool = True) -> Step:
    """The step of these networks written down loss by loss; ``freezes`` the one that is not updated."""
    tokenizer, discriminator, images = task.tokenizer, task.adversary.network, batch.images
    adams = [torch.optim.Adam(each.parameters(), lr=RATE, betas=BETAS) for each in (tokenizer, discriminator)]
    last = tokenizer.decoder.last_weight

    def step() -> Tensor:
        if freezes:
            discriminator.requires_grad_(False)
            tokenizer.requires_grad_(True)
        result = tokenizer(images)
        distance, adversarial = (
            (images - result.images).abs().mean(),
            -discriminator(result.images.contiguous()).mean(),
        )
        if task.perceptual is not None:
            distance = distance + task.perceptual(images, result.images).mean()
        (pull,) = torch.autograd.grad(distance, last, retain_graph=True)
        (push,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        weight = adaptive_weight(pull, push, scale=WEIGHT)
        loss = distance + result.quantized.loss + weight * adversarial
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
        if freezes:
            discriminator.requires_grad_(True)
            tokenizer.requires_grad_(False)
        reconstruction = tokenizer(images).images.detach()
        loss = discriminator_loss(discriminator(images), discriminator(reconstruction), kind="hinge")
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        return loss

    return step


def _swish(features: Tensor) -> Tensor:
    return features * torch.sigmoid(features)


def _block(block: ResidualBlock, features: Tensor) -> Tensor:
    hidden = block.conv1(_swish(block.norm1(features)))
    hidden = block.conv2(block.dropout(_swish(block.norm2(hidden))))
    return block.shortcut(features) + hidden


def _attention(layer: SpatialAttention, features: Tensor) -> Tensor:
    normed = layer.norm(features)
    query, key, value = (part(normed).flatten(2) for part in (layer.query, layer.key, layer.value))
    scores = torch.bmm(query.transpose(1, 2), key) * query.shape[1] ** -0.5
    mixed = torch.bmm(value, scores.softmax(dim=2).transpose(1, 2))
    return features + layer.projection(mixed.view_as(features))


def prior_config(*, quick: bool) -> PriorConfig:
    """The sizes of the prior; as many tokens of condition as of the image."""
    side, depth, width = (4, 1, 32) if quick else (16, 6, 512)
    sizes = {"depth": depth, "width": width, "num_heads": 2 if quick else 8}
    return PriorConfig(codebook_size=1024, condition_size=1024, context_length=2 * side * side - 1, **sizes)


def codes(config: PriorConfig, *, quick: bool) -> Tensor:
    """Token grids of a batch."""
    side = int(((config.context_length + 1) // 2) ** 0.5)
    generator = torch.Generator().manual_seed(0)
    shape = (1 if quick else 4, side, side)
    return torch.randint(config.codebook_size, shape, generator=generator).to(DEVICE)


def prior_step(*, quick: bool, precision: str = "fp32", compiled: bool = False) -> Step:
    """A step of the task on codes that are known, as training runs it."""
    torch.manual_seed(0)
    config = prior_config(quick=quick)
    indices = codes(config, quick=quick)
    autoencoder = AutoencoderConfig(
        image_channels=3,
        base_channels=32,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        latent_channels=32,
        resolution=32,
        attention_resolutions=(),
        patch_size=2,
    )
    quantizer = VectorQuantizerConfig(codebook_size=config.codebook_size, codebook_dim=32)
    synthesizer = Synthesizer(
        SynthesizerConfig(
            tokenizer=TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer),
            conditioner=CoordinatesConfig(num_values=config.condition_size, downsample_factor=2),
            prior=config,
            window=(indices.shape[1], indices.shape[2]),
        )
    ).to(DEVICE)
    task = PriorTask(
        synthesizer,
        PriorTaskConfig(optimizer=OptimizerConfig(learning_rate=RATE, betas=BETAS, weight_decay=0.01)),
        loop=LoopConfig(steps=1, batch_size=len(indices)),
        engine=Engine(DEVICE.type, precision),
        seed=0,
    )
    if compiled:
        compile_networks(task.state.modules.values())
    images = torch.zeros(len(indices), 3, *(2 * side for side in indices.shape[1:]), device=DEVICE)
    batch = Batch(images, {}, torch.arange(len(indices)), indices=indices)
    return lambda: task.train_step([batch], 0)


class TextbookBlock(nn.Module):
    """Attention by a masked softmax, then the feed-forward part."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        width, context = config.width, config.context_length
        self.heads = config.num_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("unseen", torch.ones(context, context).tril() == 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (b n d)."""
        normed = self.norms[0](tokens)
        query, key, value = (
            part(normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        mixed = scores.masked_fill(self.unseen, float("-inf")).softmax(dim=3) @ value
        tokens = tokens + self.output(mixed.transpose(1, 2).flatten(2))
        return tokens + self.feed_forward(self.norms[1](tokens))


class TextbookPrior(nn.Module):
    """Tables, blocks, and logits of every token."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.codebook_size + config.condition_size, config.width)
        self.places = nn.Parameter(torch.zeros(1, config.context_length, config.width))
        self.blocks = nn.Sequential(*(TextbookBlock(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (b n K)."""
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.places)))


def textbook_prior_step(*, quick: bool) -> Step:
    """The step written down."""
    torch.manual_seed(0)
    config = prior_config(quick=quick)
    targets = codes(config, quick=quick).flatten(1)
    prior, count = TextbookPrior(config).to(DEVICE), targets.shape[1]
    condition = torch.arange(count, device=DEVICE).expand_as(targets) + config.codebook_size
    adam = torch.optim.AdamW(prior.parameters(), lr=RATE, betas=BETAS, weight_decay=0.01)

    def step() -> Tensor:
        logits = prior(torch.cat([condition, targets], dim=1)[:, :-1])[:, count - 1 :]
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[2]), targets.reshape(-1))
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss

    return step


SIDES = {
    "tokenizer": (tokenizer_step, textbook_tokenizer_step),
    "prior": (prior_step, textbook_prior_step),
}


def precisions() -> tuple[str, ...]:
    """Those that are measured here."""
    return ("fp32", "bf16") if best_precision(DEVICE) == "bf16" else ("fp32",)


def main() -> None:
    if "--peak" in sys.argv:
        stage, precision, side = sys.argv[sys.argv.index("--peak") + 1].split(",")
        quick, (ours, theirs) = "--quick" in sys.argv, SIDES[stage]
        print_peak_memory(
            lambda: ours(quick=quick, precision=precision) if side == "ours" else theirs(quick=quick)
        )
        return
    arguments = parse_arguments(__doc__.splitlines()[0], compiled="compile our steps; memory is not measured")
    quick, rows = arguments.quick, list[Row]()
    kinds = [(stage, precision) for stage in SIDES for precision in precisions()]
    more = {"clock": CLOCK.__name__, "load_before": [*os.getloadavg()]}
    for stage, precision in kinds:
        ours, theirs = SIDES[stage]
        row = compare(
            f"{stage} step, {'compiled, ' if arguments.compiled else ''}{precision}",
            ours=ours(quick=quick, precision=precision, compiled=arguments.compiled),
            reference=theirs(quick=quick),
            amount=1 if quick else {"tokenizer": 16, "prior": 4}[stage],
            unit="images/s",
            repeats=2 if quick else 5,
            clock=CLOCK,
        )
        rows.append(row)
        report(rows, quick=quick, path=arguments.json, more=more)
    for stage, precision in () if arguments.compiled else kinds:
        sides = (f"{stage},{precision},{side}" for side in ("ours", "reference"))
        work = f"{stage} step, {precision}: peak memory (less is better)"
        rows.append(peak_memory_row(__file__, *sides, quick=quick, work=work))
    report(rows, quick=quick, path=arguments.json, more=more)


if __name__ == "__main__":
    main()
