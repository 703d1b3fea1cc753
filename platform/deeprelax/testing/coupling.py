"""What every coupling promises, as checks to run on one's own method, in this process, on a quadratic, in seconds.

::

    import pytest
    from deeprelax.testing import COUPLING_CHECKS

    @pytest.mark.parametrize("check", COUPLING_CHECKS, ids=lambda check: check.__name__)
    def test_my_coupling(check):
        check(MyCoupling(lr=0.05, period=4))
"""

from __future__ import annotations

import doctest
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from deeprelax.coupling import Coupling
from deeprelax.exchange.center import Center
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica, Steps
from deeprelax.replica.seeds import derived_seed

CouplingCheck = Callable[[Coupling], None]
_PERIODS = 12


class _Bowl(nn.Module):
    """f(p) = Σ h (p - 1)²/2 with curvatures h from 0.5 to 2, over two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.linspace(-1, 2, 15, dtype=torch.float64).view(3, 5))
        self.vector = nn.Parameter(torch.linspace(3, -2, 7, dtype=torch.float64))

    def forward(self, noise: float = 0.0) -> Tensor:
        point = torch.cat([self.matrix.flatten(), self.vector])
        curvature = torch.linspace(0.5, 2.0, point.numel(), dtype=torch.float64)
        return (0.5 * curvature * (point - 1) ** 2).sum() + noise * point.sum()


class _Group:
    """All replicas of one run; a mini-batch is the quadratic plus a slope drawn from (replica, step)."""

    def __init__(self, coupling: Coupling) -> None:
        self.coupling = coupling
        self.total_steps = _PERIODS * _period(coupling)
        self.replicas = [
            Replica(_Bowl(), coupling, index=a, steps_per_pass=_period(coupling), total_steps=self.total_steps)
            for a in range(coupling.replicas)
        ]
        self.rounds = Rounds()

    def train(self, first: int = 0, last: int | None = None) -> _Group:
        """Take the steps from ``first`` up to ``last``, by default to the end of the run."""
        steps = range(first, self.total_steps if last is None else last)
        run_together([self._loop(replica, steps) for replica in self.replicas], self.rounds)
        return self

    def resumed(self) -> _Group:
        """Return a new group that holds copies of this one's state, as if read from a checkpoint."""
        other, position = _Group(self.coupling), self.replicas[0].position
        assert self.rounds.center is not None
        center = Center.restored(_copies(self.rounds.center.state()))
        other.rounds = Rounds(center, position.step, position.exchanges)
        for new, old in zip(other.replicas, self.replicas, strict=True):
            where = {"step": position.step, "exchanges": position.exchanges}
            new.restore(_copies(old.state()), **where, coupling=old.coupling)
        return other

    def points(self) -> list[Tensor]:
        """Return the fast weights of all replicas."""
        return [w.fast for replica in self.replicas for w in replica.weights]

    def _loop(self, replica: Replica, steps: Sequence[int]) -> Steps[None]:
        yield from replica.join()
        for step in steps:
            generator = torch.Generator().manual_seed(derived_seed(0, "slope", replica.index, step))
            replica.flat.zero_grad()
            loss = replica.flat.model(0.1 * float(torch.randn((), generator=generator)))
            loss.backward()
            yield from replica.step(loss)


def check_config_round_trips(coupling: Coupling) -> None:
    """The config equals what is read back from its own plain values and from JSON."""
    method = type(coupling)
    assert method(**coupling.model_dump()) == coupling, "Must equal method(**coupling.model_dump())."
    assert method(**json.loads(coupling.model_dump_json())) == coupling, "Must survive JSON; use fields that do."
    assert method.model_validate_json(coupling.model_dump_json()) == coupling, "Must survive model_validate_json."
    assert coupling.with_fields() == coupling, "Must equal its copy without changes."


def check_deterministic(coupling: Coupling) -> None:
    """Two runs from one seed end with the same bits."""
    one, other = _Group(coupling).train(), _Group(coupling).train()
    assert _same(one.points(), other.points()), (
        "Must draw random numbers from the generator it is given, and nowhere else."
    )


def check_resumes(coupling: Coupling) -> None:
    """A run that is saved at an exchange, thrown away and restored ends with the same bits."""
    middle = _PERIODS // 2 * _period(coupling)
    whole, half = _Group(coupling).train(), _Group(coupling).train(last=middle)
    assert half.replicas[0].elapsed == 0, "Must exchange every `period` steps; give a constant period."
    again = half.resumed().train(first=middle)
    assert _same(whole.points(), again.points()), (
        "Must keep all state in named vectors: use w['name'], list it in `vectors`."
    )


