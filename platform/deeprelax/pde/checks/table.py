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


def run_checks(seed: int = 0, *, only: Iterable[str] | None = None) -> Iterator[tuple[str, tuple[Verdict, ...]]]:
    """Run checks one by one and yield ``(row, verdicts)`` as each ends, so that a caller can show progress.

    Runs on one torch thread, restored after each row: the tensors are small, and threads only get in each other's way.
    A row that ends in a ConfigError yields one failed verdict with its message.

    Args:
        seed: of everything drawn at random.
        only: rows to run, in this order; None = all.

    Raises:
        ConfigError: a row does not exist.
    """
    rows = list(CHECKS) if only is None else list(only)
    for row in rows:
        if row not in CHECKS:
            raise ConfigError(f"Invalid check {row!r}. Must be one of {', '.join(CHECKS)}.{nearest(row, CHECKS)}")
    return _run(rows, seed)


def _run(rows: list[str], seed: int) -> Iterator[tuple[str, tuple[Verdict, ...]]]:
    for row in rows:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            verdicts = CHECKS[row](seed)
        except ConfigError as error:
            # A solution that left its grid is a row that failed; the rows after it still have their say.
            verdicts = (Verdict.at_most(row, "the row runs to its end", math.nan, 0.0, str(error)),)
        finally:
            torch.set_num_threads(threads)
        yield row, verdicts
