"""Training through compiled code: ``torch.compile`` fuses what surrounds the large products, forwards and backwards."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from vqgan.nn.discriminator import PatchDiscriminator
from vqgan.prior.transformer import Block
from vqgan.tokenizer.autoencoder import Decoder, Encoder

logger = logging.getLogger(__name__)

BACKEND = "inductor"
"""What ``torch.compile`` compiles with: C++ on CPUs, Triton on cards."""


def compile_networks(networks: Iterable[nn.Module]) -> None:
    """Lets encoders, decoders, discriminators and a prior's blocks compute through compiled code while they train.

    Code is compiled when a part is first called, for the shapes that it is given; evaluation and sampling go the plain
    way. A decoder's last convolution stays outside: the adaptive weight needs its gradient alone, and of compiled code
    there is only all or nothing. Names and values of the weights are not touched. Where no compiler is found, or it
    fails, one line says so, and training goes on without.
    """
    # A discriminator is passed back through twice, and what cannot be compiled shall fail in the forward pass.
    settings = torch._functorch.config
    settings.donated_buffer, settings.force_non_lazy_backward_lowering = False, True
    compiler = _Compiler()
    for network in networks:
        for part in network.modules():
            if isinstance(part, Block | Encoder | PatchDiscriminator):
                compiler.add(part, "forward")
            elif isinstance(part, Decoder):
                compiler.add(part, "features")


class _Compiler:
    """Replaces methods by ones that are compiled, until one fails."""

    def __init__(self) -> None:
        self._works = True

    def add(self, part: nn.Module, name: str) -> None:
        plain = getattr(part, name)
        compiled = torch.compile(plain, dynamic=False, backend=BACKEND)
        setattr(part, name, partial(self._call, part, plain, compiled))

    def _call(
        self, part: nn.Module, plain: Callable[..., Any], compiled: Callable[..., Any], *inputs: object
    ) -> Any:
        if not (self._works and part.training):
            return plain(*inputs)
        try:
            return compiled(*inputs)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._works = False
            reason = " ".join(str(error).partition("\n\n")[0].split())
            logger.warning("training goes on uncompiled: %s: %s", type(error).__name__, reason)
            return plain(*inputs)
