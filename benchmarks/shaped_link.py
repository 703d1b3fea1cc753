"""Two network namespaces on this machine, joined by a link of a given bandwidth and latency. For root on Linux.

Kernels of small virtual machines often lack ``sch_netem``, which would do it, so a process of our own carries the
packets between two TUN devices: each packet leaves when the ones before it have left at the bandwidth, and arrives a
latency later. What finds more than ``QUEUE_S`` of traffic before it is dropped, as a router would, and TCP adapts.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import secrets
import select
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from deeprelax.planning import Link

QUEUE_S = 0.1
"""Seconds of traffic that wait at an end of the link before packets are dropped."""

MTU = 9000
"""Bytes of a packet: jumbo frames, so that carrying them takes little of the cores that train."""

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@dataclass(frozen=True)
class End:
    """One end of a link.

    Args:
        namespace: name of the network namespace.
        device: of the link in it.
        address: IPv4.
    """

    namespace: str
    device: str
    address: str

    def command(self, *words: str) -> list[str]:
        """Return a command that runs ``words`` at this end."""
        return ["ip", "netns", "exec", self.namespace, *words]


@contextmanager
def shaped_link(link: Link) -> Iterator[tuple[End, End]]:
    """Hold two joined namespaces; their processes must have ended before this does.

    Args:
        link: what it is like, the same both ways.

    Raises:
        PermissionError: this process is not root.
        CalledProcessError: the system has no network namespaces or TUN devices.
    """
    if os.geteuid() != 0:
        raise PermissionError("A link between network namespaces needs root.")
    mark = secrets.token_hex(2)
    ends = End(f"left-{mark}", f"tun-l-{mark}", "10.77.0.1"), End(f"right-{mark}", f"tun-r-{mark}", "10.77.0.2")
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(end)) for end in ends]
        carrier = multiprocessing.get_context("fork").Process(target=_carry, args=(files, link), daemon=True)
        carrier.start()
        stack.callback(carrier.join)
        stack.callback(carrier.terminate)
        yield ends


@contextmanager
def _opened(end: End) -> Iterator[int]:
    """Make an end's namespace and device; yield the file through which its packets go."""
    _ip("netns", "add", end.namespace)
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", end.device.encode(), _IFF_TUN | _IFF_NO_PI))
        _ip("link", "set", end.device, "netns", end.namespace)
        inside = ("-n", end.namespace)
        _ip(*inside, "addr", "add", f"{end.address}/24", "dev", end.device)
        _ip(*inside, "link", "set", end.device, "mtu", str(MTU), "up")
        _ip(*inside, "link", "set", "lo", "up")
        yield file
    finally:
        os.close(file)
        _ip("netns", "del", end.namespace)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass
class _Direction:
    """Packets on their way from one file to the other."""

    source: int
    sink: int
    free_at: float = 0.0
    flying: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, link: Link, now: float) -> None:
        packet = os.read(self.source, MTU + 64)
        if self.free_at - now > QUEUE_S:
            return
        self.free_at = max(now, self.free_at) + len(packet) / link.bytes_per_s
        self.flying.append((self.free_at + link.latency_s, packet))

    def land(self, now: float) -> None:
        while self.flying and self.flying[0][0] <= now:
            os.write(self.sink, self.flying.popleft()[1])


def _carry(files: Sequence[int], link: Link) -> None:
    """Carry packets until the process is ended."""
    os.nice(-10)  # late packets would be a slower link
    left, right = files
    ways = {left: _Direction(left, right), right: _Direction(right, left)}
    while True:
        due = min((way.flying[0][0] for way in ways.values() if way.flying), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select(files, [], [], timeout)
        now = time.monotonic()
        for file in ready:
            ways[file].take(link, now)
        for way in ways.values():
            way.land(now)
