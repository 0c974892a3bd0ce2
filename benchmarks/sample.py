"""Sampling, compared with the original's loop and with the cached generation of Hugging Face, on the same weights.

A prior of 6 layers, 8 heads, width 512 and 1024 codes with random weights. The original reads its whole window
again for each token and takes the logits of every place; it is stopped after a few tokens, as each costs the same. The
share of the limit is what our side would take at the measured bandwidth and arithmetic of the machine (``limits.py``).

    python benchmarks/sample.py [--quick] [--json PATH] [--long] [--half]

``--long`` measures only the large grids (half an hour on two cores), ``--half`` only bf16 against fp32.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limits import Limits, Work, grid_works, limit_seconds, measure_limits, plan_works
from timing import Row, compare, report
from vqgan.nn import product as products
from vqgan.prior import Prior, PriorConfig
from vqgan.sampling import (
    SamplingSettings,
    fill_grids,
    plan_windows,
    sample_grid,
    sample_sliding,
    window_start,
)
from vqgan.sampling.settings import keep_top_k

TOP_K = 250
CURVE = (16, 24, 32, 48, 64, 96, 128)


def make_prior(side: int, depth: int, width: int, device: torch.device) -> Prior:
    """A prior with one table for codes and conditions, as Hugging Face's has."""
    torch.manual_seed(0)
    config = PriorConfig(
        codebook_size=1024,
        condition_size=1024,
        context_length=2 * side * side - 1,
        depth=depth,
        width=width,
        num_heads=8,
        vocabulary="shared",
    )
    prior = Prior(config).eval().to(device)
    torch.nn.init.normal_(prior.transformer.positions, std=0.02)
    return prior


@torch.no_grad()
def original_loop(
    prior: Prior, condition: Tensor, grid: tuple[int, int], side: int, tokens: int, *, is_spatial: bool
) -> None:
    """The original's window: each drawn token reads all its tokens and computes all its logits."""
    batch, (rows, columns) = len(condition), grid
    indices = torch.zeros(batch, rows, columns, dtype=torch.int64, device=condition.device)
    for cell in range(tokens):
        row, column = divmod(cell, columns)
        top, left = window_start(row, rows, side), window_start(column, columns, side)
        cut = (slice(None), slice(top, top + side), slice(left, left + side))
        seen = condition.view(batch, rows, columns)[cut].flatten(1) if is_spatial else condition
        logits = prior(indices[cut].flatten(1), seen)[:, (row - top) * side + column - left]
        drawn = torch.multinomial(keep_top_k(logits, TOP_K).softmax(dim=-1), 1)
        indices[:, row, column] = drawn[:, 0]


