"""How much a training step of the tokenizer gains from passing through every network once.

The reference is the step as it is usually written, and as in the original, on the same networks: a forward pass of the
tokenizer for its own update and another for the discriminator's, the adaptive weight by two gradients at the last layer
through the perceptual network and the discriminator, and then the backward pass of each loss.

    python benchmarks/tokenizer_step.py [--quick] [--json PATH]
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from timing import compare, parse_arguments, peak_memory_row, print_peak_memory, report
from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.nn.perceptual import PerceptualNetwork
from vqgan.tokenizer import AutoencoderConfig, Tokenizer, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.adversary import DiscriminatorConfig
from vqgan.training.engine import Engine
from vqgan.training.losses import adaptive_weight, discriminator_loss
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.task import LoopConfig
from vqgan.training.tokenizer_task import (
    PerceptualConfig,
    TokenizerTask,
    TokenizerTaskConfig,
)
from vqgan.types import Batch

RATE, BETAS, WEIGHT = 1e-4, (0.5, 0.9), 0.8


class Networks:
    """Three networks and images, the same for both sides."""

    def __init__(self, *, quick: bool, device: torch.device) -> None:
        torch.manual_seed(0)
        self.side, self.batch = (32, 1) if quick else (128, 4)
        autoencoder = AutoencoderConfig(
            image_channels=3,
            base_channels=32 if quick else 64,
            channel_multipliers=(1, 1) if quick else (1, 2, 2),
            num_residual_blocks=1 if quick else 2,
            latent_channels=32 if quick else 128,
            resolution=self.side,
            attention_resolutions=(),
        )
        quantizer = VectorQuantizerConfig(codebook_size=1024, codebook_dim=64)
        self.tokenizer = Tokenizer(TokenizerConfig(autoencoder=autoencoder, quantizer=quantizer)).to(device)
        self.discriminator = PatchDiscriminator(
            base_channels=32 if quick else 64, num_layers=2 if quick else 3
        ).to(device)
        self.perceptual = PerceptualNetwork()
        for parameter in self.perceptual.parameters():  # their values do not affect the time
            torch.nn.init.uniform_(parameter, 0, 1e-2)
        self.perceptual.to(device)
        self.images = (torch.rand(self.batch, 3, self.side, self.side) * 2 - 1).to(device)


def ours(networks: Networks) -> Callable[[], object]:
    """A step of the task, as training runs it."""
    config = TokenizerTaskConfig(
        optimizer=OptimizerConfig(learning_rate=RATE, betas=BETAS),
        perceptual=PerceptualConfig(),
        discriminator=DiscriminatorConfig(weight=WEIGHT),
    )
    task = TokenizerTask(
        networks.tokenizer,
        config,
        loop=LoopConfig(steps=1, batch_size=networks.batch),
        engine=Engine(networks.images.device.type),
        seed=0,
        discriminator=networks.discriminator,
        perceptual=networks.perceptual,
    )
    batch = Batch(networks.images, {}, torch.arange(networks.batch))
    return lambda: task.train_step([batch], 0)


def reference(networks: Networks) -> Callable[[], object]:
    """The step written down loss by loss."""
    tokenizer, discriminator, images = (
        networks.tokenizer.train(),
        networks.discriminator.train(),
        networks.images,
    )
    adams = [
        torch.optim.Adam(network.parameters(), lr=RATE, betas=BETAS) for network in (tokenizer, discriminator)
    ]
    last = tokenizer.decoder.last_weight

    def step() -> Tensor:
        result = tokenizer(images)
        distance = (images - result.images).abs().mean() + networks.perceptual(images, result.images).mean()
        adversarial = -discriminator(result.images).mean()
        (pull,) = torch.autograd.grad(distance, last, retain_graph=True)
        (push,) = torch.autograd.grad(adversarial, last, retain_graph=True)
        weight = adaptive_weight(pull, push, scale=WEIGHT)
        adams[0].zero_grad()
        (distance + result.quantized.loss + weight * adversarial).backward()
        adams[0].step()
        reconstruction = tokenizer(images).images.detach()
        loss = discriminator_loss(discriminator(images), discriminator(reconstruction), kind="hinge")
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        return loss

    return step


SIDES = {"ours": ours, "reference": reference}


def main() -> None:
    if "--peak" in sys.argv:
        side, quick = SIDES[sys.argv[sys.argv.index("--peak") + 1]], "--quick" in sys.argv
        print_peak_memory(
            lambda: side(
                Networks(quick=quick, device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            )
        )
        return
    arguments = parse_arguments(__doc__.splitlines()[0])
    quick = arguments.quick
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [Networks(quick=quick, device=device) for _ in SIDES]
    work = f"tokenizer step, {networks[0].batch} x {networks[0].side}x{networks[0].side}"
    time_row = compare(
        work,
        ours=ours(networks[0]),
        reference=reference(networks[1]),
        amount=networks[0].batch,
        unit="images/s",
        repeats=2 if quick else 5,
    )
    memory_row = peak_memory_row(__file__, "ours", "reference", quick=quick)
    report([time_row, memory_row], quick=quick, path=arguments.json)


if __name__ == "__main__":
    main()
