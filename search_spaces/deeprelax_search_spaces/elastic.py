"""Replicas on springs to their center: EASGD and EAMSGD, Elastic-SGD and replicated SGD."""

from __future__ import annotations

from deeprelax.tuning.space import Branch, Constant, Float, Int, Scalar, ScheduleDimension, SearchSpace
from deeprelax_search_spaces.steps import learning_rate, method, momentum, sgd_step


def easgd() -> SearchSpace:
    """Return the space of EASGD, or EAMSGD with momentum inside."""
    return SearchSpace(
        name="easgd",
        dimensions=(
            Branch(
                name="method",
                options=(
                    ("easgd", (Constant(field="momentum", value=0.0),)),
                    ("eamsgd", (momentum("momentum", lowest_forgetting=0.01),)),
                ),
                source="arXiv:1412.6651, sections 3.1 and 3.2",
            ),
            Constant(field="optimizer", value="sgd"),
            learning_rate(),
            Int(field="period", low=1, high=64, log=True, source="1, 4, 16 and 64 in arXiv:1412.6651, section 5"),
            Float(field="elasticity", low=0.1, high=1.3, source="0.9 in arXiv:1412.6651; stable below 2n/(n + 1)"),
        ),
        summary="EASGD and EAMSGD: the elastic fraction n·alpha, the period, learning rate and momentum.",
        source="Zhang, Choromanska, LeCun, arXiv:1412.6651, sections 3 and 5; the stability bound from eq. 5-6.",
        points=(
            {"method": "easgd", "lr.shape": "constant", "lr.effective": 0.1, "period": 10, "elasticity": 0.9},
            {
                "method": "eamsgd", "eamsgd.momentum.forgetting": 0.01, "lr.shape": "constant", "lr.effective": 1.0,
                "period": 10, "elasticity": 0.9,
            },
        ),
    )  # fmt: skip


def elastic_sgd() -> SearchSpace:
    """Return the space of Elastic-SGD, or rSGD with a spring that balances itself."""
    spring = ScheduleDimension(
        field="rho",
        shapes=("constant", "exponential", "linear"),
        start=(1e-3, 0.5),
        change=(1.0, 10.0),
        spans=(("fraction", (0.25, 1.0)),),
        measure="kappa_out",
        source="lr/rho from 0.1 to 1 in arXiv:1707.00424; it must stay below 2(1+m)/(1+2m)",
    )
    balanced = ScheduleDimension(
        field="rho", shapes=("auto",), growth=(10.0, 1e6), source="1e4 in arXiv:2006.07897, section 4"
    )
    start: dict[str, Scalar] = {"lr.shape": "constant", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 1}
    tightening: dict[str, Scalar] = {
        "rho.shape": "exponential",
        "rho.kappa_out": 0.1,
        "rho.change": 10.0,
        "rho.fraction": 1.0,
    }
    return SearchSpace(
        name="elastic_sgd",
        dimensions=(
            *sgd_step(),
            Int(field="period", low=1, high=20, log=True, source="1 in both papers; more costs less exchange"),
            Branch(
                name="method",
                options=(("elastic_sgd", (spring,)), ("rsgd", (balanced,))),
                source="arXiv:1707.00424, section 2.2, and arXiv:2006.07897, section 4",
            ),
        ),
        summary="Elastic-SGD with the spring by kappa_out and its scoping, or rSGD with its growth.",
        source="Chaudhari et al., Parle, arXiv:1707.00424, section 2.2; Pittorino et al., arXiv:2006.07897, section 4.",
        points=(
            {**start, "method": "elastic_sgd", **{f"elastic_sgd.{name}": value for name, value in tightening.items()}},
            {**start, "method": "rsgd", "rsgd.rho.growth": 1e4},
        ),
    )


def lsgd() -> SearchSpace:
    """Return the space of leader SGD."""
    spring = ScheduleDimension(
        field="rho",
        shapes=("constant", "exponential", "linear"),
        start=(1e-3, 0.5),
        change=(1.0, 10.0),
        spans=(("fraction", (0.25, 1.0)),),
        measure="kappa_out",
        source="as for elastic_sgd; lr/rho must stay below 2(1+m)/(1+2m)",
    )
    return SearchSpace(
        name="lsgd",
        dimensions=(
            method("lsgd"),
            *sgd_step(),
            Int(field="period", low=1, high=64, log=True, source="as for EASGD in arXiv:1412.6651, section 5"),
            spring,
        ),
        summary="Leader SGD: the pull to the best replica by kappa_out and its scoping, the period and the step.",
        source="The method: Teng et al., arXiv:1905.10395; the ranges are those of Elastic-SGD and EASGD.",
        points=(
            {
                "lr.shape": "constant", "lr.effective": 0.1, "momentum.forgetting": 1.0, "period": 10,
                "rho.shape": "constant", "rho.kappa_out": 0.1,
            },
        ),
    )  # fmt: skip
