"""Every row of the table of checks holds on three seeds, and a wrong sampler is caught."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde import InnerChain
from deeprelax.pde.checks import CHECKS, Verdict, reference_sampler, run_checks, t5


def seeds(row: str) -> tuple[int, ...]:
    """Return three seeds, or one where the title says that nothing is drawn."""
    return (0,) if "no seed" in (CHECKS[row].__doc__ or "") else (0, 1, 2)


@pytest.mark.parametrize(("row", "seed"), [(row, seed) for row in CHECKS for seed in seeds(row)])
def test_row_holds(row: str, seed: int) -> None:
    ((key, verdicts),) = run_checks(seed, only=[row])
    assert key == row
    assert verdicts
    assert {verdict.key for verdict in verdicts} == {row}
    assert [verdict for verdict in verdicts if not verdict.passed] == []


@pytest.mark.parametrize("row", CHECKS)
def test_row_has_a_title(row: str) -> None:
    assert (CHECKS[row].__doc__ or "").splitlines()[0].endswith(".")


def half_the_noise(chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
    return reference_sampler(
        dataclasses.replace(chain, noise_factor=1.0), steps=steps, paths=paths, generator=generator
    )


def no_spring(chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
    return reference_sampler(dataclasses.replace(chain, gamma=1e9), steps=steps, paths=paths, generator=generator)


def mirrored_anchor(chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
    return reference_sampler(dataclasses.replace(chain, x=-chain.x), steps=steps, paths=paths, generator=generator)


@pytest.mark.parametrize("sampler", [half_the_noise, no_spring, mirrored_anchor])
def test_a_wrong_sampler_is_caught(sampler: object) -> None:
    assert not all(verdict.passed for verdict in t5(0, sampler))  # type: ignore[arg-type]


def test_an_unknown_row_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="T77"):
        run_checks(0, only=["T1", "T77"])


def test_a_row_that_cannot_run_is_a_failed_row_and_the_next_one_runs() -> None:
    def broken(seed: int) -> tuple[Verdict, ...]:
        raise ConfigError(f"Invalid {seed=}.")

    rows = dict(run_checks(7, table={"T0": broken, "T11": CHECKS["T11"]}))
    assert [verdict.passed for verdict in rows["T0"]] == [False]
    assert rows["T0"][0].detail == "Invalid seed=7."
    assert all(verdict.passed for verdict in rows["T11"])


def test_not_a_number_never_passes() -> None:
    assert not Verdict.at_most("T", "claim", math.nan, 1.0).passed
    assert not Verdict.at_least("T", "claim", math.nan, 1.0).passed
    assert not Verdict.order("T", "claim", math.nan, 1.0, 0.1).passed


def test_checks_leave_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    list(run_checks(0, only=["T11"]))
    assert torch.get_num_threads() == before


def test_the_theory_needs_neither_ray_nor_optuna() -> None:
    code = "import sys, deeprelax.pde.checks; sys.exit(any(name in sys.modules for name in ('ray', 'optuna')))"
    subprocess.run([sys.executable, "-c", code], check=True)
