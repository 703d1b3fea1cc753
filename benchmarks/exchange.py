"""An exchange of one float32 vector between 2 processes: through shared memory, by gloo, through Ray, and a plain copy.

All in the same two processes, one after the other in each turn; both begin at the same tick of the clock, and the
slower one counts. The copy is of one process while the other waits. Shared memory and the server run the library's
whole exchange, which moves the center; gloo is its bare all-reduce and the division.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import torch
from benchmarks.measure import How, Row

from deeprelax import env

SIZES = (1_000_000, 10_000_000)
NAMES = ("copy", "shared memory", "gloo all-reduce", "server through Ray")
BARS = {("shared memory", 10_000_000): 3.0, ("server through Ray", 10_000_000): 10.0}
GLOO_BARS = {1_000_000: 1 / 5, 10_000_000: 1 / 2.5}
_TICK_S = 0.005
_REPLICAS = 2

Times = dict[str, list[float]]


class Process:
    """One of the two, a Ray actor."""

    def __init__(self, rank: int, folder: str) -> None:
        import torch.distributed as dist

        torch.set_num_threads(1)
        self.rank = rank
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=_REPLICAS, timeout=timedelta(minutes=2)
        )

    def times(self, size: int, turns: int, servers: Sequence[object]) -> Times:
        """Return the seconds of every contender in each turn; the first turn is not counted."""
        vector = torch.randn(size)
        contenders = self._contenders(vector, servers)
        times: Times = {name: [] for name in NAMES}
        for turn in range(turns + 1):
            for name, call in contenders.items():
                times[name].append(_seconds(call, turn))
        return {name: seconds[1:] for name, seconds in times.items()}

    def _contenders(self, vector: torch.Tensor, servers: Sequence[object]) -> dict[str, Callable[[int], object]]:
        import torch.distributed as dist

        spare = torch.empty_like(vector)
        memory, server = (
            _exchange_of(transport, handles, self.rank, vector)
            for transport, handles in zip(("shared_memory", "server"), servers, strict=True)
        )
        calls: tuple[Callable[[int], object], ...] = (
            lambda _: None if self.rank else spare.copy_(vector),
            memory,
            lambda _: (dist.all_reduce(spare), spare.div_(_REPLICAS)),
            server,
        )
        return dict(zip(NAMES, calls, strict=True))


def exchange_rows(how: How) -> list[Row]:
    """Return the rows of all sizes: against the copy, and shared memory against gloo."""
    env.pin(loopback=True)
    import ray

    ray.init(address="local", num_cpus=_REPLICAS, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            processes = [ray.remote(num_cpus=1)(Process).remote(rank, folder) for rank in range(_REPLICAS)]
            return [row for size in SIZES for row in _rows(size, _measured(processes, size, how))]
    finally:
        ray.shutdown()


def _measured(processes: Sequence[object], size: int, how: How) -> Times:
    import ray

    from deeprelax.exchange.server.coordinator import Rules
    from deeprelax.exchange.server.servers import CenterServers

    servers = [CenterServers.start(Rules(replicas=_REPLICAS, lease_s=600.0)) for _ in range(2)]
    handles = [tuple(one.handles) for one in servers]
    turns = how.repeats * how.rounds
    ran = ray.get([process.times.remote(size, turns, handles) for process in processes])  # type: ignore[attr-defined]
    for one in servers:
        one.close()
    return {name: [max(both) for both in zip(*(times[name] for times in ran), strict=True)] for name in NAMES}


def _rows(size: int, times: Times) -> list[Row]:
    def row(group: str, name: str, against: str, bar: float | None) -> Row:
        seconds, base = tuple(times[name]), tuple(times[against])
        return Row(group=group, name=name, seconds=seconds, base_seconds=base, against=against, bar=bar)

    group = f"exchange of {size / 1e6:g}M float32, {_REPLICAS} processes"
    rows = [row(group, name, "copy", BARS.get((name, size))) for name in NAMES]
    return [*rows, row(f"{group}, against gloo", "shared memory", "gloo all-reduce", GLOO_BARS[size])]


def _exchange_of(transport: str, handles: object, rank: int, vector: torch.Tensor) -> Callable[[int], object]:
    """Return a call that exchanges the vector, of a replica that has joined."""
    from deeprelax.coupling.message import CenterStep, Message
    from deeprelax.exchange.choice import open_exchange
    from deeprelax.exchange.server.servers import Handles

    servers = Handles(*handles)  # type: ignore[misc]
    opened = open_exchange(transport, servers, rank, _REPLICAS, round_timeout_s=60.0)  # type: ignore[arg-type]
    assert transport == "server" or opened.why_not_memory is None, opened.why_not_memory
    said = Message(kind="join", vectors=(vector,), step=0, exchanges=0, center_steps=(CenterStep(),))
    opened.exchange.exchange(said)
    return lambda turn: opened.exchange.exchange(replace(said, kind="center", exchanges=turn))


def _seconds(call: Callable[[int], object], turn: int) -> float:
    import torch.distributed as dist

    dist.barrier()
    begin = (time.perf_counter() // _TICK_S + 1) * _TICK_S
    while time.perf_counter() < begin:
        pass
    call(turn)
    return time.perf_counter() - begin
