"""Adam with named state, learning rates as a function of the step, and a guard against infinite gradients."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from vqgan.config import Config, require


class OptimizerConfig(Config, frozen=True):
    """Adam's settings and the course of its learning rate.

    Attributes:
        learning_rate: The peak.
        betas: Decay of the first and second moments.
        weight_decay: Decoupled decay of the weights of linear layers; nothing else decays.
        warmup_steps: Steps over which the rate rises linearly to its peak.
        decay: ``"constant"``, or ``"cosine"`` down to ``final_share`` at the run's last step.
        final_share: Share of the peak that a cosine ends with.
        clip_norm: Largest norm of all gradients together, or none.
    """

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float = 0.0
    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    final_share: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, expected more than 0")
        require(all(0 <= b < 1 for b in self.betas), f"betas are {self.betas}, expected 0 <= beta < 1")
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}, expected 0 or more")
        require(self.warmup_steps >= 0, f"warmup_steps is {self.warmup_steps}, expected 0 or more")
        require(0 <= self.final_share <= 1, f"final_share is {self.final_share}, expected 0 to 1")
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f"clip_norm is {self.clip_norm}, expected more than 0",
        )


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """The rate of optimizer step ``step`` (from 0) in a run of ``total`` steps.

    Example:
        >>> config = OptimizerConfig(learning_rate=1.0, betas=(0.9, 0.99), warmup_steps=4, decay="cosine")
        >>> [round(learning_rate(config, step, 12), 2) for step in (0, 3, 4, 8, 11)]
        [0.25, 1.0, 1.0, 0.5, 0.04]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    course = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    share = config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, course)))
    return config.learning_rate * share


class NamedOptimizer:
    """AdamW over named parameters; its state is a flat mapping of tensors, so that no pickle is needed.

    The update is skipped on the device, without waiting for it, when the gradient norm is not finite;
    :attr:`diverged` tells afterwards.

    Args:
        parameters: Name and parameter of all that is trained.
        config: Settings.
        decayed: Names of the parameters that decay; only asked for when ``weight_decay`` is set.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        config: OptimizerConfig,
        decayed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.config = config
        self.parameters = dict(parameters)
        decay = [p for name, p in self.parameters.items() if config.weight_decay and decayed(name)]
        rest = [p for name, p in self.parameters.items() if not (config.weight_decay and decayed(name))]
        groups = [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        self.diverged = torch.zeros(())

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self, rate: float) -> Tensor:
        """Clips and applies the gradients with learning rate ``rate``; returns their norm before clipping."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.clip_norm, norm)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self.diverged = (~torch.isfinite(norm)).float()
        self._adam.found_inf = self.diverged  # type: ignore[attr-defined]  # fused Adam skips on it
        self._adam.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The state as ``{"parameter|exp_avg": ...}``."""
        return {
            f"{name}|{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self._adam.state[parameter].items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`tensors` gave."""
        for name, parameter in self.parameters.items():
            prefix = f"{name}|"
            found = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            self._adam.state[parameter] = {key: t.clone().to(parameter.device) for key, t in found.items()}

    def forget_rows(self, name: str, rows: Tensor) -> None:
        """Clears the moments of some rows of a parameter that were replaced by hand.

        Args:
            name: The parameter.
            rows: Bool mask or indices of its first dimension.
        """
        state = self._adam.state[self.parameters[name]]
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                state[key][rows] = 0