def check_center(coupling: Coupling) -> None:
    """After an exchange the center is finite and every replica knows the same one, bit for bit."""
    centers = [replica.center() for replica in _Group(coupling).train().replicas]
    assert all(bool(vector.isfinite().all()) for center in centers for vector in center), "The center must be finite."
    assert all(_same(center, centers[0]) for center in centers), (
        "center(w) must be what was received, on every replica."
    )


def check_learns(coupling: Coupling) -> None:
    """The center's loss on a quadratic falls to less than half."""
    group = _Group(coupling).train()
    replica = group.replicas[0]
    with replica.flat.showing(replica.center()) as model, torch.no_grad():
        before, after = float(_Bowl()()), float(model())
    assert after < 0.5 * before, (
        f"The loss must fall to half; it went from {before:.3g} to {after:.3g}. Try another lr."
    )


def check_memory(coupling: Coupling) -> None:
    """The replica keeps the vectors it declares and no others; the docstring counts those of the default config."""
    replica = _Group(coupling).train().replicas[0]
    for w in replica.weights:
        undeclared = set(w) - {"velocity", *coupling.vectors}
        assert not undeclared, f"Must list {undeclared} in `vectors`."
        assert all(bool((w[name] != 0).any()) for name in coupling.vectors), "Must use every vector it lists."
    method = type(coupling)
    claim = re.search(r"Memory:\s+(?:(\d+) cop(?:y|ies)|no vector)", _doc(method))
    assert claim, "The docstring must say 'Memory: 2 copies (…)' or 'Memory: no vector …'."
    default = method().vectors
    assert int(claim[1] or 0) == len(default), f"The docstring must count {len(default)}: {', '.join(default)}."


def check_sends_what_it_holds(coupling: Coupling) -> None:
    """What travels is one of the replica's own vectors, so that nothing is copied to be sent."""
    for w in _Group(coupling).train(last=1).replicas[0].weights:
        held = {vector.data_ptr() for vector in (w.fast, w.grad, *(w[name] for name in w))}
        assert coupling.message(w).data_ptr() in held, (
            "message(w) must return w.fast, w.grad or w['name'], not a new tensor."
        )


def check_padding_stays_zero(coupling: Coupling) -> None:
    """Elements between the parameters stay zero, so they never count in a norm."""
    replica = _Group(coupling).train().replicas[0]
    (w,) = replica.weights
    used = torch.zeros_like(w.fast)
    for view in replica.flat.named([used]).values():
        view.fill_(1.0)
    for name, vector in {"fast": w.fast, **{name: w[name] for name in w}}.items():
        assert not bool(vector[used == 0].any()), (
            f"{name!r} must stay zero on the padding; draw noise by w.noise(generator)."
        )


def check_docstring(coupling: Coupling) -> None:
    """The docstring has equations, memory, a reference and an example that runs, and names every field it adds."""
    method = type(coupling)
    text = _doc(method)
    for part in ("Equations", "Memory:", "Reference", ">>> "):
        assert part in text, f"The docstring must have {part!r}."
    inherited = {name for base in method.__mro__[1:] for name in getattr(base, "model_fields", ())}
    own = [name for name in method.model_fields if name not in inherited]
    unnamed = [name for name in own if not re.search(rf"\b{name}\b", text)]
    assert not unnamed, f"The docstring must name {', '.join(unnamed)}."
    module = sys.modules[method.__module__]
    for example in doctest.DocTestFinder(recurse=False).find(method, method.__name__, module):
        failed = doctest.DocTestRunner().run(example).failed
        assert failed == 0, "The example in the docstring must run and print what it says."


COUPLING_CHECKS: tuple[CouplingCheck, ...] = (
    check_config_round_trips,
    check_deterministic,
    check_memory,
    check_resumes,
    check_center,
    check_learns,
    check_sends_what_it_holds,
    check_padding_stays_zero,
    check_docstring,
)


def check_coupling(coupling: Coupling) -> None:
    """Run every check on a coupling; pass a config with ``lr`` and a short constant period.

    Raises:
        AssertionError: a promise is broken; the message says what to change.

    Example:
        >>> from deeprelax.coupling import LocalSgd
        >>> check_coupling(LocalSgd(lr=0.05, period=4))
    """
    for check in COUPLING_CHECKS:
        check(coupling)


def _period(coupling: Coupling) -> int:
    return round(coupling.period.values[0])


def _doc(method: type[Coupling]) -> str:
    return inspect.cleandoc(method.__doc__ or "")


def _same(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
