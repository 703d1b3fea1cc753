"""What users of the library test their own parts with."""

from deeprelax.testing.coupling import COUPLING_CHECKS, CouplingCheck, check_coupling
from deeprelax.testing.fake_link import FakeLink, RealClock, VirtualClock
from deeprelax.testing.faults import FAULTS_VARIABLE, Fault, FaultPlan
from deeprelax.testing.injection import FaultInjector

__all__ = [
    "COUPLING_CHECKS",
    "FAULTS_VARIABLE",
    "CouplingCheck",
    "FakeLink",
    "Fault",
    "FaultInjector",
    "FaultPlan",
    "RealClock",
    "VirtualClock",
    "check_coupling",
]
