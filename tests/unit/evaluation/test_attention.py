"""The weights of attention: what a layer gathers is their sum of its values, and without queries all are equal."""

import math

import numpy as np
import pytest
import torch

from tiny import tokenizer_config
from vqgan.conditioning import ClassLabelConfig, CoordinatesConfig
from vqgan.evaluation.attention import attention_figure, attention_weights, looks_of
from vqgan.prior import LocalSpan, Prior, PriorConfig, local, sequence_places
from vqgan.synthesizer import Synthesizer, SynthesizerConfig

CODES, GRID = 16, (3, 4)
SPAN = LocalSpan(rows=1, columns=1)
CHOICES = [
    {},
    {"positions": "rotary", "norm": "rms", "query_key_norm": True},
    {"positions": "relative_bias"},
    {"positions": "rotary", "span": SPAN},
    {"positions": "relative_bias", "span": SPAN},
]


def make(lengths, **choices):
    torch.manual_seed(0)
    steering = sum(12 if length is None else length for length in lengths)
    config = PriorConfig(
        codebook_size=CODES,
        condition_size=3,
        context_length=steering + 11,
        **{"depth": 2, "width": 16, "num_heads": 2, **choices},
    )
    prior = Prior(config, sequence_places("raster", GRID, lengths), lengths=lengths).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return prior, torch.randint(CODES, (2, 12)), torch.randint(3, (2, steering))


def seen_from_outside(prior, run):
    """The values of each layer, and what it gathers, in a pass in which nothing else is watched."""
    values, gathered = [], []
    for block in prior.transformer.blocks:
        block.attention.value.register_forward_hook(lambda _, __, output: values.append(output))
        block.attention.output.register_forward_pre_hook(lambda _, given: gathered.append(given[0]))
    with torch.no_grad():
        run()
    return values, gathered


@pytest.mark.parametrize("most", [1200, 4], ids=["whole", "tiles"])
@pytest.mark.parametrize("lengths", [(1,), (2,), (None, 1)], ids=str)
@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_weights_times_values_are_what_a_layer_gathers(choices, lengths, most, monkeypatch):
    monkeypatch.setattr(local, "_MAX_DENSE", most)
    prior, tokens, condition = make(lengths, **choices)
    asked = [0, 5, 11]
    weights, reading = attention_weights(prior, tokens, condition, GRID, asked)
    assert (reading is None) == ("span" not in choices)
    torch.testing.assert_close(weights.sum(dim=4), torch.ones(2, 2, 2, 3, dtype=torch.float64))
    values, gathered = seen_from_outside(prior, lambda: prior(tokens, condition, GRID))
    for own, value, mixed in zip(weights, values, gathered, strict=True):
        mixed = mixed.view(2, -1, 2, 8)
        rows = [
            mixed.shape[1] - 12 + each if reading is None else int(reading.targets[each]) for each in asked
        ]
        expected = torch.einsum("bhqe,behc->bqhc", own, value.view(2, -1, 2, 8))
        torch.testing.assert_close(mixed[:, rows], expected)


def test_weights_are_the_softmax_of_queries_and_keys():
    prior, tokens, condition = make((2,), depth=1)
    weights, _ = attention_weights(prior, tokens, condition, GRID, [3, 7])
    layer, entries = prior.transformer.blocks[0], prior.entries(tokens[:, :-1], condition)
    rows = layer.attention_norm(prior.token_embedding(entries) + prior.transformer.positions)
    queries, keys = (part(rows).view(2, 13, 2, 8) for part in (layer.attention.query, layer.attention.key))
    for number, token in enumerate((3, 7)):
        seen = token + 2
        scores = torch.einsum("bhc,bkhc->bhk", queries[:, seen - 1], keys[:, :seen]) / math.sqrt(8)
        torch.testing.assert_close(weights[0, :, :, number, :seen], scores.softmax(dim=-1))
        assert not weights[0, :, :, number, seen:].any()


