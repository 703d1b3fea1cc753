"""Dimensions that all families share: the local step.

The spaces hold the inner optimizer at SGD (DiLoCo may choose), so that rates and stability bounds mean the same on
every task. Batch size and replicas stay the task's and the method's, so that trials of one space cost the same; a
space of your own may vary them.
"""

from __future__ import annotations

from deeprelax.tuning.space import Constant, Dimension, Float, ScheduleDimension

_LR_SOURCE = (
    "0.1 is the rate of Entropy-SGD (arXiv:1611.01838) and Parle (arXiv:1707.00424); a factor 10 to 30 to both sides"
)
_MOMENTUM_SOURCE = "momentum .9 (arXiv:1707.00424) and .99 (arXiv:1412.6651), 0 without"


def method(name: str) -> Constant:
    """Return the dimension that holds the method."""
    return Constant(field="method", value=name)


def sgd_step() -> tuple[Dimension, ...]:
    """Return the learning rate, constant or on a cosine to 0, and the momentum of inner SGD."""
    return (Constant(field="optimizer", value="sgd"), learning_rate(), momentum("momentum"))


def learning_rate(low: float = 0.003, high: float = 0.3, source: str = _LR_SOURCE) -> ScheduleDimension:
    """Return the learning rate, constant or on a cosine to 0."""
    return ScheduleDimension(field="lr", shapes=("constant", "cosine"), start=(low, high), change=0.0, source=source)


def momentum(field: str, lowest_forgetting: float = 0.01) -> Float:
    """Return a momentum as 1 - m, in its logarithm: .9 and .99 are as far apart as 0 and .9."""
    return Float(field=field, low=lowest_forgetting, high=1.0, log=True, measure="forgetting", source=_MOMENTUM_SOURCE)
