"""A prior that is sharded: each process keeps a part of its weights, gradients, moments and averages.

It is PyTorch's ``fully_shard`` (ZeRO, Rajbhandari et al. 2020): a block's weights are gathered while it computes, and
gradients are added up where they are kept. What is sharded is a ``DTensor``. The functions for single tensors return
others as they are.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vqgan.checkpoints.run_folder import Files
from vqgan.prior import Prior


def shard(prior: Prior, device: torch.device) -> Prior:
    """Shards a prior's transformer, in place, over all processes, which have the same weights.

    Its embeddings and its head, which are small, stay whole in every process.

    Returns:
        Its twin without weights, for :func:`filled`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    absent = {id(each): nn.Parameter(each.detach().to("meta")) for each in prior.parameters()}
    twin = copy.deepcopy(prior, absent)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in (*prior.transformer.blocks, prior.transformer):
        fully_shard(part, mesh=mesh)
        assert isinstance(part, FSDPModule)
        part.set_force_sum_reduction_for_comms(True)  # gloo has no mean
    return twin


@contextmanager
def filled(twin: nn.Module, weights: Mapping[str, Tensor], device: torch.device) -> Iterator[None]:
    """Inside the block, a module without weights has these, and is in evaluation mode."""
    absent = twin.state_dict()
    twin.load_state_dict({name: each.to(device) for name, each in weights.items()}, strict=True, assign=True)
    twin.eval()
    try:
        yield
    finally:
        twin.load_state_dict(absent, strict=True, assign=True)


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process has a part of it."""
    return hasattr(tensor, "to_local")


def part_of(tensor: Tensor) -> Tensor:
    """This process's part, in the same memory; only where no gradients are recorded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, sharded as another one of its shape is; nothing is sent."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def gathered(files: Files, *, is_kept: bool) -> dict[str, dict[str, Tensor]]:
    """All tensors whole and on the CPU, in processes that keep them; every process must call it."""
    found: dict[str, dict[str, Tensor]] = {file: {} for file in files if is_kept}
    for file, group in files.items():
        for name, tensor in group.items():
            whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            if is_kept:
                found[file][name] = whole.cpu()
    return found


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all together: every process gets the same."""
    norm = torch.nn.utils.get_total_norm([each for each in tensors if not is_sharded(each)])
    if parts := [part_of(each) for each in tensors if is_sharded(each)]:
        square = torch.nn.utils.get_total_norm(parts).square()
        dist.all_reduce(square)
        norm = (norm.square() + square).sqrt()
    return norm
