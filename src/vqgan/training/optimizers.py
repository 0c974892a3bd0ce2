"""What a step changes: optimizers, learning rates and averaged weights, gathered in one state."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from vqgan.checkpoints.format import Model, check_keys, save_model, shapes_of
from vqgan.checkpoints.run_folder import Files
from vqgan.checkpoints.tensors import below
from vqgan.config import Config, Natural, Positive, Share, Weight
from vqgan.errors import CheckpointError, require
from vqgan.training.engine import Engine
from vqgan.training.exchange import GradientExchange
from vqgan.training.sharding import filled, gathered, is_sharded, part_of, sharded_like, total_norm


class OptimizerConfig(Config, frozen=True):
    """Adam's settings and the course of its learning rate.

    Attributes:
        learning_rate: The peak.
        betas: Decay of the first and second moments.
        weight_decay: Decoupled decay of the weights of linear layers and convolutions; nothing else decays.
        warmup_steps: Steps over which the rate rises linearly to its peak.
        decay: ``"constant"``, or ``"cosine"`` down to ``final_share`` at the run's last step.
        final_share: Share of the peak that a cosine ends with.
        clip_norm: Upper bound of the norm of all gradients, or none.
    """

    learning_rate: Positive
    betas: tuple[float, float]
    weight_decay: Weight = 0.0
    warmup_steps: Natural = 0
    decay: Literal["constant", "cosine"] = "constant"
    final_share: Share = 0.0
    clip_norm: Positive | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(0 <= b < 1 for b in self.betas), f"`betas` are {self.betas}, expected 0 <= beta < 1")


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


def decaying(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay is for: weights of linear layers and convolutions.

    Example:
        >>> sorted(decaying(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Embedding(3, 2))))
        ['0.weight']
    """
    kinds = (nn.Linear, nn.Conv2d)
    return {f"{name}.weight".lstrip(".") for name, part in module.named_modules() if isinstance(part, kinds)}


FIRST_LOSS_SCALE, GROWS_AFTER = 2.0**15, 2000
"""In fp16 gradients are computed times a power of two, which halves when they overflow, and doubles after so many steps
without (Micikevicius et al. 2018)."""


