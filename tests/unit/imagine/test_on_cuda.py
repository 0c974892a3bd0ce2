"""Pictures from words on a CUDA card are those of the CPU."""

import pytest
import torch

import networks
import tiny
from vqgan.imagine import CutOutConfig, ImagineConfig, imagine, open_judge
from vqgan.tokenizer.gradient import decode_with_gradient

DEVICES = ("cpu", "cuda")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def tokenizer():
    model = tiny.tokenizer(channels=3).double().eval().requires_grad_(False)
    torch.nn.init.normal_(model.quantizer.codebook.weight)
    return model


@pytest.mark.parametrize("memory", [1, 1 << 40])
def test_on_cuda_decoding_has_the_gradient_of_the_cpu(tokenizer, memory):
    given = torch.randn(2, 4, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for device in DEVICES:
        latents = given.to(device).requires_grad_()
        images = decode_with_gradient(tokenizer.to(device), latents, memory)
        images.square().sum().backward()
        found.append((images.detach().cpu(), latents.grad.cpu()))
    for expected, other in zip(*found, strict=True):
        torch.testing.assert_close(other, expected, rtol=1e-7, atol=1e-9)


def test_on_cuda_pictures_are_those_of_the_cpu(tokenizer, tmp_path):
    folder, images = networks.save_judge("CLIPModel", tmp_path), []
    config = ImagineConfig(steps=4, cut_outs=CutOutConfig(count=3), average=0.5, keep_start=0.1)
    for device in DEVICES:
        judge = open_judge(folder, device)
        judge.model.double()
        words = "red | noise#1:0.5 ^ car"
        images.append(imagine(tokenizer.to(device), words, judge, size=16, count=2, config=config).cpu())
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=1e-6)
