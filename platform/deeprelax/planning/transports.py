"""What one exchange of one vector costs over each transport.

Legend: P parameters, V bytes of one message and of the mean that comes back, n replicas on N nodes, r on each,
s servers, α seconds of latency one way, β bytes per second of a port, C bytes per second of a copy. Model of a message
of V bytes: α + V/β (Hockney 1994), all ports in use at once, nothing else on the links.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from deeprelax.planning.cluster import Cluster
from deeprelax.planning.codecs import Codec

ADD = 1.5
"""Copies that adding a vector to a sum amounts to: two are read, one is written; a copy reads one and writes one."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one exchange, from the moment all replicas are ready until all have the mean.

    Args:
        latency_s: seconds in which nothing moves.
        link_s: seconds of the replicas' ports.
        server_s: seconds of the servers' ports and sums beyond those of the replicas.
        memory_s: seconds of copies on the replicas' nodes.
        sent_bytes: payload that leaves one replica's process.
        link_bytes: payload that crosses one replica node's port in the busier direction.
    """

    latency_s: float = 0.0
    link_s: float = 0.0
    server_s: float = 0.0
    memory_s: float = 0.0
    sent_bytes: float = 0.0
    link_bytes: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.latency_s + self.link_s + self.server_s + self.memory_s


def ring(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Ring all-reduce over all replicas: 2 (n-1) rounds, in each every replica sends V/n to the next one.

    ::

        2 (n-1) (α + V/(n β)) + (n-1)/n · 1.5 V/C

    A ring that visits the nodes one after the other crosses every port once, so r replicas on a node cost no more; the
    slowest hop sets the pace. It sends the least bytes of any all-reduce, 2 (n-1)/n · V; its latency grows with n.
    Messages are added on the way, so only ``summable`` codecs can travel so.

    Source: Patarasuk, Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of workstations, section 4.
    """
    n = cluster.replicas
    return _ring(cluster, params, codec, n)


def _ring(cluster: Cluster, params: float, codec: Codec, members: int) -> Cost:
    rounds = 2 * (members - 1)
    moved = rounds / members * params * codec.bytes_per_parameter
    return Cost(
        latency_s=rounds * cluster.latency_s,
        link_s=cluster.transfer_s(moved),
        memory_s=cluster.copies_s(params, ADD * (members - 1) / members),
        sent_bytes=moved,
        link_bytes=moved if cluster.nodes > 1 else 0.0,
    )