class NamedOptimizer:
    """AdamW over a module's parameters; its state is a flat mapping of tensors, so that no pickle is needed.

    The update is skipped on the device, without waiting for it, when the gradient norm is not finite.

    Args:
        module: Its parameters that require a gradient are trained.
        config: Settings.

    Attributes:
        skipped: 1.0 if the last update was skipped, else 0.0; on the device.
    """

    def __init__(self, module: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        decay = decaying(module) if config.weight_decay else set()
        groups = [
            {
                "params": [p for n, p in self.parameters.items() if (n in decay, is_sharded(p)) == kind],
                "weight_decay": config.weight_decay if kind[0] else 0.0,
            }
            for kind in ((True, False), (False, False), (True, True), (False, True))
        ]
        self._adam = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        self._adam.zero_grad(set_to_none=True)
        self.skipped = torch.zeros((), device=next(iter(self.parameters.values())).device)

    def step(self, rate: float, loss_scale: Tensor | float = 1.0) -> Tensor:
        """Clips and applies the gradients with learning rate ``rate``; returns their norm before clipping.

        They are divided by ``loss_scale`` first.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        parts = [part_of(gradient) for gradient in gradients]
        if isinstance(loss_scale, Tensor):
            torch._foreach_mul_(parts, 1 / loss_scale)
        norm = total_norm(gradients)
        if self.config.clip_norm is not None:
            torch._foreach_mul_(parts, (self.config.clip_norm / (norm + 1e-6)).clamp(max=1))
        for group in self._adam.param_groups:
            group["lr"] = rate
        self.skipped = (~torch.isfinite(norm)).float()
        self._adam.found_inf = self.skipped  # type: ignore[attr-defined]  # fused Adam skips on it
        self._adam.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The state as ``{"parameter|exp_avg": ...}``; empty before the first step."""
        return {
            f"{name}|{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self._adam.state.get(parameter, {}).items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`tensors` gave.

        Raises:
            CheckpointError: If it belongs to other parameters.
        """
        self._adam.state.clear()
        for key, tensor in tensors.items():
            name, _, part = key.rpartition("|")
            parameter = self.parameters.get(name)
            if parameter is None or tensor.shape not in (parameter.shape, ()):
                raise CheckpointError(
                    f"the optimizer's state has `{key}` {tuple(tensor.shape)}, which belongs to no parameter"
                )
            # Moments lie in memory as their parameter does: the fused update relies on it.
            like = parameter if tensor.shape == parameter.shape else tensor
            own = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device, requires_grad=False)
            self._adam.state[parameter][part] = own.copy_(sharded_like(tensor, own))

    def forget_rows(self, name: str, rows: Bool[Tensor, " rows"]) -> None:
        """Clears the moments of some rows of a matrix that were replaced by hand."""
        state = self._adam.state[self.parameters[name]]
        for key in state.keys() & {"exp_avg", "exp_avg_sq"}:
            state[key].masked_fill_(rows[:, None], 0)


class TrainingState:
    """All that training changes: modules, their optimizers, averaged weights and counters.

    A step whose gradients are not finite changes nothing of it, which is decided on the device. The task begins each
    step with :meth:`zero_grad`.

    The averages are exponential moving ones: ``average += (1 - decay) * (weight - average)`` after every step.
    The decay rises as ``(1 + step) / (10 + step)`` at first, so that the random initial weights are forgotten.
    Random states are not part of it: every draw is a function of the seed and a step or sample number.

    Args:
        modules: What is trained, by name; the first is the one that will be used, and averaged.
        config: Settings of the optimizers, one for each module.
        engine: The processes that train together.
        ema_decay: Decay of the averages, between 0 and 1, for example 0.999; or none.
        counters: Tensors that the task changes in place (for example how long each code was unused).
        exported: The model that the first module is a part of, by its name; None: it is the whole. If the module is
            sharded, the part is another one without weights, which is given them to be evaluated.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        config: OptimizerConfig,
        engine: Engine,
        *,
        ema_decay: float | None,
        counters: dict[str, Tensor] | None = None,
        exported: Model | None = None,
    ) -> None:
        self.modules, self.config = modules, config
        self.model = next(iter(modules.values()))
        self.exported: Any = self.model if exported is None else exported
        self.optimizers = {name: NamedOptimizer(module, config) for name, module in modules.items()}
        self.engine = engine
        self.ema_decay = ema_decay
        self.averages = _copies(self.model) if ema_decay else {}
        self.counters = counters or {}
        if engine.precision == "fp16":
            numbers = {"loss_scale": FIRST_LOSS_SCALE, "fitting_steps": 0.0}
            self.counters |= {name: torch.tensor(n, device=engine.device) for name, n in numbers.items()}
        self._before: dict[str, list[Tensor]] = {}
        trained = {name: each.parameters.values() for name, each in self.optimizers.items()}
        self._exchanges = {name: GradientExchange(trained[name]) for name in trained if engine.world > 1}
        used = self.model if exported is None else exported.get_submodule(next(iter(modules)))
        self._twin, self._gathered = None if used is self.model else used, dict[str, dict[str, Tensor]]()
        self.gather()

    def zero_grad(self, parts: int = 1) -> None:
        """Begins a step of so many micro-batches, a backward pass each: forgets all gradients.

        It remembers the statistics of normalisation layers.
        """
        for exchange in self._exchanges.values():
            exchange.begin(parts)
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            self._before[name] = [buffer.clone() for buffer in self.modules[name].buffers()]

    @torch.no_grad()
    def apply(self, name: str, rate: float) -> Tensor:
        """One step of a module with its gradients averaged over the processes; returns their norm."""
        if name in self._exchanges:
            self._exchanges[name].finish()
        norm = self.optimizers[name].step(rate, self.loss_scale)
        was_skipped = self.optimizers[name].skipped.bool()
        for buffer, before in zip(self.modules[name].buffers(), self._before.get(name, ()), strict=False):
            buffer.copy_(torch.where(was_skipped, before, buffer))
        return norm

    def descend(
        self, parts: Iterable[Mapping[str, Tensor]], count: int, step: int, total: int
    ) -> dict[str, Tensor]:
        """Optimizer step ``step`` of ``total`` of all modules and the averages, down the mean ``loss`` of a batch.

        Takes the scalars of each of the ``count`` micro-batches, which are computed one after the other; returns their
        means, the model's gradient norm and the learning rate.
        """
        self.zero_grad(count)
        seen = []
        for scalars in parts:
            (scalars["loss"] * self.loss_scale / count).backward()
            seen.append({name: scalar.detach() for name, scalar in scalars.items()})
        rate = learning_rate(self.config, step, total)
        norm, *_ = [self.apply(name, rate) for name in self.modules]
        self.update_averages(step)
        return {**means_of(seen), "gradient_norm": norm, "learning_rate": torch.tensor(rate)}

    @torch.no_grad()
    def update_averages(self, step: int) -> None:
        """Moves the averages, if there are any, towards the weights after optimizer step ``step`` (from 0).

        Everything in the state dict that is not floating point is copied.
        """
        self.adjust_loss_scale()
        if not self.ema_decay:
            return
        kept = 1 - next(iter(self.optimizers.values())).skipped
        share = 1 - min(self.ema_decay, (1 + step) / (10 + step))
        weights = self.model.state_dict()
        moving = [name for name, tensor in self.averages.items() if tensor.is_floating_point()]
        shares = {dtype: kept.to(dtype) * share for dtype in {self.averages[n].dtype for n in moving}}
        averages = [part_of(self.averages[n]) for n in moving]
        ends = [part_of(weights[n]) for n in moving]
        torch._foreach_lerp_(averages, ends, [shares[a.dtype] for a in averages])
        for name in self.averages.keys() - set(moving):
            self.averages[name].copy_(weights[name])

    @torch.no_grad()
    def adjust_loss_scale(self) -> None:
        """Ends a step: the loss scale, if there is one, halves after an overflow, and doubles after long without."""
        if "loss_scale" not in self.counters:
            return
        scale, fitting = self.counters["loss_scale"], self.counters["fitting_steps"]
        overflowed = self._any_skipped().bool()
        fitting.add_(1).masked_fill_(overflowed, 0)
        grows = fitting >= GROWS_AFTER
        scale.mul_(torch.where(overflowed, 0.5, torch.where(grows, 2.0, 1.0))).clamp_(min=1.0)
        fitting.masked_fill_(grows, 0)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the block, the model (if sharded, its twin) has the averages, if any, and is in evaluation mode."""
        if self._twin is not None:
            with filled(self._twin, self._used(self._gathered), self.engine.device):
                yield
            return
        training, weights = self.model.training, _copies(self.model) if self.averages else {}
        if self.averages:
            self.model.load_state_dict(self.averages, strict=True)
        self.model.eval()
        try:
            yield
        finally:
            if self.averages:
                self.model.load_state_dict(weights, strict=True)
            self.model.train(training)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Those of a saved step by file, ``model``, ``optimizer``, perhaps ``ema``; of shards as last gathered."""
        return self._tensors() if self._twin is None else self._gathered

    @torch.no_grad()
    def gather(self) -> None:
        """Collects what is sharded, if anything is, in the main process; every process must call it."""
        if self._twin is not None:
            self._gathered = gathered(self._tensors(), is_kept=self.engine.is_main)

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        model = {
            f"{n}.{key}": t for n, module in self.modules.items() for key, t in module.state_dict().items()
        }
        optimizer = {
            f"{n}|{key}": t for n, each in self.optimizers.items() for key, t in each.tensors().items()
        }
        counters = {f"counters|{name}": tensor for name, tensor in self.counters.items()}
        files = {"model": model, "optimizer": {**optimizer, **counters}}
        return {**files, "ema": dict(self.averages)} if self.averages else files

    def load(self, files: Mapping[str, Mapping[str, Tensor]], *, where: str) -> None:
        """Restores what :meth:`tensors` gave.

        Args:
            files: The tensors of a saved step.
            where: Which step, for messages.

        Raises:
            CheckpointError: If they belong to other modules.
        """
        own = self._tensors()
        for name in own.keys() - {"optimizer"}:  # Adam has no state before its first step
            check_keys(shapes_of(own[name]), shapes_of(files.get(name, {})), where=where, what=name)
        for name, module in self.modules.items():
            given, ours = below(f"{name}.", files["model"]), module.state_dict()
            given = {key: sharded_like(tensor, ours[key]) for key, tensor in given.items()}
            module.load_state_dict(given, strict=True)
        for name, optimizer in self.optimizers.items():
            optimizer.load(below(f"{name}|", files["optimizer"]))
        counters = below("counters|", files["optimizer"])
        check_keys(shapes_of(self.counters), shapes_of(counters), where=where, what="counters")
        for ours, theirs in ((self.counters, counters), (self.averages, files.get("ema", {}))):
            for name, tensor in ours.items():
                tensor.copy_(sharded_like(theirs[name], tensor))
        self.gather()

    def export(self, path: Path, step: int, files: Files) -> None:
        """Writes the model's file from what :meth:`tensors` gave, averages if there are any; any thread may call it."""
        weights, own = self._used(files), f"{next(iter(self.modules))}."
        if self.exported is not self.model:
            weights = {own + name: tensor for name, tensor in weights.items()}
        kind: Literal["ema", "raw"] = "ema" if "ema" in files else "raw"
        save_model(self.exported, path, tensors=weights, weights=kind, step=step)

    def _used(self, files: Files) -> Mapping[str, Tensor]:
        """The weights of the model as it is used: averages if there are any."""
        return files.get("ema") or below(f"{next(iter(self.modules))}.", files["model"])

    @property
    def skipped(self) -> Tensor:
        """1.0 if an update of the last step was skipped because a gradient was not finite, else 0.0; on the device.

        In fp16 only if a smaller loss scale would not help.
        """
        return self._any_skipped() * (torch.as_tensor(self.loss_scale) <= 1)

    @property
    def loss_scale(self) -> Tensor | float:
        """What losses are to be multiplied by before their backward pass."""
        return self.counters.get("loss_scale", 1.0)

    def _any_skipped(self) -> Tensor:
        return torch.stack([optimizer.skipped for optimizer in self.optimizers.values()]).amax()

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether everything that a saved step holds is finite, in all processes (waits for the device)."""
        files = self._tensors().values()
        tensors = [part_of(t) for file in files for t in file.values() if t.is_floating_point()]
        # A sum is finite only if all are, and several times as fast as a look at each.
        is_finite = bool(torch.stack([t.sum().isfinite().to(self.engine.device) for t in tensors]).all())
        return is_finite if self._twin is None else not self.engine.any(not is_finite)


def means_of(terms: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each scalar over the micro-batches of a step."""
    return {name: torch.stack([each[name] for each in terms]).mean() for name in terms[0]}


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
