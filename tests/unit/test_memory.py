"""How many copies of the parameters a replica holds, counted as storages in memory, against what the docstrings say."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from deeprelax.coupling import METHODS, Coupling, Diloco, EntropySgd, Hj, Lookahead, Parle, Sgd
from deeprelax.coupling.message import Message
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica

ROWS = 1009  # an odd size, so that no other tensor of the process has it


@pytest.fixture(autouse=True, scope="module")
def only_new_objects() -> Iterator[None]:
    """Hide what exists from the collector, so that looking through all objects takes no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def copies_alive(size_bytes: int) -> set[int]:
    """Return the addresses of all storages of ``size_bytes`` that any tensor of this process holds."""
    gc.collect()
    tensors = (thing for thing in gc.get_objects() if type(thing) in (Tensor, Parameter))
    storages = (tensor.untyped_storage() for tensor in tensors if tensor.layout == torch.strided)
    return {storage.data_ptr() for storage in storages if storage.nbytes() == size_bytes}


def stepped(coupling: Coupling) -> tuple[Replica, Rounds]:
    model = nn.Linear(ROWS, 1, bias=False)
    replica = Replica(model, coupling, total_steps=40, steps_per_pass=4)
    rounds = Rounds()

    def loop() -> Iterator[Message]:
        yield from replica.join()
        for _ in range(9):
            replica.flat.zero_grad()
            loss = model(torch.ones(1, ROWS)).square().sum()
            loss.backward()
            yield from replica.step(loss.detach())
        yield from replica.finish()

    running = loop()
    message = next(running, None)
    while message is not None:
        reply = rounds.complete([message])
        try:
            message = running.send(reply)  # type: ignore[attr-defined]
        except StopIteration:
            message = None
    return replica, rounds


def counted(coupling: Coupling) -> tuple[int, int]:
    """Return the copies of the parameters held by the replica, and where the center lives."""
    replica, rounds = stepped(coupling)
    alive = copies_alive(replica.weights[0].fast.untyped_storage().nbytes())
    assert rounds.center is not None
    center = {vector.untyped_storage().data_ptr() for vector in (*rounds.center.vectors, *rounds.center.velocity)}
    assert center <= alive
    return len(alive - center), len(center)


VARIANTS: list[tuple[Coupling, int]] = [
    *((method(lr=0.01, period=1 if name == "sgd" else 3), 1) for name, method in METHODS.items() if name != "easgd"),
    (METHODS["easgd"](lr=0.01, period=3), 0),
    (Sgd(lr=0.01, momentum=0), 0),
    (Parle(lr=0.01, period=3, outer_momentum=0.9), 1),
    (Parle(lr=0.01, period=3, averaging=0), 1),
    (Parle(lr=0.01, period=3, consensus="averaged"), 1),
    (Parle(lr=0.01, period=3, rho="auto(100)"), 1),
    (Parle(lr=0.01, period=3, optimizer="adamw"), 2),
    (EntropySgd(lr=0.01, period=3, beta=1e4), 1),
    (EntropySgd(lr=0.01, period=3, averaging=0), 1),
    (EntropySgd(lr=0.01, period=3, outer_momentum=0.9), 1),
    (EntropySgd(lr=0.01, period=3, spring="decoupled"), 1),
    (Hj(lr=0.01, period=3, averaging=0.75), 1),
    (Hj(lr=0.01, period=3, variant="fixed_point"), 1),
    (Lookahead(lr=0.01, period=3, optimizer="rmsprop"), 1),
    (Diloco(lr=0.01, period=3, optimizer="adamw"), 2),
]


def name_of(coupling: Coupling) -> str:
    given = coupling.model_fields_set - {"lr", "period"}
    return "-".join([coupling.method(), *sorted(f"{field}={coupling.model_dump()[field]}" for field in given)])


@pytest.mark.parametrize(("coupling", "inner"), VARIANTS, ids=[name_of(coupling) for coupling, _ in VARIANTS])
def test_replica_holds_weights_gradient_the_methods_vectors_and_the_inner_optimizers(
    coupling: Coupling, inner: int
) -> None:
    replica, center = counted(coupling)
    assert replica == 2 + len(coupling.vectors) + inner
    assert center == (2 if coupling.method() == "diloco" else 1)


def copies_claimed(method: type[Coupling]) -> int:
    """Return the number in the sentence that starts with ``Memory:`` in the docstring."""
    assert method.__doc__
    claim = re.search(r"Memory:\s+(?:(\d+) cop(?:y|ies)|(no vector))", method.__doc__)
    assert claim, f"{method.__name__} must say 'Memory: 2 copies (…)' or 'Memory: no vector …'"
    return int(claim[1] or 0)


@pytest.mark.parametrize("name", METHODS)
def test_docstring_states_the_memory_of_the_default_config(name: str) -> None:
    method = METHODS[name]
    assert copies_claimed(method) == len(method().vectors)
    named = re.findall(r"``(\w+)``", (method.__doc__ or "").split("Memory:")[1].split("\n\n")[0].split(";")[0])
    assert set(method().vectors) <= set(named) or not method().vectors


@pytest.mark.parametrize(
    ("coupling", "extra"),
    [
        (EntropySgd(averaging=0), -1),
        (EntropySgd(outer_momentum=0.9), 1),
        (Parle(outer_momentum=0.9), 1),
        (Hj(averaging=0.75), 1),
        (Hj(variant="fixed_point"), 1),
    ],
    ids=lambda value: name_of(value) if isinstance(value, Coupling) else str(value),
)
def test_variants_cost_what_the_docstring_adds_or_takes_off(coupling: Coupling, extra: int) -> None:
    assert len(coupling.vectors) == copies_claimed(type(coupling)) + extra
