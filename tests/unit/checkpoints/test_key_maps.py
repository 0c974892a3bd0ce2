import pytest
import torch

from vqgan.checkpoints.key_maps import DISCRIMINATOR_KEYS, PERCEPTUAL_KEYS, TOKENIZER_KEYS, rename
from vqgan.errors import CheckpointError


def test_numbers_are_kept_and_tensors_passed_on():
    tensor = torch.randn(2)
    renamed = rename({"decoder.up.3.block.2.nin_shortcut.bias": tensor}, TOKENIZER_KEYS)
    assert list(renamed) == ["decoder.levels.3.blocks.2.shortcut.bias"]
    assert renamed["decoder.levels.3.blocks.2.shortcut.bias"] is tensor


def test_running_statistics_belong_to_their_module():
    keys = [f"main.3.{leaf}" for leaf in ("running_mean", "num_batches_tracked")]
    renamed = rename(dict.fromkeys(keys, torch.zeros(1)), DISCRIMINATOR_KEYS)
    assert list(renamed) == ["layers.3.running_mean", "layers.3.num_batches_tracked"]


def test_unknown_keys_are_refused_counted_and_shown():
    state = {f"odd{i}.weight": torch.zeros(1) for i in range(7)} | {"quant_conv.bias": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        rename(state, TOKENIZER_KEYS)
    assert caught.value.message.startswith(
        "7 of 8 keys of the checkpoint are not known for this kind of model: `odd0.weight`, "
    )
    assert caught.value.message.endswith("`odd4.weight`, …")
    assert "configuration" in caught.value.hint


@pytest.mark.parametrize("table", [TOKENIZER_KEYS, DISCRIMINATOR_KEYS, PERCEPTUAL_KEYS])
def test_no_two_rows_lead_to_the_same_name(table):
    # The two kinds of codebook are never in one file; what is dropped has no name.
    own = {old: new for old, new in table.items() if old != "quantize.embed" and new}
    assert len(set(own.values())) == len(own)
    assert all(old.count("{}") == new.count("{}") for old, new in table.items())


def test_a_row_without_a_name_drops_its_tensors():
    state = {"a.0.mask": torch.zeros(1), "a.0.weight": torch.zeros(2)}
    renamed = rename(state, {"a.{}.mask": "", "a.{}": "b.{}"})
    assert list(renamed) == ["b.0.weight"]
