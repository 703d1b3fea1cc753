"""The same run with more and more replicas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from deeprelax.coupling import Coupling
from deeprelax.coupling.methods import make_coupling
from deeprelax.errors import ConfigError
from deeprelax.schedules import Position
from deeprelax.simulation.lag import Lag, read_lag
from deeprelax.simulation.losses import Loss, named_loss
from deeprelax.simulation.swarm import Swarm

SETTLED = 0.25
"""The last part of a run, over which its error and spread are averaged."""
LARGEST = 1e12
"""An excess loss, relative to the start's, that is taken for divergence."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """What the center did in one run.

    Args:
        replicas: n.
        steps: at which it was looked at, after exchanges.
        errors: f(x̄) - min f there; infinite from where the run diverged.
        spreads: of the replicas there, see :class:`~deeprelax.simulation.swarm.Swarm`.
        reached: first of these steps at which the error was at most the target; None = never.
    """

    replicas: int
    steps: tuple[int, ...]
    errors: tuple[float, ...]
    spreads: tuple[float, ...]
    reached: int | None

    @property
    def error(self) -> float:
        """The mean error over the last quarter of the run."""
        return _late(self.errors)

    @property
    def spread(self) -> float:
        """The mean spread over the last quarter of the run."""
        return _late(self.spreads)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Runs that differ in n alone.

    Args:
        target: error that counts as reached.
        start: error at the start.
        tracks: by n, ascending.
    """

    target: float
    start: float
    tracks: tuple[Track, ...]

    @property
    def order(self) -> float | None:
        """The slope of log error over log n, -1 where the center's noise averages out; None for fewer than two runs."""
        known = [(t.replicas, t.error) for t in self.tracks if 0 < t.error < math.inf]
        if len(known) < 2:
            return None
        x, y = torch.tensor(known, dtype=torch.float64).log().T
        x = x - x.mean()
        return float((x @ y) / (x @ x))

    def as_dict(self) -> dict[str, object]:
        """Return everything as plain values for JSON; an infinite error is null."""
        tracks = [
            {
                **dataclasses.asdict(track),
                "errors": [error if math.isfinite(error) else None for error in track.errors],
                "error": track.error if math.isfinite(track.error) else None,
                "spread": track.spread if math.isfinite(track.spread) else None,
            }
            for track in self.tracks
        ]
        return {"target": self.target, "start": self.start, "order": self.order, "tracks": tracks}


def simulate(
    coupling: str = "parle",
    *,
    replicas: int | Sequence[int] = 2000,
    steps: int = 1000,
    loss: str = "quadratic",
    dimension: int = 10,
    noise: float = 1.0,
    start: float = 2.0,
    lag: str | Lag = "0",
    lr: float | str = 0.05,
    target: float | None = None,
    seed: int = 0,
    watch: Callable[[Track], None] | None = None,
    **fields: object,
) -> Simulation:
    """Train light replicas with the library's own coupling; see what n does to the center.

    Args:
        coupling: name of a method.
        replicas: the values of n; one number stands for itself and for ever smaller ones, each an eighth.
        steps: mini-batch steps of every run, >= 1.
        loss: ``quadratic`` (curvatures from .1 to 1), ``f1`` (many local minima) or ``f2`` (two wells).
        dimension: d >= 1.
        noise: standard deviation of a gradient in each coordinate, >= 0.
        start: every coordinate of every replica at the start.
        lag: exchanges by which messages are late: ``3``, ``const(3)`` or ``exp(2)``.
        lr: of the coupling; a number or a schedule.
        target: error that counts as reached; None = a hundredth of the start's.
        seed: of all that is drawn.
        watch: called with every run that has ended.
        **fields: further fields of the coupling, such as ``period=10``.

    Raises:
        ConfigError: a value is unknown or out of range.
        UnstableError: a spring is too stiff for its step.

    Example:
        >>> done = simulate("elastic_sgd", replicas=(2, 32), steps=200, rho=1.0, seed=1)
        >>> done.tracks[1].error < done.tracks[0].error
        True
    """
    counts = ladder(replicas) if isinstance(replicas, int) else sorted(set(replicas))
    if not counts or counts[0] < 1 or steps < 1 or not 0 <= noise < math.inf:
        raise ConfigError(f"Invalid replicas={replicas}, steps={steps}, noise={noise}. Must be >= 1, >= 1 and >= 0.")
    late = read_lag(lag) if isinstance(lag, str) else lag
    known = named_loss(loss, dimension)
    point = torch.full((dimension,), float(start), dtype=torch.float64)
    far = float(known.potential(point)) - known.lowest
    wanted = far / 100 if target is None else target
    methods = [_stable(make_coupling(coupling, {**fields, "replicas": n, "lr": lr}), steps) for n in counts]
    tracks = []
    for method in methods:
        starts = point.expand(method.replicas, -1)
        swarm = Swarm(method, known.potential, starts, total_steps=steps, lag=late, seed=seed)
        tracks.append(_follow(swarm, known, steps, noise, seed, wanted, LARGEST * max(1.0, far)))
        if watch is not None:
            watch(tracks[-1])
    return Simulation(target=wanted, start=far, tracks=tuple(tracks))


def ladder(largest: int) -> list[int]:
    """Return ``largest`` and an eighth of it, again and again, down to one or two."""
    counts = [largest]
    while counts[-1] // 8 >= 1:
        counts.append(counts[-1] // 8)
    return counts[::-1]


def _stable(coupling: Coupling, steps: int) -> Coupling:
    here = Position(total_steps=steps)
    coupling.check_stable(here.ahead(coupling.knobs(here)["period"], 16))
    return coupling


def _follow(swarm: Swarm, loss: Loss, steps: int, noise: float, seed: int, target: float, largest: float) -> Track:
    generator = torch.Generator().manual_seed(seed + 2)
    at: list[int] = []
    errors: list[float] = []
    spreads: list[float] = []
    for step in range(1, steps + 1):
        shape = swarm.points.shape
        drawn = noise * torch.randn(shape, generator=generator, dtype=torch.float64) if noise else None
        if not swarm.step(drawn):
            continue
        error = float(loss.potential(swarm.center)) - loss.lowest
        at.append(step)
        errors.append(error if error < largest else math.inf)
        spreads.append(swarm.spread)
        if not error < largest:
            break
    reached = next((step for step, error in zip(at, errors, strict=True) if error <= target), None)
    return Track(
        replicas=swarm.coupling.replicas,
        steps=tuple(at),
        errors=tuple(errors),
        spreads=tuple(spreads),
        reached=reached,
    )


def _late(values: Sequence[float]) -> float:
    last = values[-max(1, round(SETTLED * len(values))) :]
    return sum(last) / len(last) if last else math.nan
