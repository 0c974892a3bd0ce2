"""How much the key-value cache saves: one new token a step against a whole pass for every token.

The reference is the original's sampling loop on the same weights: a pass over everything so far, logits of
every position, then temperature, top-k, softmax and a multinomial draw.

    python benchmarks/sample.py [--quick] [--json PATH]
"""

import torch
from torch import Tensor

from timing import compare, parse_arguments, report
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import Decoding, sample_grid
from vqgan.sampling.filters import keep_top_k

TOP_K = 100


def uncached(prior: Prior, condition_tokens: Tensor, total: int) -> Tensor:
    """Samples ``total`` tokens with a whole pass for each of them."""
    tokens = condition_tokens[:, :0]
    next_token = torch.zeros_like(condition_tokens[:, :1])
    for _ in range(total):
        # The last token is never read: it only asks for the logits of its place.
        logits = prior(torch.cat([tokens, next_token], dim=1), condition_tokens)[:, -1]
        drawn = torch.multinomial(keep_top_k(logits, TOP_K).softmax(dim=-1), 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    side, depth, width, batches, repeats = (
        (6, 2, 64, (1, 2), 2) if arguments.quick else (16, 4, 256, (1, 4), 5)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=1024,
        condition_size=1,
        context_length=side * side,
        depth=depth,
        width=width,
        num_heads=8,
    )
    prior = Prior(config).eval().to(device)
    rows = []
    for batch in batches:
        condition_tokens = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        indices = torch.zeros(batch, side, side, dtype=torch.int64, device=device)
        known = torch.zeros_like(indices, dtype=torch.bool)

        def ours(
            condition: Tensor = condition_tokens, grid: Tensor = indices, mask: Tensor = known
        ) -> Tensor:
            return sample_grid(prior, condition, grid, mask, decoding=Decoding(top_k=TOP_K))

        @torch.no_grad()
        def reference(condition: Tensor = condition_tokens) -> Tensor:
            return uncached(prior, condition, side * side)

        rows.append(
            compare(
                f"{side}x{side} tokens, {depth} layers of {width}, batch {batch}",
                ours=ours,
                reference=reference,
                amount=batch * side * side,
                unit="tokens/s",
                repeats=repeats,
            )
        )
    report(rows, quick=arguments.quick, path=arguments.json)


if __name__ == "__main__":
    main()
