"""Many local steps and then an average: DiLoCo, local SGD, Lookahead."""

from __future__ import annotations

from deeprelax.tuning.space import Branch, Float, Int, ScheduleDimension, SearchSpace
from deeprelax_search_spaces.steps import learning_rate, method, momentum, sgd_step


def diloco() -> SearchSpace:
    """Return the space of DiLoCo, with AdamW inside as in the paper, or SGD."""
    adamw = ScheduleDimension(
        field="lr",
        shapes=("constant", "cosine"),
        start=(1e-4, 1e-2),
        change=0.0,
        source="4e-4 in arXiv:2311.08105; small networks take more",
    )
    return SearchSpace(
        name="diloco",
        dimensions=(
            method("diloco"),
            Branch(
                name="optimizer",
                options=(("adamw", (adamw,)), ("sgd", (momentum("momentum"), learning_rate()))),
                source="AdamW in arXiv:2311.08105",
            ),
            Int(field="period", low=5, high=500, log=True, source="50 to 2000 in arXiv:2311.08105, which chose 500"),
            Float(field="outer_lr", low=0.1, high=1.0, source="0.7 in arXiv:2311.08105; 1 is the plain average"),
            momentum("outer_momentum", lowest_forgetting=0.05),
        ),
        summary="DiLoCo: the inner optimizer and its rate, the period, and the outer Nesterov step.",
        source="Douillard et al., DiLoCo, arXiv:2311.08105, section 3 and its ablations.",
        points=(
            {
                "optimizer": "adamw", "adamw.lr.shape": "cosine", "adamw.lr.start": 4e-4, "period": 500,
                "outer_lr": 0.7, "outer_momentum.forgetting": 0.1,
            },
            {
                "optimizer": "sgd", "sgd.lr.shape": "cosine", "sgd.lr.effective": 0.5, "sgd.momentum.forgetting": 0.1,
                "period": 50, "outer_lr": 0.7, "outer_momentum.forgetting": 0.1,
            },
        ),
    )  # fmt: skip


def local_sgd() -> SearchSpace:
    """Return the space of local SGD (FedAvg)."""
    return SearchSpace(
        name="local_sgd",
        dimensions=(
            method("local_sgd"),
            *sgd_step(),
            Int(field="period", low=1, high=128, log=True, source="1 to 128 in arXiv:1808.07217"),
        ),
        summary="Local SGD: learning rate, momentum, and how seldom the replicas are averaged.",
        source="Stich, arXiv:1805.09767; Lin et al., arXiv:1808.07217.",
        points=({"lr.shape": "cosine", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 16},),
    )


def lookahead() -> SearchSpace:
    """Return the space of Lookahead around SGD."""
    return SearchSpace(
        name="lookahead",
        dimensions=(
            method("lookahead"),
            *sgd_step(),
            Int(field="period", low=2, high=50, log=True, source="5 and 10 in arXiv:1907.08610, 20 to compare with"),
            Float(field="slow_lr", low=0.2, high=1.0, source="0.5 and 0.8 in arXiv:1907.08610; 1 is SGD itself"),
        ),
        summary="Lookahead around SGD: learning rate, momentum, period and slow step.",
        source="Zhang, Lucas, Hinton, Ba, arXiv:1907.08610, section 5.",
        points=(
            {"lr.shape": "cosine", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 5, "slow_lr": 0.8},
            {"lr.shape": "cosine", "lr.effective": 1.0, "momentum.forgetting": 0.1, "period": 5, "slow_lr": 0.5},
        ),
    )
