"""What a run will take, before it runs: arithmetic on bytes, links and steps, without torch or Ray."""

from deeprelax.planning.cluster import Cluster
from deeprelax.planning.codecs import CODECS, Codec
from deeprelax.planning.plan import Plan, plan
from deeprelax.planning.predict import Prediction
from deeprelax.planning.units import Link, read_link, read_rate, read_seconds

__all__ = [
    "CODECS",
    "Cluster",
    "Codec",
    "Link",
    "Plan",
    "Prediction",
    "plan",
    "read_link",
    "read_rate",
    "read_seconds",
]