def hugging_face(prior: Prior) -> Callable[[Tensor, int], Tensor]:
    """GPT-2 with the weights of the prior; checks that its logits are the same."""
    from transformers import GPT2Config, GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    config, device = prior.config, prior.head.weight.device
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.codebook_size,
            n_positions=config.context_length,
            n_embd=config.width,
            n_layer=config.depth,
            n_head=config.num_heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    inner, state = model.transformer, prior.state_dict()
    named = {"wte.weight": "token_embedding.weight", "ln_f.weight": "transformer.norm.weight"}
    named["ln_f.bias"] = "transformer.norm.bias"
    weights = {theirs: state[ours] for theirs, ours in named.items()}
    weights["wpe.weight"] = state["transformer.positions"][0]
    for layer in range(config.depth):
        ours, theirs = f"transformer.blocks.{layer}", f"h.{layer}"
        for kind in ("weight", "bias"):
            turned = (lambda t: t.t()) if kind == "weight" else (lambda t: t)
            joint = [state[f"{ours}.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"{theirs}.attn.c_attn.{kind}"] = turned(torch.cat(joint))
            weights[f"{theirs}.attn.c_proj.{kind}"] = turned(state[f"{ours}.attention.output.{kind}"])
            weights[f"{theirs}.mlp.c_fc.{kind}"] = turned(state[f"{ours}.feed_forward.0.{kind}"])
            weights[f"{theirs}.mlp.c_proj.{kind}"] = turned(state[f"{ours}.feed_forward.2.{kind}"])
            weights[f"{theirs}.ln_1.{kind}"] = state[f"{ours}.attention_norm.{kind}"]
            weights[f"{theirs}.ln_2.{kind}"] = state[f"{ours}.feed_forward_norm.{kind}"]
    missing, unexpected = inner.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.endswith((".attn.bias", ".masked_bias")) for name in missing)
    model.lm_head.weight.data.copy_(state["head.weight"])
    model = model.eval().to(device=device, dtype=prior.head.weight.dtype)
    sequence = torch.arange(20, device=device)[None]
    with torch.no_grad():
        near = 1e-4 if prior.head.weight.dtype == torch.float32 else 2e-2
        expected = prior(sequence, sequence[:, :1])
        found = model(torch.cat([sequence[:, :1], sequence[:, :-1]], dim=1)).logits
        torch.testing.assert_close(found, expected, rtol=near, atol=near)

    @torch.no_grad()
    def generate(condition: Tensor, total: int) -> Tensor:
        lengths = {"min_new_tokens": total, "max_new_tokens": total}
        return model.generate(
            condition,
            do_sample=True,
            top_k=TOP_K,
            pad_token_id=0,
            attention_mask=torch.ones_like(condition),
            **lengths,
        )

    return generate


@contextmanager
def public_products() -> Iterator[None]:
    """Every product through ``torch.nn.functional.linear``."""
    kept = products.has_onednn, products.is_split
    products.has_onednn = products.is_split = lambda tensor: False
    try:
        yield
    finally:
        products.has_onednn, products.is_split = kept


class Bench:
    """The prior, its sizes, and the rows measured with it."""

    def __init__(self, *, quick: bool, device: torch.device, dtype: torch.dtype) -> None:
        self.side, depth, width = (4, 2, 64) if quick else (16, 6, 512)
        self.prior = make_prior(self.side, depth, width, device).to(dtype)
        self.name = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
        self.repeats, self.device = (2 if quick else 5), device
        self.limits: Limits = measure_limits(device, dtype)
        self.element = torch.empty(0, dtype=dtype).element_size()
        self.reference_tokens = 8

    def condition(self, batch: int, count: int) -> Tensor:
        """Random condition tokens."""
        generator = torch.Generator().manual_seed(1)
        return torch.randint(1024, (batch, count), generator=generator).to(self.device)

    def limit(self, works: list[Work]) -> float:
        """Seconds at the machine's limit."""
        return limit_seconds(self.prior.config, works, self.limits, element=self.element)

    def grid(self, batch: int, reference: str, *, public: bool = False) -> Row:
        """One window with as many condition tokens, compared with one of the references."""
        total = self.side * self.side
        condition = self.condition(batch, total)
        indices = torch.zeros(batch, self.side, self.side, dtype=torch.int64, device=self.device)

        def ours() -> Tensor:
            arguments = (self.prior, condition, indices, indices.bool())
            if not public:
                return sample_grid(*arguments, settings=SamplingSettings(top_k=TOP_K))
            with public_products():
                return sample_grid(*arguments, settings=SamplingSettings(top_k=TOP_K))

        grid, few = (self.side, self.side), self.reference_tokens
        if reference == "original":
            other = partial(original_loop, self.prior, condition, grid, self.side, few, is_spatial=True)
        else:
            generate = hugging_face(self.prior)
            other = partial(generate, condition, total)
        way = ", public products" if public else ""
        return compare(
            f"{self.side}x{self.side}, {total} condition, batch {batch}{way}, {self.name}, {reference}",
            ours=ours,
            reference=other,
            amount=batch * total,
            reference_amount=batch * (few if reference == "original" else total),
            unit="tokens/s",
            repeats=self.repeats,
            limit_seconds=self.limit(grid_works(batch, total, total)),
        )

    def sliding(self, rows: int, columns: int, *, is_spatial: bool, repeats: int | None = None) -> Row:
        """A large grid, compared with the original's loop."""
        condition = self.condition(1, rows * columns if is_spatial else 1)
        indices = torch.zeros(1, rows, columns, dtype=torch.int64, device=self.device)
        window, m = (self.side, self.side), self.side**2 if is_spatial else 1
        plan = plan_windows(np.zeros((rows, columns), dtype=bool), window, condition=m)
        few = self.reference_tokens

        def ours() -> Tensor:
            return sample_sliding(
                self.prior,
                condition,
                indices,
                indices.bool(),
                window=window,
                lengths=(None,) if is_spatial else (1,),
                settings=SamplingSettings(top_k=TOP_K),
            )

        return compare(
            f"{rows}x{columns}, {m} condition, sliding, {self.name}, original",
            ours=ours,
            reference=partial(
                original_loop, self.prior, condition, (rows, columns), self.side, few, is_spatial=is_spatial
            ),
            amount=rows * columns,
            reference_amount=few,
            unit="tokens/s",
            repeats=repeats or self.repeats,
            limit_seconds=self.limit(plan_works(plan, 1)),
            warm=rows * columns <= 1024,
        )


def half_rows(quick: bool, device: torch.device) -> list[Row]:
    """Our own sampling in bf16 and fp32, even if the processor has no bf16 products."""
    side, depth, width = (4, 2, 64) if quick else (16, 6, 512)
    priors = [make_prior(side, depth, width, device).to(dtype) for dtype in (torch.bfloat16, torch.float32)]
    works: list[tuple[str, int, tuple[int, int]]] = [
        (f"{side}x{side}, one image", 1, (side, side)),
        (f"{side}x{side}, 8 images", 8, (side, side)),
        (f"{2 * side}x{2 * side}, 1 condition, sliding", 1, (2 * side, 2 * side)),
    ]
    rows = []
    for name, batch, grid in works:
        indices = torch.zeros(batch, *grid, dtype=torch.int64, device=device)
        start = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        half, single = (
            partial(
                fill_grids,
                prior,
                start,
                indices,
                indices.bool(),
                window=(side, side),
                lengths=(1,),
                settings=SamplingSettings(top_k=TOP_K),
                memory=2**32,
            )
            for prior in priors
        )
        rows.append(
            compare(
                f"{name}, bf16, fp32",
                ours=half,
                reference=single,
                amount=indices.numel(),
                unit="tokens/s",
                repeats=2 if quick else 5,
            )
        )
    return rows


def computes_bf16() -> bool:
    """Whether the processor multiplies bf16 natively; assumed not if it cannot be asked."""
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, question, lambda: False)() for question in questions)


