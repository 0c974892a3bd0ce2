import pytest
import torch
from torch.testing import assert_close

from parity import original


@pytest.mark.parametrize(("name", "num_layers"), [("l3", 3), ("l2", 2)])
def test_logits_match_the_original_in_both_modes(reference, name, num_layers):
    case = reference("discriminator")
    network = original.discriminator(original.part(case.state, f"{name}."), num_layers=num_layers)
    images = case.tensor("image")
    with torch.no_grad():
        before = network.eval()(images)
        training = network.train()(images)
        after = network.eval()(images)
    assert_close(before, case.tensor(f"{name}_eval"), rtol=1e-5, atol=1e-5)
    assert_close(training, case.tensor(f"{name}_train"), rtol=1e-5, atol=1e-5)
    assert_close(after, case.tensor(f"{name}_eval_after"), rtol=1e-5, atol=1e-5)
