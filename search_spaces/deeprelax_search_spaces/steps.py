"""Dimensions that all families share: the local step.

The spaces hold the inner optimizer at SGD (DiLoCo may choose), so that rates and stability bounds mean the same on
every task. Batch size and replicas stay the task's and the method's, so that trials of one space cost the same; a
space of your own may vary them.
"""

from __future__ import annotations

from deeprelax.tuning.space import Constant, Dimension, Float, ScheduleDimension

_LR_SOURCE = (
    "1 (0.1 with momentum 0.9) in arXiv:1611.01838 and arXiv:1707.00424, times 2; 0.1 (no momentum) in arXiv:1412.6651"
)
_MOMENTUM_SOURCE = "momentum .9 (arXiv:1707.00424), .99 (EAMSGD, arXiv:1412.6651), 0 without"


def method(name: str) -> Constant:
    """Return the dimension that holds the method."""
    return Constant(field="method", value=name)


def sgd_step() -> tuple[Dimension, ...]:
    """Return the momentum of inner SGD and its learning rate."""
    return (Constant(field="optimizer", value="sgd"), momentum("momentum"), learning_rate())


def learning_rate() -> ScheduleDimension:
    """Return the learning rate of SGD as lr/(1-m), after the momentum m; constant or on a cosine to 0.

    The range of the rate itself would have to depend on the momentum: 0.1 is usual with 0.9 and far too much with 0.99.
    """
    return ScheduleDimension(
        field="lr",
        shapes=("constant", "cosine"),
        start=(0.1, 2.0),
        change=0.0,
        measure="effective",
        source=_LR_SOURCE,
    )


def momentum(field: str, lowest_forgetting: float = 0.03) -> Float:
    """Return a momentum as 1 - m, in its logarithm: .9 and .99 are as far apart as 0 and .9."""
    return Float(field=field, low=lowest_forgetting, high=1.0, log=True, measure="forgetting", source=_MOMENTUM_SOURCE)