def server(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Every replica sends its message to the parameter servers and reads the mean, both sliced over s servers.

    ::

        2 α + max(r, n/s) 2 V/β + 1.5 n/s · 4P/C + 3 · 4P/C

    A server's port takes n slices of V/s, a node's port r messages: the busier of the two sets the time (ingress
    contention). The port of a server beside r replicas takes n - r slices, and their slices for the other servers:
    r (1 - 1/s) + (n - r)/s messages in the place of n/s. A server adds n slices. Each replica hands its message over,
    takes the reply and copies it: 3 copies.

    Source: Li et al. 2014, Scaling distributed machine learning with the parameter server, for the layout; the times
    follow from the model above.
    """
    return _server(cluster, params, codec, members=cluster.replicas, per_node=cluster.replicas_per_node)


def _server(cluster: Cluster, params: float, codec: Codec, *, members: int, per_node: int) -> Cost:
    size = params * codec.bytes_per_parameter
    own = cluster.transfer_s(2 * per_node * size)
    taken = members / cluster.servers
    if cluster.servers_beside:
        taken += per_node * (1 - 2 / cluster.servers)
    servers = cluster.transfer_s(2 * taken * size)
    return Cost(
        latency_s=2 * cluster.latency_s,
        link_s=own,
        server_s=max(0.0, servers - own) + cluster.copies_s(params, ADD * members / cluster.servers),
        memory_s=cluster.copies_s(params, 3),
        sent_bytes=size,
        link_bytes=per_node * size if cluster.nodes > 1 else 0.0,
    )


def tree(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Servers in a tree of fan-in f, each on a node of its own; the fan-in that takes least is chosen.

    ::

        Σ over levels j = 1..d of  2 α + 2 f V/β + 1.5 f · 4P/C,   d = ceil(log_f m),  plus 3 · 4P/C

    with m children at the bottom: the nodes if replicas meet inside them, else the replicas. So time grows with log m
    at fixed bytes a port.
    """
    return _tree(cluster, params, codec, members=cluster.replicas, per_node=cluster.replicas_per_node)


def _tree(cluster: Cluster, params: float, codec: Codec, *, members: int, per_node: int) -> Cost:
    depths = range(1, math.ceil(math.log2(members)) + 1)
    fans = sorted({math.ceil(members ** (1 / depth) - 1e-9) for depth in depths})
    return min(
        (_tree_of(cluster, params, codec, members, per_node, fan) for fan in fans), key=lambda cost: cost.seconds
    )


def _tree_of(cluster: Cluster, params: float, codec: Codec, members: int, per_node: int, fan: int) -> Cost:
    size = params * codec.bytes_per_parameter
    own = cluster.transfer_s(2 * per_node * size)
    levels = math.ceil(math.log(members, fan) - 1e-9)
    busy = cluster.transfer_s(2 * levels * fan * size)
    return Cost(
        latency_s=2 * levels * cluster.latency_s,
        link_s=own,
        server_s=max(0.0, busy - own) + cluster.copies_s(params, ADD * fan * levels),
        memory_s=cluster.copies_s(params, 3),
        sent_bytes=size,
        link_bytes=per_node * size if cluster.nodes > 1 else 0.0,
    )


def shared_memory(cluster: Cluster, params: float) -> Cost:
    """The r replicas of a node meet in shared memory, each on its core.

    ::

        (2 + (r+1)/(2r)) · 4P/C

    Each copies its vector in, averages 1/r of it (reads r slices of P/r, writes one) and copies the mean out: what
    memory traffic allows, 2.75 copies for r = 2. The library's own transport takes more, see benchmarks/README.md.
    Nothing is encoded.
    """
    r = cluster.replicas_per_node
    if r == 1:
        return Cost()
    return Cost(memory_s=cluster.copies_s(params, 2 + (r + 1) / (2 * r)), sent_bytes=4 * params)


def _in_nodes(cluster: Cluster, params: float, across: Cost) -> Cost:
    """Return the cost of meeting in shared memory before one vector a node travels."""
    inside = shared_memory(cluster, params)
    return replace(across, memory_s=across.memory_s + inside.memory_s, sent_bytes=inside.sent_bytes)


def node_ring(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Shared memory inside nodes, then :func:`ring` with one member a node."""
    across = _ring(cluster, params, codec, cluster.nodes) if cluster.nodes > 1 else Cost()
    return _in_nodes(cluster, params, across)


def node_server(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Shared memory inside nodes, then :func:`server` with one member a node: deputies under a sheriff."""
    across = _server(cluster, params, codec, members=cluster.nodes, per_node=1) if cluster.nodes > 1 else Cost()
    return _in_nodes(cluster, params, across)


def node_tree(cluster: Cluster, params: float, codec: Codec) -> Cost:
    """Shared memory inside nodes, then :func:`tree` with one member a node."""
    across = _tree(cluster, params, codec, members=cluster.nodes, per_node=1) if cluster.nodes > 1 else Cost()
    return _in_nodes(cluster, params, across)


Transport = Callable[[Cluster, float, Codec], Cost]
FLAT: Mapping[str, Transport] = {"ring": ring, "server": server, "tree": tree}
HIERARCHIES: Mapping[str, Transport] = {"node+ring": node_ring, "node+server": node_server, "node+tree": node_tree}
ADDS_ON_THE_WAY = {"ring", "node+ring"}
BUILT = {"ring", "server", "shared memory"}
"""What runs can use; the others are what could be built."""


def transports(cluster: Cluster) -> Mapping[str, Transport]:
    """Return the transports by name that make sense on a cluster."""
    if cluster.nodes == 1:
        return {"shared memory": node_server, "ring": ring, "server": server}
    return {**FLAT, **HIERARCHIES} if cluster.replicas_per_node > 1 else FLAT
