"""Thousands of light replicas in one process: what n, L, the springs and lag do to the center."""

from deeprelax.simulation.lag import Lag, read_lag
from deeprelax.simulation.simulate import Simulation, Track, simulate
from deeprelax.simulation.swarm import Swarm

__all__ = ["Lag", "Simulation", "Swarm", "Track", "read_lag", "simulate"]
