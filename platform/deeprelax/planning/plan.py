"""All ways to train that are worth a look, fastest first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deeprelax.errors import ConfigError, nearest
from deeprelax.planning.cluster import COPY_BYTES_PER_S, Cluster
from deeprelax.planning.codecs import CODECS, Codec
from deeprelax.planning.methods import METHODS, Method
from deeprelax.planning.predict import Prediction, Timing, Work, alone, predict, predict_own_clocks
from deeprelax.planning.transports import ADDS_ON_THE_WAY, BUILT, Transport, transports
from deeprelax.planning.units import Link, read_link

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked, and every way to train.

    Args:
        work: of one replica.
        cluster: the machines.
        predictions: by seconds of a data pass, shortest first.
    """

    work: Work
    cluster: Cluster
    predictions: tuple[Prediction, ...]

    @property
    def fastest(self) -> Prediction:
        """The way that takes least of those that runs can go."""
        return next(one for one in self.predictions if one.transport in BUILT)

    def best(self, method: str) -> Prediction:
        """Return the fastest way to train by one method.

        Raises:
            ConfigError: the plan has none.
        """
        for prediction in self.predictions:
            if prediction.method == method:
                return prediction
        known = sorted({prediction.method for prediction in self.predictions})
        raise ConfigError(f"No plan for {method!r}. Must be one of {', '.join(known)}.{nearest(method, known)}")

    def as_dict(self) -> dict[str, object]:
        """Return everything as plain values for JSON."""
        return dataclasses.asdict(self)


def plan(
    *,
    params: float,
    replicas: int,
    link: str | Link,
    step_s: float,
    period: int | None = None,
    steps_per_pass: int = 1000,
    replicas_per_node: int = 1,
    servers: int = 1,
    servers_beside: bool = False,
    methods: Sequence[str] = (),
    codecs: Sequence[str] = (),
    copy_bytes_per_s: float = COPY_BYTES_PER_S,
) -> Plan:
    """Predict what a data pass takes, by every method over every transport with every codec.

    Every method makes ``steps_per_pass`` mini-batch steps on each replica, so all are compared at equal gradients.
    The model is arithmetic: latency, bytes over bandwidth, contention at servers, copies in memory. It knows no
    stragglers, lost packets or other traffic; its formulas stand in :mod:`deeprelax.planning.transports`.

    Args:
        params: P, parameters of the model, >= 1.
        replicas: n >= 2.
        link: of each node, such as ``"100Mbit:20ms"``: rate and latency, one way.
        step_s: seconds of one mini-batch step without any exchange, > 0.
        period: L, for all methods but DDP; None = each method's own default.
        steps_per_pass: mini-batch steps of one replica in one data pass, >= 1.
        replicas_per_node: r >= 1.
        servers: s >= 1 parameter servers, each on a node of its own.
        servers_beside: each on a node of replicas instead.
        methods: of ``ddp diloco easgd easgd_async parle``; none = all.
        codecs: of ``float32 bf16 int8 int4 topk``; none = all.
        copy_bytes_per_s: bytes that one process copies per second, > 0.

    Raises:
        ConfigError: a value is unknown or out of range.

    Example:
        >>> asked = plan(params=1e6, replicas=4, link="100Mbit:20ms", step_s=0.1, codecs=["float32"])
        >>> asked.fastest.method, asked.fastest.bound, asked.best("ddp").bound
        ('diloco', 'compute', 'link')
    """
    _require(params=params, replicas=replicas, step_s=step_s, steps_per_pass=steps_per_pass, period=period)
    cluster = Cluster(
        replicas=replicas,
        replicas_per_node=replicas_per_node,
        link=read_link(link) if isinstance(link, str) else link,
        servers=servers,
        servers_beside=servers_beside,
        copy_bytes_per_s=copy_bytes_per_s,
    )
    work = Work(params=params, step_s=step_s, steps_per_pass=steps_per_pass)
    found = [
        prediction
        for method in _chosen("method", methods, METHODS)
        for codec in _chosen("codec", codecs, CODECS)
        for prediction in _ways(work, cluster, method, period, codec)
    ]
    return Plan(work=work, cluster=cluster, predictions=tuple(sorted(found, key=lambda one: one.seconds)))


def _ways(work: Work, cluster: Cluster, method: Method, period: int | None, codec: Codec) -> Iterator[Prediction]:
    length = method.period if period is None or method.name == "ddp" else period
    own_s = cluster.copies_s(work.params, method.copies + codec.passes)
    if not method.waits:
        cost, servers_s = alone(cluster, work.params, codec)
        timing = predict_own_clocks(work, length, cost, own_s, servers_s)
        yield _prediction(method, "server", codec, length, timing, overlap=False)
        return
    for name, transport in _fitting(cluster, method, codec).items():
        cost = transport(cluster, work.params, codec)
        for overlap in (False, True):
            timing = predict(work, method, length, cost, own_s, overlap=overlap)
            yield _prediction(method, name, codec, length, timing, overlap=overlap)


def _fitting(cluster: Cluster, method: Method, codec: Codec) -> Mapping[str, Transport]:
    """Return the transports that carry a codec; DDP's gradients travel by all-reduce."""
    known = transports(cluster)
    rings = ADDS_ON_THE_WAY if codec.summable else set()
    names = rings if method.name == "ddp" else (known.keys() - ADDS_ON_THE_WAY) | rings
    return {name: transport for name, transport in known.items() if name in names}


def _prediction(
    method: Method, transport: str, codec: Codec, period: int, timing: Timing, *, overlap: bool
) -> Prediction:
    return Prediction(
        method=method.name, transport=transport, codec=codec.name, overlap=overlap, period=period, **vars(timing)
    )


def _chosen(what: str, names: Sequence[str], known: Mapping[str, T]) -> list[T]:
    for name in names:
        if name not in known:
            raise ConfigError(f"Unknown {what} {name!r}. Must be one of {', '.join(known)}.{nearest(name, known)}")
    return [known[name] for name in (names or known)]


def _require(*, params: float, replicas: int, step_s: float, steps_per_pass: int, period: int | None) -> None:
    if not 1 <= params < math.inf:
        raise ConfigError(f"Invalid params={params:g}. Must be >= 1, such as 1.3e9.")
    if replicas < 2:
        raise ConfigError(f"Invalid replicas={replicas}. Must be >= 2: one replica exchanges nothing.")
    if not 0 < step_s < math.inf:
        raise ConfigError(f"Invalid step_s={step_s:g}. Must be > 0: the seconds of one mini-batch step.")
    if steps_per_pass < 1:
        raise ConfigError(f"Invalid steps_per_pass={steps_per_pass}. Must be >= 1.")
    if period is not None and period < 1:
        raise ConfigError(f"Invalid period={period}. Must be >= 1.")
