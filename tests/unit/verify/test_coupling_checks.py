"""The library's own couplings keep the claims of the theory, on three seeds and on potentials drawn at random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.pde import random_potential
from deeprelax.pde.checks import CHECKS, Verdict
from deeprelax.pde.potentials import Potential
from deeprelax.verify.couplings import COUPLING_CHECKS
from deeprelax.verify.couplings.entropy import c1_on
from deeprelax.verify.couplings.parle import c4_on
from deeprelax.verify.couplings.smoothers import c2_on, c3_on

Verdicts = tuple[Verdict, ...]


def failed(verdicts: Verdicts) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.passed]


def seeds(row: str) -> tuple[int, ...]:
    """Return three seeds, or one where the title says that nothing is drawn."""
    return (0,) if "no seed" in (COUPLING_CHECKS[row].__doc__ or "") else (0, 1, 2)


@pytest.mark.parametrize(("row", "seed"), [(row, seed) for row in COUPLING_CHECKS for seed in seeds(row)])
def test_row_holds(row: str, seed: int) -> None:
    verdicts = COUPLING_CHECKS[row](seed)
    assert {verdict.key for verdict in verdicts} == {row}
    assert failed(verdicts) == []


@pytest.mark.parametrize("row", COUPLING_CHECKS)
def test_row_has_a_title_and_a_name_of_its_own(row: str) -> None:
    assert (COUPLING_CHECKS[row].__doc__ or "").splitlines()[0].endswith(".")
    assert row not in CHECKS


@pytest.mark.parametrize(
    "verdicts_on",
    [
        c1_on,
        lambda potential, _: c2_on("descent", potential),
        lambda potential, _: c2_on("fixed_point", potential),
        c3_on,
        c4_on,
    ],
    ids=["entropy_sgd", "hj_descent", "hj_fixed_point", "heat", "parle"],
)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_applied_drift_is_that_of_the_theory_on_any_smooth_potential(
    verdicts_on: Callable[[Potential, int], Verdicts], seed: int
) -> None:
    assert failed(verdicts_on(random_potential(seed), seed)) == []
