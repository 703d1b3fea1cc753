"""Parle: n replicas of Entropy-SGD on springs to their center; and the same in groups."""

from __future__ import annotations

from dataclasses import replace

from deeprelax.tuning.space import Int, Scalar, ScheduleDimension, SearchSpace
from deeprelax_search_spaces.relaxation import inner_spring, slow_step
from deeprelax_search_spaces.steps import method, momentum, sgd_step


def parle() -> SearchSpace:
    """Return the space of Parle."""
    outer_spring = ScheduleDimension(
        field="rho",
        shapes=("constant", "exponential", "linear"),
        start=(0.01, 0.3),
        change=(1.0, 10.0),
        spans=(("fraction", (0.25, 1.0)),),
        measure="kappa_out",
        source=(
            "outer_lr/rho from 0.1 to 1 in arXiv:1707.00424; outer_lr(1 + 1/rho) must stay below 2(1+m)/(1+2m), m the "
            "momentum of the slow weights"
        ),
    )
    scoping: dict[str, Scalar] = {
        "gamma.shape": "exponential",
        "gamma.fraction": 1.0,
        "rho.shape": "exponential",
        "rho.fraction": 1.0,
    }
    step: dict[str, Scalar] = {"lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 25, "averaging": 0.75}
    return SearchSpace(
        name="parle",
        dimensions=(
            method("parle"),
            *sgd_step(),
            Int(field="period", low=5, high=50, log=True, source="25 in arXiv:1707.00424, 5 and 20 in 1611.01838"),
            inner_spring(),
            momentum("outer_momentum", lowest_forgetting=0.1),
            *slow_step(),
            outer_spring,
        ),
        summary="Parle: both springs by kappa_in and kappa_out with their scoping, period, averaging and both steps.",
        source="Chaudhari et al., Parle, arXiv:1707.00424, eq. 8 and section 3: ranges around its settings.",
        points=(
            # The paper's: gamma from 100 to 1 and rho from 1 to 0.1, here over the whole run.
            {
                **step, **scoping, "lr.shape": "constant", "gamma.kappa_in": 0.025, "gamma.change": 100.0,
                "outer_lr.outer_effective": 1.0, "outer_momentum.forgetting": 0.1,
                "rho.kappa_out": 0.1, "rho.change": 10.0,
            },
            # The coupling's defaults.
            {
                **step, **scoping, "lr.shape": "cosine", "gamma.kappa_in": 0.025, "gamma.change": 100.0,
                "outer_lr.outer_effective": 1.0, "outer_momentum.forgetting": 1.0,
                "rho.kappa_out": 0.1, "rho.change": 5.0,
            },
        ),
    )  # fmt: skip


def hierarchical_parle() -> SearchSpace:
    """Return the space of hierarchical Parle: Parle's, and how seldom the groups meet."""
    _, *shared = parle().dimensions
    rarely = Int(
        field="center_every", low=1, high=16, log=True, source="1 is Parle in groups; L2 >= L1 in arXiv:1707.00424"
    )
    return replace(
        parle(),
        name="hierarchical_parle",
        dimensions=(method("hierarchical_parle"), *shared, rarely),
        summary="Hierarchical Parle: Parle's own space, and the exchanges between two moves of the sheriff.",
        points=tuple({**point, "center_every": 4} for point in parle().points),
    )
