"""How flat a loss is around a model's weights: "wide valley" as numbers, for any model and task."""

from __future__ import annotations

from deeprelax.flatness.config import FlatnessConfig
from deeprelax.flatness.estimate import Estimate
from deeprelax.flatness.landscape import Landscape
from deeprelax.flatness.local_entropy import Smoothed
from deeprelax.flatness.measure import Flatness, measure

__all__ = ["Estimate", "Flatness", "FlatnessConfig", "Landscape", "Smoothed", "measure"]
