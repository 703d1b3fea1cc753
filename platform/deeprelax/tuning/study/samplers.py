"""Optuna's samplers by name, made anew for each trial.

A sampler's seed is drawn from the study's seed and the trial's number. So no two drivers suggest the same point by
using the same random numbers, a sweep that goes on after a stop does not repeat itself, and a single driver's sweep can
be repeated exactly. What a sampler knows it reads from the study, so nothing is lost with the old one.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec

from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from deeprelax.errors import ConfigError
from deeprelax.tuning.study.cmaes import CmaEs
from deeprelax.tuning.study.storage import quiet
from deeprelax.tuning.study.terms import Terms

_NEEDS = {"gp": "scipy", "cmaes": "cmaes"}


def sampler_for(terms: Terms, number: int) -> BaseSampler:
    """Return the sampler of the trial with this number."""
    with quiet():
        return _made(terms, seed_for(terms.seed, number))


def check_sampler(terms: Terms) -> None:
    """Check that what a sampler needs is installed.

    Raises:
        ConfigError: it is not.
    """
    package = _NEEDS.get(terms.sampler)
    if package is not None and find_spec(package) is None:
        raise ConfigError(
            f"Invalid sampler={terms.sampler!r}: it needs {package}, which is not installed. "
            "Install it: pip install 'deeprelax[tune]', or use sampler='tpe'."
        )


def seed_for(seed: int, number: int) -> int:
    """Return the seed of a trial: 32 bits that depend on all bits of both."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=4).digest())


def _population(terms: Terms) -> int:
    """Return a population that leaves at least four generations after the random one."""
    return max(4, min(50, terms.trials // 5))


def _made(terms: Terms, seed: int) -> BaseSampler:
    match terms.sampler:
        case "tpe":
            # Running trials count as bad ones, so that drivers that ask at the same time get different points.
            return TPESampler(seed=seed, constant_liar=True)
        case "gp":
            return GPSampler(seed=seed)
        case "cmaes":
            return CmaEs(seed=seed)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=_population(terms))
        case "nsga3":
            return NSGAIIISampler(seed=seed, population_size=_population(terms))
    return RandomSampler(seed=seed)  # for a grid too: its points are in the queue
