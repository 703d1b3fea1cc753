"""What a check says: a claim, a number, the bound it must keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from deeprelax.pde.order import fitted_order


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """Errors at a sequence of sizes, and the order they are claimed to fall with.

    Args:
        symbol: of the size, as on the axis of a picture, for example ``"1/β"``.
        sizes: at least 4, all > 0.
        errors: the error at each size, all > 0.
        expected: the order p of the claim, error ~ size^p.
    """

    symbol: str
    sizes: tuple[float, ...]
    errors: tuple[float, ...]
    expected: float

    @property
    def order(self) -> float:
        """The fitted order. Raises as :func:`~deeprelax.pde.order.fitted_order`."""
        return fitted_order(self.sizes, self.errors)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim of the theory, measured.

    Args:
        key: row of the table of checks, for example ``"T7"``.
        claim: what is claimed, one line.
        measured: the number found.
        bound: the number that ``measured`` must not exceed, or must reach where the claim says "at least".
        passed: whether it does; a NaN never passes.
        detail: further numbers for the reader.
        relation: how ``measured`` must stand to ``bound``.
        convergence: what an order was fitted to; None = no order is claimed.
    """

    key: str
    claim: str
    measured: float
    bound: float
    passed: bool
    detail: str = ""
    relation: Literal["<=", ">="] = "<="
    convergence: Convergence | None = None

    @classmethod
    def at_most(cls, key: str, claim: str, measured: float, bound: float, detail: str = "") -> Verdict:
        """Return the verdict on ``measured <= bound``."""
        return cls(key=key, claim=claim, measured=measured, bound=bound, passed=measured <= bound, detail=detail)

    @classmethod
    def at_least(cls, key: str, claim: str, measured: float, bound: float, detail: str = "") -> Verdict:
        """Return the verdict on ``measured >= bound``; the claim reads "at least"."""
        return cls(
            key=key, claim=claim, measured=measured, bound=bound, passed=measured >= bound, detail=detail, relation=">="
        )

    @classmethod
    def order(cls, key: str, claim: str, fitted: float, expected: float, tolerance: float) -> Verdict:
        """Return the verdict on a fitted order of convergence: ``|fitted - expected| <= tolerance``."""
        detail = f"order {fitted:.3f}, expected {expected:g}"
        return cls.at_most(key, claim, abs(fitted - expected), tolerance, detail)

    @classmethod
    def converges(cls, key: str, claim: str, convergence: Convergence, tolerance: float) -> Verdict:
        """Return the verdict on the order fitted to errors, and keep them: ``|fitted - expected| <= tolerance``."""
        verdict = cls.order(key, claim, convergence.order, convergence.expected, tolerance)
        return replace(verdict, convergence=convergence)
