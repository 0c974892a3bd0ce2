"""Do samples of a variational autoencoder blur where those of codes and a prior do not? On the frames of the demo.

The demo's tokenizer and prior beside a variational autoencoder (Kingma and Welling 2014): encoder and decoder of the
same sizes, 16 numbers with a Gaussian posterior in each cell, trained with the same loss of pixels for as many steps.
Its posterior is held to the bits that the codes take, ten for each cell: the weight of the divergence from N(0, 1) is
on how far it is from that (Burgess et al. 2018). No discriminator; the demo's joins for the last 200 steps.

Each is decoded from what it makes of held-out frames, and from draws. *Independent* draws know nothing of other cells:
codes by their frequencies, and N(0, 1). Draws that know of other cells are the prior's, and those of one Gaussian with
mean and covariance of all latents of 3,000 training frames. Measured: PSNR; detail (the energy of the finest details as
a share of that of held-out frames); and the Frechet distance from held-out frames in the features of a classifier of
the rooms. *Pairs* is the share of frames whose reconstruction has less fine detail than the frame: a viewer that looks
at this one number, and says which of two is the original, is right so often. *Seen* is the share of pixels whose
colour differs by more than 2.3 in CIELAB, a just noticeable difference.

python benchmarks/vae.py --demo runs/demo --work FOLDER [--quick] [--json PATH] [--seeds N]

What is in FOLDER is not trained again. It needs the extra `demo`.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vqgan
from cells import Numbers, arguments, measured, room_frames, silent, table, write
from rates import visible
from recipes import judge
from vqgan.classifier import Classifier
from vqgan.demo.measures import decode_grids, encode_frames
from vqgan.evaluation.psnr import detail_energy, pixels_psnr
from vqgan.evaluation.sets import frechet_distance
from vqgan.images import to_float, to_uint8
from vqgan.synthesizer import Synthesizer
from vqgan.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder
from vqgan.training.losses import pixel_loss

STEPS, BATCH, WARMUP, RATE, WIDTH, HELD = 2900, 4, 50, 2e-3, 16, 0.1
COUNT = 512
"""Frames that are measured, and pictures that are drawn."""

Pictures = np.ndarray


class Variational(nn.Module):
    """Encoder and decoder around Gaussian latents.

    Args:
        sizes: Of both.
        bits: Of each cell.
    """

    def __init__(self, sizes: AutoencoderConfig, bits: float) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)
        self.to_latents = nn.Conv2d(sizes.latent_channels, 2 * WIDTH, 1)
        self.from_latents = nn.Conv2d(WIDTH, sizes.latent_channels, 1)
        self.nats = bits * math.log(2)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation (b d h w), and the divergence from N(0, 1) of each cell, in nats (b h w)."""
        mean, variance = self.to_latents(self.encoder(images)).chunk(2, dim=1)
        variance = variance.clamp(-12, 4)  # its logarithm
        nats = 0.5 * (mean.square() + variance.exp() - 1 - variance).sum(dim=1)
        return mean, (variance / 2).exp(), nats

    def decode(self, latents: Tensor) -> Tensor:
        """Images."""
        return self.decoder(self.from_latents(latents))

    def loss(self, images: Tensor) -> Tensor:
        """Of pixels, as in the demo, and of the bits."""
        mean, deviation, nats = self.posterior(images)
        shown = self.decode(mean + deviation * torch.randn_like(mean))
        pixels = pixel_loss(images, shown, kind="l1+l2", hard_share=0.05)
        return pixels + HELD * (nats.mean() - self.nats).abs()


