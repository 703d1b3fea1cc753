"""Which members of a round sent weights that no center should hear of: a rule of numbers, without transport."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

OUTLIER_RATIO = 100.0
"""How many times farther from the center than the others a member must be, and than itself the last time."""

FEWEST_TO_COMPARE = 3
"""Members with finite weights below which nobody is an outlier: of two, either could be the wrong one."""


def refused(gaps: Mapping[int, float], before: Mapping[int, float]) -> set[int]:
    """Return the replicas whose weights are not finite or absurdly far from the center.

    An outlier is farther than ``OUTLIER_RATIO`` times the median of the others *and* than ``OUTLIER_RATIO`` times its
    own last distance, if it has one. The first alone would refuse a replica that has always been far away (independent
    starts) once newcomers, which start at the center, are the majority. Others that did not move at all are no measure.
    The rule finds the wrong ones as long as they are fewer than half.

    Args:
        gaps: |x^a - x̄| of every member of the round, ``inf`` or ``nan`` if a number is not finite.
        before: the same at the last round that each took part in.
    """
    finite = {a: gap for a, gap in gaps.items() if math.isfinite(gap)}
    wrong = gaps.keys() - finite.keys()
    if len(finite) < FEWEST_TO_COMPARE:
        return wrong
    return wrong | {a for a in finite if _is_outlier(a, finite, before)}


def _is_outlier(a: int, gaps: Mapping[int, float], before: Mapping[int, float]) -> bool:
    others = median(gap for b, gap in gaps.items() if b != a)
    measure = max(others, before.get(a, 0.0))
    return others > 0 and gaps[a] > OUTLIER_RATIO * measure
