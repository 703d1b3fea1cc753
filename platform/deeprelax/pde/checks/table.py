"""The ordered table of checks and the loop that runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import torch

from deeprelax.errors import ConfigError, nearest
from deeprelax.pde.checks.dynamics import t7, t9
from deeprelax.pde.checks.limits import t4, t10, t11
from deeprelax.pde.checks.quadrature import t1, t1b, t2, t3, t8, t12
from deeprelax.pde.checks.sampling import t5, t6, t6b
from deeprelax.pde.checks.stability import t13
from deeprelax.pde.checks.verdict import Verdict

Check = Callable[[int], tuple[Verdict, ...]]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "T1": t1,
        "T1b": t1b,
        "T2": t2,
        "T3": t3,
        "T4": t4,
        "T5": t5,
        "T6": t6,
        "T6b": t6b,
        "T7": t7,
        "T8": t8,
        "T9": t9,
        "T10": t10,
        "T11": t11,
        "T12": t12,
        "T13": t13,
    }
)
"""Row -> function of the seed, in the order of the report; the first docstring line is the row's title."""


def select(only: Iterable[str] | None, table: Mapping[str, Check] = CHECKS) -> dict[str, Check]:
    """Return the rows to run, in the order of the table.

    Args:
        only: their names; None = all.
        table: where they are looked up.

    Raises:
        ConfigError: a row does not exist, or none is chosen.
    """
    chosen = set(table) if only is None else set(only)
    unknown = sorted(chosen - set(table))
    if unknown:
        raise ConfigError(
            f"Invalid check {unknown[0]!r}. Must be one of {', '.join(table)}.{nearest(unknown[0], table)}"
        )
    if not chosen:
        raise ConfigError(f"No check chosen. Must be one or more of {', '.join(table)}.")
    return {row: check for row, check in table.items() if row in chosen}


def run_check(row: str, check: Check, seed: int) -> tuple[Verdict, ...]:
    """Run one check and return its verdicts.

    Runs on one torch thread, restored afterwards: the tensors are small, and threads only get in each other's way.
    A check that ends in a ConfigError gives one failed verdict with its message: a solution that left its grid is a row
    that failed, and the rows after it still have their say.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return check(seed)
    except ConfigError as error:
        return (Verdict.at_most(row, "the row runs to its end", math.nan, 0.0, str(error)),)
    finally:
        torch.set_num_threads(threads)


def run_checks(
    seed: int = 0, *, only: Iterable[str] | None = None, table: Mapping[str, Check] = CHECKS
) -> Iterator[tuple[str, tuple[Verdict, ...]]]:
    """Run checks one by one and yield ``(row, verdicts)`` as each ends. Arguments and errors as :func:`select`.

    Args:
        seed: of everything drawn at random.
        only: rows to run; None = all.
        table: the rows there are.
    """
    return ((row, run_check(row, check, seed)) for row, check in select(only, table).items())
