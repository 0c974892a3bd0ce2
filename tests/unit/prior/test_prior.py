import pytest
import torch

from vqgan.errors import ConfigError
from vqgan.prior import Group, Prior, PriorConfig

SIZES = {
    "codebook_size": 11,
    "condition_size": 5,
    "context_length": 12,
    "depth": 2,
    "width": 8,
    "num_heads": 2,
}


def make(**changes):
    torch.manual_seed(0)
    places = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    prior = Prior(PriorConfig(**{**SIZES, **changes}), places).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return prior


def inputs(batch=3, tokens=9, conditions=2):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randint(11, (batch, tokens), generator=generator),
        torch.randint(5, (batch, conditions), generator=generator),
    )


def test_logits_depend_on_earlier_tokens_only():
    prior, (tokens, condition) = make(), inputs()
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    before, after = prior(tokens, condition), prior(changed, condition)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.isclose(before[:, 5:], after[:, 5:]).all(dim=-1).any()


@pytest.mark.parametrize("positions", ["learned", "rotary", "relative_bias"])
def test_the_last_layer_computes_only_what_predicts_the_image(positions):
    prior, (tokens, condition) = make(positions=positions), inputs(tokens=9, conditions=4)
    rows = []
    prior.transformer.blocks[-1].feed_forward.register_forward_hook(
        lambda _, given, __: rows.append(given[0])
    )
    logits = prior(tokens, condition)
    group = Group(prior.entries(tokens[:, :-1], condition))
    torch.testing.assert_close(logits, prior.read([group], only_last=False).unflatten(0, (3, 12))[:, 3:])
    assert [len(each) for each in rows] == [3 * 9, 3 * 12]


def test_log_probability_is_the_sum_worked_out_by_hand():
    prior, (tokens, condition) = make(), inputs()
    expected = torch.zeros(3, dtype=torch.float64)
    for image in range(3):
        for position in range(9):
            logits = prior(tokens[image : image + 1, : position + 1], condition[image : image + 1])[
                0, position
            ]
            expected[image] += logits[tokens[image, position]] - logits.exp().sum().log()
    found = prior.log_probability(tokens, condition)
    assert found.shape == (3, 9)
    torch.testing.assert_close(found.sum(dim=1), expected)


def test_all_sequences_together_have_probability_one():
    prior = make(codebook_size=3, condition_size=1)
    sequences = torch.cartesian_prod(*[torch.arange(3)] * 4)
    log_probability = prior.log_probability(sequences, torch.zeros(81, 1, dtype=torch.int64)).sum(dim=1)
    torch.testing.assert_close(log_probability.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


def test_log_probability_scores_the_tokens_but_reads_others_if_told():
    prior, (tokens, condition) = make(), inputs()
    read = (tokens + 1) % 11
    expected = prior(read, condition).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(prior.log_probability(tokens, condition, read=read), expected)


def test_separate_vocabulary_keeps_condition_rows_apart():
    prior, (tokens, condition) = make(), inputs()
    prior(tokens, condition).sum().backward()
    gradient = prior.token_embedding.weight.grad
    assert gradient.shape == (16, 8)
    used = set(gradient.abs().sum(dim=1).nonzero().flatten().tolist())
    assert used == set(tokens[:, :-1].flatten().tolist()) | {11 + c for c in condition.flatten().tolist()}


def test_shared_vocabulary_reads_class_3_as_code_3():
    prior, (tokens, condition) = make(vocabulary="shared"), inputs()
    assert prior.token_embedding.weight.shape == (11, 8)
    joined = torch.cat([condition, tokens], dim=1)
    torch.testing.assert_close(prior(tokens, condition), prior(joined[:, 1:], joined[:, :1])[:, 1:])


def test_weights_start_as_in_gpt_2():
    torch.manual_seed(0)
    prior = Prior(PriorConfig(**{**SIZES, "width": 64}))
    for name, parameter in prior.named_parameters():
        if name.endswith(("bias", "positions")):
            assert not parameter.any(), name
        elif "norm" in name:
            assert bool((parameter == 1).all()), name
        else:
            assert 0.017 < float(parameter.detach().std()) < 0.023, name
    assert prior.head.bias is None


def test_bf16_autocast_stays_near_fp32():
    prior, (tokens, condition) = make().float(), inputs()
    expected = prior(tokens, condition).detach()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(prior(tokens, condition).float(), expected, rtol=0.05, atol=0.15)
        assert prior.log_probability(tokens, condition).dtype == torch.float32


def test_too_long_a_sequence_is_refused():
    prior, (tokens, condition) = make(), inputs(tokens=12)
    with pytest.raises(ConfigError, match=r"13 tokens .* expected at most `context_length` = 12"):
        prior(tokens, condition)


def test_a_sequence_without_condition_is_refused():
    with pytest.raises(ConfigError, match="no condition token"):
        make()(inputs()[0], torch.zeros(3, 0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "`depth` is 0, expected at least 1"),
        ({"depth": 10**9}, "`depth` is 1000000000, expected at most 1024"),
        ({"width": 9}, "`width` is 9, expected a multiple of `num_heads` = 2"),
        ({"dropout": 1.0}, "`dropout` is 1.0"),
        ({"vocabulary": "shared", "condition_size": 12}, "a shared vocabulary has only 11 entries"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        PriorConfig(**{**SIZES, **changes})
