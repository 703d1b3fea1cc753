"""Low-dimensional functions as losses: the theory's test bed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from deeprelax.pde.potentials import F1, F2
from deeprelax.registry import trainable
from deeprelax.replica.task import Task


class PotentialConfig(BaseModel, frozen=True):
    """Which function ``potential`` minimizes, from where, and how noisy its gradients are."""

    function: Literal["f1", "f2", "quadratic"] = Field(
        "f1",
        description="f1: y^2 + 1.5 sin(2 pi y); f2: (y^2 - 1)^2; quadratic: h y^2 / 2; summed over the coordinates",
    )
    dimension: int = Field(1, ge=1, description="d, number of coordinates")
    curvature: list[Annotated[float, Field(ge=0)]] = Field(
        [1.0], description="quadratic: h >= 0 of each coordinate, or one for all"
    )
    start: list[float] = Field([2.0], description="starting value of each coordinate, or one for all")
    noise: float = Field(0.0, ge=0, description="standard deviation of one sample's gradient in each coordinate")
    samples: int = Field(1024, ge=1, description="N, number of samples, a data pass")
    batch_size: int = Field(32, ge=1, description="samples of a mini-batch; its gradient has noise / sqrt(batch_size)")
    lr: float = Field(0.01, gt=0, description="learning rate of SGD with Nesterov momentum")
    dtype: Literal["float32", "float64"] = Field("float32", description="number type of the coordinates")

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        for name, values in (("curvature", self.curvature), ("start", self.start)):
            if len(values) not in {1, self.dimension}:
                raise ValueError(f"Invalid {name}={values}. Must have 1 or dimension={self.dimension} values")
        return self


class Point(nn.Module):
    """A network whose weights are one point x of R^d and whose output is the loss of each sample.

    Args:
        function: f, from (d,) to a scalar.
        start: initial x, shape (d,).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], start: Tensor) -> None:
        super().__init__()
        self.function = function
        self.x = nn.Parameter(start.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``f(x) + tilt . x`` for each of the tilts ``inputs`` of shape (B, d): shape (B,)."""
        losses: Tensor = self.function(self.x) + inputs @ self.x
        return losses


@trainable("potential")
def potential(config: PotentialConfig) -> Task:
    """A function of few variables whose local entropy is known in closed form, with gradient noise on request.

    The weights are one point x. Sample i has the loss f(x) + b_i . x; the tilts b_i are Gaussian with mean exactly zero
    over the N samples, so the mean loss is f. The error is the excess loss f(x) - min f, without noise.
    """
    dtype = torch.float32 if config.dtype == "float32" else torch.float64
    curvature = torch.tensor(config.curvature, dtype=dtype).expand(config.dimension)
    tilts = torch.randn(config.samples, config.dimension, generator=torch.Generator().manual_seed(0), dtype=dtype)
    tilts = config.noise * (tilts - tilts.mean(0))
    function, minimum = _function(config.function, curvature)
    lowest = torch.full((config.samples,), config.dimension * minimum, dtype=dtype)
    start = torch.tensor(config.start, dtype=dtype).expand(config.dimension)
    return Task(
        model=partial(Point, function, start),
        train=(tilts, lowest),
        test=(torch.zeros_like(tilts[:1]), lowest[:1]),
        loss=_mean,
        metrics=_excess,
        batch_size=config.batch_size,
        lr=config.lr,
    )


def _function(name: str, curvature: Tensor) -> tuple[Callable[[Tensor], Tensor], float]:
    """Return f, from (d,) to a scalar, and the smallest value of one coordinate's part of it."""
    if name == "quadratic":
        return lambda x: 0.5 * (curvature.to(x) * x.square()).sum(), 0.0
    named = F1 if name == "f1" else F2
    return named.value, float(named(torch.tensor(named.minima[0], dtype=torch.float64)))


def _mean(outputs: Tensor, lowest: Tensor) -> Tensor:  # noqa: ARG001 - a loss gets the targets too
    return outputs.mean()


def _excess(outputs: Tensor, lowest: Tensor) -> dict[str, Tensor]:
    return {"error": outputs - lowest}