def counted(side: int, sizes: list[tuple[int, int]]) -> list[dict[str, float | str]]:
    """Token passes and sequential steps of grids, ours and the original's."""
    lines: list[dict[str, float | str]] = []
    for rows, columns in sizes:
        for condition in (side * side, 1):
            plan = plan_windows(np.zeros((rows, columns), dtype=bool), (side, side), condition=condition)
            original = rows * columns * (condition + side * side - 1)
            lines.append(
                {
                    "grid": f"{rows}x{columns}",
                    "condition": condition,
                    "passes": plan.passes,
                    "passes_original": original,
                    "ratio": original / plan.passes,
                    "per_token": plan.passes / (rows * columns),
                    "most_per_token": max(r.passes for step in plan.steps for r in step),
                    "steps": len(plan.steps),
                    "steps_original": rows * columns,
                }
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script runs")
    parser.add_argument("--json", type=Path, help="write rows and environment to this file")
    parser.add_argument("--long", action="store_true", help="only the large grids")
    parser.add_argument("--half", action="store_true", help="only bf16 against fp32")
    arguments = parser.parse_args()
    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if on_cuda else "cpu")
    has_bf16 = on_cuda or computes_bf16()
    rows: list[Row] = []
    limits = {}
    for dtype in (torch.float32, torch.bfloat16) if has_bf16 else (torch.float32,):
        bench = Bench(quick=arguments.quick, device=device, dtype=dtype)
        limits[bench.name] = vars(bench.limits)
        side, double, wide = bench.side, 2 * bench.side, 8 * bench.side
        if arguments.long or arguments.quick:
            rows += [bench.sliding(double, wide, is_spatial=spatial) for spatial in (True, False)]
            rows += [bench.sliding(4 * side, 4 * side, is_spatial=True, repeats=1)]
        if not (arguments.long or arguments.half):
            rows += [bench.grid(1, "original"), bench.grid(1, "Hugging Face"), bench.grid(8, "Hugging Face")]
            rows += [bench.grid(batch, "Hugging Face", public=True) for batch in (1, 8)]
            rows += [bench.sliding(double, double, is_spatial=spatial) for spatial in (True, False)]
    if arguments.half or arguments.quick:
        rows += half_rows(arguments.quick, device)
    sizes = [(number * side // 16,) * 2 for number in CURVE]
    passes = counted(side, [*sizes, (double, wide)])
    report(rows, quick=arguments.quick, path=arguments.json, more={"limits": limits, "passes": passes})
    head = ("grid", "condition", "passes", "original", "ratio", "a token", "most", "steps")
    print("\n{:>8} {:>9} {:>9} {:>9} {:>6} {:>8} {:>5} {:>6}".format(*head))
    for line in passes:
        print(
            f"{line['grid']:>8} {line['condition']:>9} {line['passes']:>9} {line['passes_original']:>9} "
            f"{line['ratio']:>6.2f} {line['per_token']:>8.1f} {line['most_per_token']:>5} {line['steps']:>6}"
        )
    if not has_bf16:
        print("no bf16 rows: this processor computes bf16 in software")


if __name__ == "__main__":
    main()
