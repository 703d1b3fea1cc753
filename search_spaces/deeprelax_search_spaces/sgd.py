"""The baseline."""

from __future__ import annotations

from deeprelax.tuning.space import Float, SearchSpace
from deeprelax_search_spaces.steps import method, sgd_step


def sgd() -> SearchSpace:
    """Return the space of data-parallel SGD, against which every other one is compared."""
    return SearchSpace(
        name="sgd",
        dimensions=(
            method("sgd"),
            *sgd_step(),
            Float(
                field="weight_decay", low=1e-6, high=1e-2, log=True,
                source="1e-3 with All-CNN and 5e-4 with wide ResNets in arXiv:1707.00424",
            ),
        ),
        summary="SGD with Nesterov momentum: learning rate, its shape, momentum and weight decay.",
        source="The settings of the SGD baselines of Parle, arXiv:1707.00424: ranges around them.",
        points=(
            {"lr.shape": "cosine", "lr.effective": 1.0, "momentum.forgetting": 0.1, "weight_decay": 5e-4},
            {"lr.shape": "cosine", "lr.effective": 0.5, "momentum.forgetting": 0.1, "weight_decay": 1e-6},
        ),
    )  # fmt: skip
