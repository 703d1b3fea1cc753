"""The theory in low dimension: exact solutions that the optimizers of this library are tested against."""

from __future__ import annotations

from deeprelax.pde.chain_law import ChainLaw
from deeprelax.pde.control import ControlProblem, PathCosts
from deeprelax.pde.coupled_recursions import EasgdRecursion, NoisyQuadratic, ParleRecursion
from deeprelax.pde.fokker_planck import AuxiliaryFokkerPlanck, contraction_rate
from deeprelax.pde.generator import birth_death_generator, transition_matrix
from deeprelax.pde.grid import Grid
from deeprelax.pde.heat import HeatSmoothing
from deeprelax.pde.hopf_lax import HopfLax
from deeprelax.pde.inner_chain import InnerChain
from deeprelax.pde.linear_recursion import LinearRecursion
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.mean_field import MeanField
from deeprelax.pde.minima import local_minima
from deeprelax.pde.order import fitted_order
from deeprelax.pde.potentials import F1, F2, Potential, quadratic, random_potential, tilt
from deeprelax.pde.sde import fast_slow, homogenized
from deeprelax.pde.stability import (
    spectral_radius_damped,
    spectral_radius_easgd,
    spectral_radius_inner,
    spectral_radius_nesterov,
)
from deeprelax.pde.viscous import solve_viscous

__all__ = [
    "F1",
    "F2",
    "AuxiliaryFokkerPlanck",
    "ChainLaw",
    "ControlProblem",
    "EasgdRecursion",
    "Grid",
    "HeatSmoothing",
    "HopfLax",
    "InnerChain",
    "LinearRecursion",
    "LocalEntropy",
    "MeanField",
    "NoisyQuadratic",
    "ParleRecursion",
    "PathCosts",
    "Potential",
    "birth_death_generator",
    "contraction_rate",
    "fast_slow",
    "fitted_order",
    "homogenized",
    "local_minima",
    "quadratic",
    "random_potential",
    "solve_viscous",
    "spectral_radius_damped",
    "spectral_radius_easgd",
    "spectral_radius_inner",
    "spectral_radius_nesterov",
    "tilt",
    "transition_matrix",
]
