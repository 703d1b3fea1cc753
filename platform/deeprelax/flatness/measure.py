"""All estimates of one model on one task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from deeprelax.errors import ConfigError, DivergedError
from deeprelax.flatness.config import FlatnessConfig
from deeprelax.flatness.estimate import Estimate
from deeprelax.flatness.hessian import top_eigenvalue, trace
from deeprelax.flatness.landscape import Landscape
from deeprelax.flatness.local_entropy import Smoothed, local_entropy
from deeprelax.replica.evaluation import evaluating, own_buffers
from deeprelax.replica.seeds import derived_seed
from deeprelax.replica.task import Batch, Task

_PARTS = ("samples", "lanczos", "trace", "chains")


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """How flat the training loss is around a model's weights x.

    Args:
        loss: f(x), the mean over the samples.
        top_eigenvalue: largest eigenvalue of D^2 f(x).
        trace: sum of its eigenvalues.
        smoothed: f_gamma(x), the norm of its gradient, and how far to trust them.
    """

    loss: float
    top_eigenvalue: float
    trace: Estimate
    smoothed: Smoothed

    def metrics(self) -> dict[str, float]:
        """Return the numbers under the names of metrics and telemetry, ``flat/…``; ``…_stderr`` are standard errors."""
        estimates = {
            "local_entropy": self.smoothed.local_entropy,
            "gradient_norm": self.smoothed.gradient_norm,
            "trace": self.trace,
        }
        numbers = {
            "loss": self.loss,
            "top_eigenvalue": self.top_eigenvalue,
            "hysteresis": self.smoothed.hysteresis,
            "acceptance": self.smoothed.acceptance,
        }
        for name, estimate in estimates.items():
            numbers |= {name: estimate.value, f"{name}_stderr": estimate.stderr}
        return {f"flat/{name}": value for name, value in numbers.items()}


def measure(model: nn.Module, task: Task, config: FlatnessConfig | None = None) -> Flatness:
    """Estimate the local entropy, its gradient and the sharpness of a task's training loss around a model's weights.

    The loss is the mean over a fixed, seeded choice of training samples, without augmentation, with the model in
    evaluation mode: the same model gives the same numbers twice. Weights, buffers, mode and torch's global random
    numbers are as before. Cost with the defaults: 240 gradients and about 50 Hessian-vector products over 256 samples.

    Two models compare at equal training loss only: cross-entropy flattens as it falls, and a rescaling that leaves a
    network's function as it is can change every one of these numbers (Dinh, Pascanu, Bengio, Bengio 2017, arXiv
    1703.04933).

    Args:
        model: on its device, for example the center.
        task: its training data and loss.
        config: scale, work and seed; None = the defaults.

    Raises:
        ConfigError: the model has nothing to train.
        DivergedError: the loss or its curvature is not finite.

    Example:
        >>> from deeprelax.registry import find
        >>> bowl = find("potential").build({"function": "quadratic", "curvature": [3.0], "dtype": "float64"})
        >>> flat = measure(bowl.model(), bowl)
        >>> round(flat.top_eigenvalue, 3), round(flat.trace.value, 3)
        (3.0, 3.0)
    """
    chosen = config or FlatnessConfig()
    device = next(model.parameters()).device
    generators = [torch.Generator().manual_seed(derived_seed(chosen.seed, "flat", part)) for part in _PARTS]
    devices = [device] if device.type == "cuda" else []
    with (
        evaluating(model),
        own_buffers(model),
        torch.enable_grad(),
        torch.random.fork_rng(devices, device_type="cuda"),
    ):
        torch.manual_seed(chosen.seed)
        landscape = Landscape(model, task.loss, _batches(task, chosen, generators[0], device))
        loss = landscape.value(landscape.point)
        if not math.isfinite(loss):
            raise DivergedError(f"The training loss is {loss} at these weights: it has no flatness.")
        sharpness = top_eigenvalue(landscape, generators[1])
        return Flatness(
            loss=loss,
            top_eigenvalue=sharpness,
            trace=trace(landscape, chosen.probes, generators[2]),
            smoothed=local_entropy(landscape, chosen, sharpness, generators[3]),
        )


def refuse_unmeasurable(task: Task) -> None:
    """Look at two samples, so that a run learns in its first second and not at its end what it cannot measure.

    Raises:
        ConfigError: the model or loss cannot be differentiated twice.
    """
    with torch.random.fork_rng(devices=[]):
        model = task.model().eval()
    batch = task.train_data.batch(torch.arange(min(2, len(task.train_data))))
    landscape = Landscape(model, task.loss, [batch])
    try:
        landscape.hessian_times(landscape.point)
    except RuntimeError as error:
        raise ConfigError(
            f"Cannot measure flatness: the model cannot be differentiated twice ({error}). Use flatness='never'."
        ) from None


def _batches(task: Task, config: FlatnessConfig, generator: torch.Generator, device: torch.device) -> list[Batch]:
    total = len(task.train_data)
    chosen = torch.randperm(total, generator=generator)[: config.samples].sort().values
    parts = chosen.tensor_split(-(-len(chosen) // config.batch))
    fetched = [task.train_data.batch(indices) for indices in parts]
    return [(inputs.to(device), targets.to(device)) for inputs, targets in fetched]
