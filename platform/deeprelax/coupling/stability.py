"""Where a step and a spring stop being stable; the hard constraints of every config and search space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deeprelax.errors import UnstableError
from deeprelax.schedules import Position, Schedule

if TYPE_CHECKING:
    from deeprelax.coupling.base import Coupling


def nesterov_limit(momentum: float) -> float:
    """Return the bound on step × curvature for torch's Nesterov momentum on a quadratic: 2 (1 + m)/(1 + 2 m).

    The recursion v ← m v + h x, x ← x - η (h x + m v) has the characteristic polynomial
    λ² - (1 + m - ηh (1 + m)) λ + m (1 - ηh); it leaves the unit circle first at λ = -1.

    Args:
        momentum: m in [0, 1); 0 gives the 2 of plain gradient descent.
    """
    return 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum)


def elastic_limit(replicas: int) -> float:
    """Return the bound on n α_e of synchronous EASGD on a flat loss: α_e < 2 - n α_e, so n α_e < 2 n/(n + 1).

    It is the case h = 0 of α_e < (2 - ηh)(2 - n α_e)/2.
    """
    return 2.0 * replicas / (replicas + 1.0)


def fixed_point_limit(damping: float) -> float:
    """Return the bound on γ × curvature for the damped fixed point p ← αp + (1-α) g(x - γp): (1 + α)/(1 - α)."""
    return (1.0 + damping) / (1.0 - damping)


def held_stiffness(spring: Schedule, length: float, lr: float, momentum: float, *, own: float = 0.0) -> float:
    """Return the stiffness 1/length of ``spring``; if it is ``auto``, at most half its bound.

    A balanced spring is measured during the run and cannot be checked beforehand. ``own`` as in :func:`require_stable`.
    """
    stiffness = 1.0 / length
    if spring.shape == "auto" and lr > 0:
        return max(0.0, min(stiffness, 0.5 * (nesterov_limit(momentum) / lr - own)))
    return stiffness


def require_stable(
    coupling: Coupling, positions: Sequence[Position], *, step: str, spring: str, momentum: float, own: float = 0.0
) -> None:
    """Check step · (own + 1/spring) < :func:`nesterov_limit` at every position.

    Args:
        coupling: its fields ``step`` and ``spring`` are checked.
        positions: where.
        step: name of the step's field.
        spring: name of the spring's field.
        momentum: of the step.
        own: curvature beside the spring's: 1 for Parle's slow weights, whose force holds x - z too; 0 for a local step,
            where the loss's is not known.

    Raises:
        UnstableError: it is crossed.
    """
    limit = nesterov_limit(momentum)
    schedules = coupling.schedules()
    if step not in schedules:
        return
    for position in positions:
        rate, length = schedules[step].at(position), schedules[spring].at(position)
        product = rate * (own + 1.0 / length)
        if product >= limit:
            formula = f"{step}·({own:g} + 1/{spring})" if own else f"{step}/{spring}"
            room = limit / rate - own
            fix = (
                f"{spring} > {1.0 / room:.4g} there, or a smaller {step}" if room > 0 else f"{step} < {limit / own:.4g}"
            )
            raise UnstableError(
                f"Unstable {spring}={length:.4g} with {step}={rate:.4g} at step {position.step}: {formula} = "
                f"{product:.4g}. Must be < {limit:.4g} (momentum {momentum:g}); use {fix}; --force trains anyway."
            )


def require_elastic_stable(replicas: int, elasticity: float) -> None:
    """Check n α_e < :func:`elastic_limit`.

    Raises:
        UnstableError: it is crossed.
    """
    limit = elastic_limit(replicas)
    if elasticity >= limit:
        raise UnstableError(
            f"Unstable elasticity={elasticity:g} with {replicas} replicas. Must be < {limit:.4g} = 2n/(n + 1); "
            "0.9 is the published value; --force trains anyway."
        )
