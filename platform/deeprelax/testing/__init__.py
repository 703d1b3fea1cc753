"""What users of the library test their own parts with."""

from deeprelax.testing.coupling import COUPLING_CHECKS, CouplingCheck, check_coupling

__all__ = ["COUPLING_CHECKS", "CouplingCheck", "check_coupling"]