def fit(
    folder: Path, seed: int, *, sizes: AutoencoderConfig, frames: Pictures, bits: float, steps: int
) -> Variational:
    """Trains one, unless it was trained for this cell."""
    torch.manual_seed(seed)
    model, path = Variational(sizes, bits), folder.parent / "variational.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    optimizer = torch.optim.Adam(model.parameters(), RATE, (0.8, 0.9))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    draws = np.random.default_rng(seed)
    for _ in range(steps):
        loss = model.loss(to_float(frames[draws.integers(len(frames), size=BATCH)]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model.eval()


class Viewer:
    """What is measured of pictures.

    Args:
        reader: The classifier of rooms.
        frames: Held-out frames.
    """

    def __init__(self, reader: Classifier, frames: Pictures) -> None:
        self.reader, self.frames = reader, frames
        self.features = self.seen(frames)

    @torch.no_grad()
    def seen(self, pictures: Pictures) -> Tensor:
        """The classifier's features."""
        return torch.cat([self.reader.features(to_float(part)) for part in np.array_split(pictures, 16)])

    @staticmethod
    def details(pictures: Pictures) -> np.ndarray:
        """The energy of the finest details of each."""
        images = torch.from_numpy(pictures).movedim(3, 1).double()
        return np.array([float(detail_energy(each[None])) for each in images])

    def numbers(self, pictures: Pictures, *, rebuilt: bool) -> Numbers:
        """Of reconstructions of the frames, or of draws."""
        details, own = self.details(pictures), self.details(self.frames)
        found = {
            "distance": frechet_distance(self.seen(pictures), self.features),
            "detail": float(details.sum() / own.sum()),
        }
        if rebuilt:
            found["psnr"] = pixels_psnr(self.frames, pictures)
            found["pairs"] = float((details < own).mean())
            found["seen"] = float(np.mean([*map(visible, self.frames, pictures)]))
        return found


def in_parts(of: Callable[[Tensor], Tensor], values: Tensor) -> Pictures:
    """Images as 8-bit pictures, computed in batches."""
    with torch.no_grad():
        return np.concatenate([to_uint8(of(part).clamp(-1, 1)).numpy() for part in values.split(64)])


def gaussian(
    folder: Path,
    seed: int,
    *,
    viewer: Viewer,
    train: Pictures,
    sizes: AutoencoderConfig,
    bits: float,
    steps: int,
) -> Numbers:
    """All rows of one variational autoencoder; each number's name begins with its row."""
    model = fit(folder, seed, sizes=sizes, frames=train, bits=bits, steps=steps)
    generator = torch.Generator().manual_seed(seed)

    def latents(pictures: Pictures) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            parts = [model.posterior(to_float(part)) for part in np.array_split(pictures, 32)]
        mean, deviation, nats = (torch.cat(each) for each in zip(*parts, strict=True))
        return mean, deviation, nats

    mean, deviation, nats = latents(viewer.frames)
    noise, other = torch.randn(2, *mean.shape, generator=generator)
    known, spread, _ = latents(train)
    middle = known.mean(dim=0)
    weights = torch.randn(len(mean), len(known), generator=generator) / math.sqrt(len(known) - 1)
    drawn = middle + ((weights @ (known - middle).flatten(1)).view_as(mean))
    rows = {
        "reconstruction": (mean + deviation * noise, True),
        "mean of the posterior": (mean, True),
        "independent": (noise, False),
        "one Gaussian": (drawn + spread.square().mean(dim=0).sqrt() * other, False),
    }
    found = {"bits": float(nats.mean() / math.log(2))}
    for name, (values, rebuilt) in rows.items():
        numbers = viewer.numbers(in_parts(model.decode, values), rebuilt=rebuilt)
        found |= {f"{name}: {key}": value for key, value in numbers.items()}
    return found


def codes(_: Path, seed: int, *, viewer: Viewer, train: Pictures, model: Synthesizer) -> Numbers:
    """All rows of the demo's two stages."""
    tokenizer, draws, count = model.tokenizer, np.random.default_rng(seed), len(viewer.frames)
    grids = encode_frames(tokenizer, viewer.frames, silent)
    known = encode_frames(tokenizer, train, silent)
    independent = draws.choice(known.ravel(), size=grids.shape)
    drawn = [
        to_uint8(model.sample(min(64, count - start), seed=seed * count + start).clamp(-1, 1)).numpy()
        for start in range(0, count, 64)
    ]
    rows = {
        "reconstruction": (decode_grids(tokenizer, grids, silent), True),
        "independent": (decode_grids(tokenizer, independent, silent), False),
        "prior": (np.concatenate(drawn), False),
    }
    found = {"bits": math.log2(tokenizer.codebook_size)}
    for name, (pictures, rebuilt) in rows.items():
        numbers = viewer.numbers(pictures, rebuilt=rebuilt)
        found |= {f"{name}: {key}": value for key, value in numbers.items()}
    return found


def real(_: Path, __: int, *, viewer: Viewer, sets: dict[str, Pictures]) -> Numbers:
    """Sets of frames: what draws could reach."""
    return {
        f"{name}: {key}": value
        for name, pictures in sets.items()
        for key, value in viewer.numbers(pictures, rebuilt=False).items()
    }


def main() -> None:
    """Trains, measures, prints the table and writes the numbers."""
    parser = arguments(__doc__)
    parser.add_argument("--demo", type=Path, required=True)
    given = parser.parse_args()
    frames = room_frames(64 if given.quick else 3000).without_seen()
    count = min(COUNT, len(frames.heldout) // 2)
    judge(given.work / "judge", frames, *(("training.steps=4",) if given.quick else ()))
    reader, model = (vqgan.load(path, device="cpu") for path in (given.work / "judge", given.demo / "prior"))
    assert isinstance(reader, Classifier), "a classifier's run holds one"
    assert isinstance(model, Synthesizer), "a prior's run holds one"
    viewer = Viewer(reader, frames.heldout[:count])
    sizes = model.tokenizer.config.autoencoder
    assert sizes is not None, "the demo's tokenizer has layers"
    sets = {"held out": frames.heldout[count : 2 * count], "training": frames.train[:count]}
    shared = {"viewer": viewer, "train": frames.train}
    bits = math.log2(model.tokenizer.codebook_size)
    cells: dict[str, Callable[[Path, int], Numbers]] = {
        "codes": partial(codes, model=model, **shared),
        "Gaussian": partial(gaussian, sizes=sizes, bits=bits, steps=4 if given.quick else STEPS, **shared),
        "frames": partial(real, viewer=viewer, sets=sets),
    }
    rows: dict[str, list[Numbers]] = {}
    for seed in range(1 if given.quick else given.seeds):
        for name, cell in cells.items():
            own = dict[str, Numbers]()
            for key, value in measured(given.work, name, seed, cell).items():
                row, _, number = key.rpartition(": ")
                own.setdefault(f"{name}, {row}".rstrip(", "), {})[number] = value
            for row, numbers in own.items():
                rows.setdefault(row, []).append(numbers)
    print(table({name: found for name, found in rows.items() if "distance" in found[0]}))
    write(given, rows)


if __name__ == "__main__":
    main()
