"""What training changes, gathered in one place so that a checkpoint holds all of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from vqgan.checkpoints.format import check_keys, shapes_of
from vqgan.training.ema import WeightAverage
from vqgan.training.optimizers import NamedOptimizer


@dataclass
class TrainingState:
    """Modules, optimizers, averaged weights and counters of a task.

    Random states are not among them: every draw is a function of the seed and a step or sample number.

    Attributes:
        modules: What is trained, by name.
        optimizers: One per player, by the same names.
        average: Averaged weights of the module that will be used, or None.
        counters: Tensors that the task changes in place (for example how long each code was unused).
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, NamedOptimizer]
    average: WeightAverage | None = None
    counters: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a committed step by file: ``model``, ``optimizer`` and, with averaging, ``ema``."""
        model = {
            f"{n}.{key}": t for n, module in self.modules.items() for key, t in module.state_dict().items()
        }
        optimizer = {
            f"{n}|{key}": t for n, each in self.optimizers.items() for key, t in each.tensors().items()
        }
        counters = {f"counters|{name}": tensor for name, tensor in self.counters.items()}
        files = {"model": model, "optimizer": {**optimizer, **counters}}
        if self.average is not None:
            files["ema"] = dict(self.average.tensors)
        return files

    def load(self, files: Mapping[str, Mapping[str, Tensor]], *, where: str) -> None:
        """Takes back what :meth:`tensors` gave.

        Args:
            files: The tensors of a committed step.
            where: Which step, for messages.

        Raises:
            CheckpointError: If they belong to other modules.
        """
        own = self.tensors()
        for name in own.keys() - {"optimizer"}:  # Adam has no state before its first step
            check_keys(shapes_of(own[name]), shapes_of(files.get(name, {})), where=where, what=name)
        for name, module in self.modules.items():
            module.load_state_dict(_below(files["model"], f"{name}."), strict=True)
        for name, optimizer in self.optimizers.items():
            optimizer.load(_below(files["optimizer"], f"{name}|"))
        counters = _below(files["optimizer"], "counters|")
        check_keys(shapes_of(self.counters), shapes_of(counters), where=where, what="counters")
        for name, tensor in self.counters.items():
            tensor.copy_(counters[name])
        if self.average is not None:
            self.average.load(files["ema"])

    def diverged(self) -> bool:
        """Whether any update was skipped because a gradient was not finite (waits for the device)."""
        return any(bool(optimizer.diverged) for optimizer in self.optimizers.values())


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
