"""One replica on a smoothed loss: Entropy-SGD, and its limits HJ (β → ∞) and heat (β → 0)."""

from __future__ import annotations

from deeprelax.tuning.space import (
    Branch,
    Choice,
    Constant,
    Dimension,
    Float,
    Int,
    Scalar,
    ScheduleDimension,
    SearchSpace,
)
from deeprelax_search_spaces.steps import method, sgd_step

_GAMMA_SOURCE = (
    "published starts: 2e-4 (MNIST) and 0.06 (CIFAR) in arXiv:1611.01838, 0.025 in arXiv:1707.00424, tightening 10 to "
    "100 times; lr/gamma must stay below 2(1+m)/(1+2m)"
)


def inner_spring() -> ScheduleDimension:
    """Return γ by how far the inner chain relaxes in a period, constant or tightening (scoping)."""
    return ScheduleDimension(
        field="gamma",
        shapes=("constant", "exponential", "linear"),
        start=(1e-4, 0.5),
        change=(1.0, 100.0),
        spans=(("fraction", (0.25, 1.0)),),
        measure="kappa_in",
        source=_GAMMA_SOURCE,
    )


def slow_step() -> tuple[Dimension, ...]:
    """Return the averaging of the fast weights and the step of the slow ones, after their momentum."""
    return (
        Choice(field="averaging", choices=(0.0, 0.5, 0.75, 0.9), source="last iterate; .75 in arXiv:1611.01838"),
        Float(
            field="outer_lr", low=0.3, high=1.5, log=True, measure="outer_effective",
            source="1 in arXiv:1611.01838 and (0.1 with momentum 0.9) arXiv:1707.00424; below 2 x settles on z",
        ),
    )  # fmt: skip


def entropy_sgd() -> SearchSpace:
    """Return the space of Entropy-SGD."""
    noise = Float(
        field="beta", low=0.01, high=3.0, log=True, measure="noise_ratio",
        source="noise of 1e-4 to 1e-3 per root of the step in arXiv:1611.01838 is a ratio of 0.3 to 3 at lr 0.1",
    )  # fmt: skip
    start: dict[str, Scalar] = {"lr.shape": "constant", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 20}
    slow: dict[str, Scalar] = {"averaging": 0.75, "outer_lr.outer_effective": 1.0}
    moving: dict[str, Scalar] = {"gamma.shape": "exponential", "gamma.fraction": 1.0, "gamma.change": 10.0}
    return SearchSpace(
        name="entropy_sgd",
        dimensions=(
            method("entropy_sgd"),
            *sgd_step(),
            Int(
                field="period", low=5, high=50, log=True, source="20 and 5 in arXiv:1611.01838, 25 in arXiv:1707.00424"
            ),
            inner_spring(),
            *slow_step(),
            Branch(name="noise", options=(("none", ()), ("langevin", (noise,))), sets_field=False),
        ),
        summary="Entropy-SGD: the inner spring by kappa_in and its scoping, period, averaging, slow step and noise.",
        source="Chaudhari et al., arXiv:1611.01838 (alg. 1 and section 5) and arXiv:1704.04932 (eq. 8).",
        points=(
            {**start, **slow, **moving, "gamma.kappa_in": 2e-4, "noise": "langevin", "langevin.beta.noise_ratio": 0.3},
            {**start, **slow, **moving, "gamma.kappa_in": 0.06, "noise": "none"},
        ),
    )


def hj() -> SearchSpace:
    """Return the space of HJ: the proximal point by descent, or by the damped fixed point."""
    fixed_point = (
        Float(
            field="gamma", low=1e-4, high=1.0, log=True,
            source="contracts while gamma·h < (1+d)/(1-d) for curvatures up to h (arXiv:1704.04932, section 3.2)",
        ),
        Choice(field="damping", choices=(0.0, 0.5, 0.9), source="d of the damped fixed point"),
    )  # fmt: skip
    return SearchSpace(
        name="hj",
        dimensions=(
            method("hj"),
            *sgd_step(),
            Int(field="period", low=2, high=25, log=True, source="5 in arXiv:1704.04932, section 5"),
            Branch(
                name="variant",
                options=(("descent", (inner_spring(), *slow_step())), ("fixed_point", fixed_point)),
                source="arXiv:1704.04932, section 3.2",
            ),
        ),
        summary="HJ, Entropy-SGD without noise in its own limit: gradient descent or a fixed point inside.",
        source="Chaudhari et al., Deep relaxation, arXiv:1704.04932, sections 3.2 and 5.",
        points=(
            {
                "lr.shape": "constant", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 5,
                "variant": "descent", "descent.gamma.shape": "exponential", "descent.gamma.kappa_in": 0.02,
                "descent.gamma.change": 10.0, "descent.gamma.fraction": 1.0, "descent.averaging": 0.0,
                "descent.outer_lr.outer_effective": 1.0,
            },
        ),
    )  # fmt: skip


def heat() -> SearchSpace:
    """Return the space of heat: only the radius sqrt(γ/β) of the smoothing matters."""
    radius = ScheduleDimension(
        field="gamma",
        shapes=("constant", "exponential"),
        start=(1e-4, 0.1),
        change=(0.01, 1.0),
        measure="radius",
        source="0.01 falling to 0.001 are the coupling's defaults; weights of a layer are about 0.1",
    )
    return SearchSpace(
        name="heat",
        dimensions=(
            method("heat"),
            *sgd_step(),
            Int(field="period", low=1, high=16, log=True, source="5 in arXiv:1704.04932, section 5"),
            Constant(field="beta", value=1e4),
            radius,
        ),
        summary="Heat: the radius of the smoothing, constant or shrinking, and the gradients averaged in it.",
        source="Chaudhari et al., Deep relaxation, arXiv:1704.04932, sections 2.1 and 5 (heat).",
        points=(
            {
                "lr.shape": "constant", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 5,
                "gamma.shape": "exponential", "gamma.radius": 0.01, "gamma.change": 0.1,
            },
        ),
    )  # fmt: skip
