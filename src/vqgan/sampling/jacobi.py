"""Fills a token grid in fewer passes: a block of guesses is read in one pass, and correct guesses are kept.

With the noise of every token fixed, sampling is a function of the tokens before: iterating it over a block of guesses
(Jacobi's method) reaches the one grid that token-by-token sampling gives (Song et al. 2021, "Accelerating Feedforward
Computation via Parallel Nonlinear Equation Solving"). It pays where the next tokens are often easy to guess.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqgan.prior import Group, KVCache, Prior, TokenOrder, make_reader, to_tokens, token_positions
from vqgan.sampling.random import GridNoise, check_seed
from vqgan.sampling.sampler import grid_noise, undrawn, whole_grid
from vqgan.sampling.settings import SamplingSettings, choose_tokens
from vqgan.types import ConditionTokens, Indices, Known, OnProgress, behind


@torch.no_grad()
def sample_grid_jacobi(  # noqa: D417 (the other arguments are explained where they come from)
    prior: Prior,
    condition_tokens: ConditionTokens,
    indices: Indices,
    known: Known,
    *,
    settings: SamplingSettings,
    token_order: TokenOrder = "raster",
    on_progress: OnProgress | None = None,
) -> Indices:
    """Gives the grid of :func:`~vqgan.sampling.sampler.sample_grid`, in fewer passes; arguments not named here are its.

    Args:
        settings: How tokens are drawn; ``jacobi`` of each image are guessed and read in one pass.
        on_progress: Called after each pass; ``values`` has the number of ``passes`` so far.

    Raises:
        ConfigError: As there.
    """
    batch, rows, columns = indices.shape
    count, total, before = batch // settings.branches, rows * columns, condition_tokens.shape[1] - 1
    prior.check_length(before + total)
    check_seed(settings.seed, count)
    cells = token_positions(token_order, (rows, columns)).to(indices.device)
    drawn, fixed = torch.where(known, indices, -1), to_tokens(known, token_order)
    if not (places := undrawn(fixed)):
        return drawn
    start, end = places[0], places[-1] + 1
    sequences, above = to_tokens(drawn, token_order)[:, :end].tolist(), _places_above(cells, columns)
    reader, passes = make_reader(prior), 0
    images = [
        _Image(
            tokens=sequences[i],
            fixed=fixed[i].tolist(),
            above=above,
            condition=behind(condition_tokens[i::count], prior.condition_offset),
            block=settings.jacobi or 1,
            place=start,
            cache=reader.new_cache(settings.branches, before + end),
            noise=grid_noise(prior, indices[i::count], replace(settings, seed=settings.seed + i)),
            drawn=drawn[i].view(total),
        )
        for i in range(count)
    ]
    if before + start:  # what is given is read by itself: of guesses all logits are made
        reader.read([image.read_to(before + start) for image in images])
        passes = 1
    while waiting := [image for image in images if image.place < end]:
        groups = [image.guess() for image in waiting]
        logits = reader.read(groups, only_last=False)
        for image, rows_of in zip(waiting, logits.split([g.entries.numel() for g in groups]), strict=True):
            image.accept(rows_of, cells[:end], settings, of=total)
        passes, done = passes + 1, sum(image.place for image in images) // count
        if on_progress is not None:
            on_progress(whole_grid(drawn, done if done < end else total, {"passes": float(passes)}))
    drawn[count:] = drawn[: batch - count]
    return drawn


@dataclass
class _Image:
    """One image on its way.

    Attributes:
        tokens: Those that are certain, then guesses, then -1; in the prior's order, up to the last that is to be drawn.
        fixed: Which of them are given.
        above: For each token the place of the one above it in the image, or -1.
        condition: Rows of the embedding table that stand in front; with guidance also the null tokens'.
        block: How many tokens are guessed in one pass.
        place: How many tokens are certain.
        cache: What was read of tokens that are certain.
        noise: That of this image.
        drawn: Its cells, where tokens that are certain are written.
    """

    tokens: list[int]
    fixed: list[bool]
    above: list[int]
    condition: Int[Tensor, "branches m"]
    block: int
    place: int
    cache: KVCache
    noise: GridNoise
    drawn: Int[Tensor, " total"]

    def guess(self) -> Group:
        """What is read next: what the cache lacks, up to the last but one token of the next block."""
        end = min(self.place + self.block, len(self.tokens))
        for place in range(self.place, end):
            if self.tokens[place] < 0:
                above = self.above[place]
                source = above if 0 <= above < place else place - 1
                self.tokens[place] = self.tokens[source] if source >= 0 else 0
        return self.read_to(self.condition.shape[1] + end - 1)

    def read_to(self, length: int) -> Group:
        """What the cache lacks of the first ``length`` tokens, condition included."""
        tokens = self.condition.new_tensor([self.tokens]).expand(len(self.condition), -1)
        sequence = torch.cat([self.condition, tokens], dim=1)
        return Group(sequence[:, self.cache.length : length], self.cache)

    def accept(
        self,
        logits: Float[Tensor, "rows K"],
        cells: Int[Tensor, " end"],
        settings: SamplingSettings,
        *,
        of: int,
    ) -> None:
        """Takes what follows each token that was read: certain up to the first wrong guess, better guesses after it."""
        first, is_certain = self.place, True
        here = cells[first : first + self.block]
        noise = None if settings.is_greedy else self.noise.at_cells(here)
        wanted = logits.unflatten(0, (len(self.condition), -1))[:, -len(here) :].transpose(0, 1)
        places = torch.arange(first, first + len(here), device=here.device)
        chosen = choose_tokens(wanted, settings, noise, place=places, of=of)[:, 0].tolist()
        for place, token in enumerate(chosen, start=first):
            guess = self.tokens[place]
            self.tokens[place] = guess if self.fixed[place] else token
            self.place += is_certain
            is_certain = is_certain and self.tokens[place] == guess
        certain = self.drawn.new_tensor(self.tokens[first : self.place])
        self.drawn[cells[first : self.place]] = certain
        self.cache.go_back(self.condition.shape[1] + self.place - 1)


def _places_above(cells: Int[Tensor, " total"], columns: int) -> list[int]:
    """For each token of the sequence the place of the token one row above it in the image; -1 in the first row."""
    place_of = cells.argsort()
    return torch.where(cells >= columns, place_of[(cells - columns).clamp(min=0)], -1).tolist()