def test_a_pass_after_it_is_as_before():
    prior, tokens, condition = make((1,))
    before = prior(tokens, condition)
    attention_weights(prior, tokens, condition, GRID, [1])
    assert torch.equal(prior(tokens, condition), before)


def synthesizer(conditioner, **choices):
    """With queries and biases of zero: each token looks equally at all that it sees."""
    torch.manual_seed(0)
    order = choices.pop("order", "raster")
    prior = PriorConfig(
        codebook_size=CODES,
        condition_size=conditioner.vocabulary_size,
        context_length=conditioner.num_tokens(GRID) + 11,
        **{"depth": 2, "width": 16, "num_heads": 2, **choices},
    )
    model = Synthesizer(
        SynthesizerConfig(
            tokenizer=tokenizer_config(), conditioner=conditioner, prior=prior, window=GRID, token_order=order
        )
    ).eval()
    for block in model.prior.transformer.blocks:
        for part in block.attention.query.parameters():
            torch.nn.init.zeros_(part)
    return model


def looks(model, cells, condition=None):
    indices = torch.randint(CODES, (2, *GRID))
    return looks_of(model, indices, condition, cells, memory=1 << 30)


@pytest.mark.parametrize("order", ["raster", "alternate"])
def test_without_queries_a_token_looks_equally_at_all_before_it(order):
    model = synthesizer(ClassLabelConfig(num_classes=3), order=order)
    found = looks(model, [(1, 1)], {"class": 1})
    assert not found.condition.any()
    before = 5 if order == "raster" else 6
    seen = torch.zeros(GRID)
    seen[0], seen[1, (slice(1) if order == "raster" else slice(2, 4))] = 1, 1
    expected = (seen / (before + 1)).expand(2, 2, 1, *GRID)  # the class is one more
    torch.testing.assert_close(found.image, expected)


def test_a_condition_of_cells_has_a_map_of_its_own():
    found = looks(synthesizer(CoordinatesConfig(num_values=5, downsample_factor=4)), [(0, 0), (2, 3)])
    torch.testing.assert_close(found.condition[:, :, 0], torch.full((2, 2, *GRID), 1 / 12))
    torch.testing.assert_close(found.condition[:, :, 1], torch.full((2, 2, *GRID), 1 / 23))
    assert not found.image[:, :, 0].any()
    assert found.image[0, 0, 1].count_nonzero() == 11
    torch.testing.assert_close(found.image.sum(dim=(3, 4))[0, 0], torch.tensor([0.0, 11 / 23]))


@pytest.mark.parametrize("most", [1200, 4], ids=["whole", "tiles"])
def test_with_a_local_span_a_token_looks_at_its_neighbours(most, monkeypatch):
    monkeypatch.setattr(local, "_MAX_DENSE", most)
    model = synthesizer(ClassLabelConfig(num_classes=3), span=SPAN, positions="rotary")
    found = looks(model, [(1, 2), (1, 0)], {"class": [0, 2]})
    expected = torch.zeros(2, *GRID)
    expected[0, 0, 1:4], expected[0, 1, 1] = 1 / 4, 1 / 4
    expected[1, 0, :2] = 1 / 4  # and the starts of both rows, which have no cell
    torch.testing.assert_close(found.image, expected.expand(2, 2, *expected.shape))


def test_the_figure_has_a_row_for_each_token_and_shows_where_it_looks():
    found = looks(synthesizer(ClassLabelConfig(num_classes=3), depth=6), [(1, 1), (2, 0)], {"class": 1})
    pictures = [np.full((12, 16, 1), 100, np.uint8)] * 2
    drawn = attention_figure(pictures, found, [(1, 1), (2, 0)])
    # The picture and four of six layers, six times as large, each below a line of 12 pixels.
    assert drawn.shape == (4 * (6 * 12 + 12 + 8) + 4, 5 * (6 * 16 + 4) + 4, 3)
    colours = np.unique(drawn.reshape(-1, 3), axis=0).tolist()
    assert [255, 150, 0] in colours  # where a token looks most
    assert [255, 0, 80] in colours  # the frame
    assert [40, 40, 40] in colours  # where it does not look
