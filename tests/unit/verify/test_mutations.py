"""Bugs of the kind that optimizers of this family have had, planted one by one: the checks must see each of them."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from types import ModuleType

import pytest

from deeprelax.coupling.entropy_sgd import EntropySgd
from deeprelax.coupling.parle import Parle
from deeprelax.coupling.relaxation import Relaxation
from deeprelax.pde import LocalEntropy, viscous
from deeprelax.pde.checks import CHECKS
from deeprelax.replica.replica import Replica
from deeprelax.verify.couplings import COUPLING_CHECKS

ROWS = {**CHECKS, **COUPLING_CHECKS}


@dataclass(frozen=True)
class Mutation:
    """One line of the library, ``right``, made ``wrong``; ``row`` is a row of the checks that must fail then."""

    owner: type | ModuleType
    function: str
    right: str
    wrong: str
    row: str

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        function = getattr(self.owner, self.function)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.right) == 1, "the line has changed: plant the bug in the new one"
        # The outer function holds __class__, which super() without arguments looks for.
        maker = textwrap.indent(source.replace(self.right, self.wrong), "    ")
        space: dict[str, object] = {}
        exec(f"def make(__class__):\n{maker}\n    return {self.function}", function.__globals__, space)
        make = space["make"]
        assert callable(make)
        monkeypatch.setattr(self.owner, self.function, make(self.owner))


MUTATIONS = {
    "the sign of |grad u|^2/2 in the solver": Mutation(
        viscous, "_rate", "- incoming.square() / 2", "+ incoming.square() / 2", "T1b"
    ),
    # -u solves the equation with the other sign of |grad u|^2/2.
    "the sign of |grad u|^2/2 by Cole-Hopf": Mutation(
        LocalEntropy, "value", "(-log_mass / self.beta)", "(log_mass / self.beta)", "T1"
    ),
    "noise 1/beta for 2/beta": Mutation(
        EntropySgd, "force", 'math.sqrt(2.0 * knobs["lr"]', 'math.sqrt(knobs["lr"]', "T5c"
    ),
    "z not reset at an exchange, Entropy-SGD": Mutation(
        Relaxation, "restart", 'w["average"].copy_(w["anchor"])', "pass", "C1"
    ),
    "z not reset at an exchange, Parle": Mutation(
        Relaxation, "restart", 'w["average"].copy_(w["anchor"])', "pass", "C5"
    ),
    "the schedule counter advances once a tensor": Mutation(
        Replica,
        "step",
        "self._move_to(self.position.step + 1,",
        "self._move_to(self.position.step + len(list(self.flat.model.parameters())),",
        "T15",
    ),
    "the outer step starts from y, HJ": Mutation(
        Relaxation, "outer_step", 'nesterov_(w["anchor"],', 'nesterov_(w["anchor"].copy_(w.fast),', "C2"
    ),
    "the outer step starts from y, Parle": Mutation(
        Parle, "_relax", 'nesterov_(w["anchor"],', 'nesterov_(w["anchor"].copy_(w.fast),', "C5"
    ),
}


@pytest.mark.parametrize("bug", MUTATIONS)
def test_a_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[bug]
    mutation.plant(monkeypatch)
    verdicts = ROWS[mutation.row](0)
    assert not all(verdict.passed for verdict in verdicts)
