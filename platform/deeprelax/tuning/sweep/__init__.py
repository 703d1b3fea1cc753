"""Sweeps: a search space, a study and Ray Tune put together."""

from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.front import resume_sweep, sweep
from deeprelax.tuning.sweep.result import SweepResult

__all__ = ["SweepConfig", "SweepResult", "resume_sweep", "sweep"]
