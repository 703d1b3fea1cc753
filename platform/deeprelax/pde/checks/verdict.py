"""What a check says: a claim, a number, the bound it must keep."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    key: str
    claim: str
    measured: float
    bound: float
    passed: bool
    detail: str = ""

    @classmethod
    def at_most(cls, key: str, claim: str, measured: float, bound: float, detail: str = "") -> Verdict:
        """Return the verdict on ``measured <= bound``."""
        return cls(key=key, claim=claim, measured=measured, bound=bound, passed=measured <= bound, detail=detail)

    @classmethod
    def at_least(cls, key: str, claim: str, measured: float, bound: float, detail: str = "") -> Verdict:
        """Return the verdict on ``measured >= bound``; the claim reads "at least"."""
        return cls(key=key, claim=claim, measured=measured, bound=bound, passed=measured >= bound, detail=detail)

    @classmethod
    def order(cls, key: str, claim: str, fitted: float, expected: float, tolerance: float) -> Verdict:
        """Return the verdict on a fitted order of convergence: ``|fitted - expected| <= tolerance``."""
        detail = f"order {fitted:.3f}, expected {expected:g}"
        return cls.at_most(key, claim, abs(fitted - expected), tolerance, detail)
