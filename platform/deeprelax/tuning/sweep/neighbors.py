"""The sweeps beside this one on the same cluster: each driver says every second what it claims, and hears the others.

What they say is kept by the cluster's head, so it needs neither a process nor a database and ends with the cluster. A
driver that has said nothing new for a while is dead, by the clock of whoever listens: clocks need not agree.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from ray.exceptions import RaySystemError, RpcError
from ray.experimental import internal_kv

from deeprelax.execution.cluster import alive_nodes
from deeprelax.tuning.sweep.admission import Shape
from deeprelax.tuning.sweep.sharing import Claim, may_run

BEAT_S = 1.0
"""Seconds between two claims of a driver."""

SILENT_S = 6.0
"""Seconds without a new claim after which a driver's share goes to the others."""

FORGOTTEN_S = 60.0
"""Seconds without a new claim after which what a dead driver has left is removed."""

TURN_S = 60.0
"""Seconds for which a driver has what cannot be divided evenly. Where clocks differ, one waits a little for a slot."""

_NAMESPACE = b"deeprelax"
_PREFIX = b"sweep-driver/"


class Neighbors:
    """The drivers on this cluster. As a context manager it says and hears, and takes its claim back at the end.

    Args:
        claim: returns what this driver, whose name it is given, claims now.
        turn_s: seconds, the same for all drivers.
    """

    def __init__(self, claim: Callable[[str], Claim], *, turn_s: float = TURN_S) -> None:
        self._claim, self._turn_s = claim, turn_s
        self._name = uuid.uuid4().hex
        self._said = self._share = 0
        self._divided = -math.inf
        self._heard: dict[bytes, tuple[bytes, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deeprelax-neighbors", daemon=True)

    @property
    def others(self) -> dict[str, Claim]:
        """The claims of the other living drivers, by their names."""
        now = time.monotonic()
        claims = [_read(said) for said, since in list(self._heard.values()) if now < since + SILENT_S]
        return {claim.driver: claim for claim in claims if claim is not None}

    def may_run(self, alone: int) -> int:
        """Return how many trials this driver may run at once, as of the last second.

        Args:
            alone: how many it could if it were alone.
        """
        others = self.others
        if not others:
            return alone
        if time.monotonic() >= self._divided + BEAT_S:  # Tune's loop asks ten times as often
            claims = {self._name: self._claim(self._name), **others}
            self._share = may_run(alive_nodes(), claims, self._name, int(time.time() // self._turn_s))
            self._divided = time.monotonic()
        return min(alone, self._share)

    def __enter__(self) -> Self:
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=SILENT_S)  # while the head does not answer it would wait for long
        with suppress(RaySystemError, RpcError):  # the cluster has gone, and everything that was said with it
            internal_kv._internal_kv_del(_PREFIX + self._name.encode(), namespace=_NAMESPACE)

    def _run(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(RaySystemError, RpcError):  # Tune's loop tells the user that the cluster has gone
                self._beat()

    def _beat(self) -> None:
        self._said += 1
        own = _PREFIX + self._name.encode()
        internal_kv._internal_kv_put(own, _written(self._claim(self._name), self._said), namespace=_NAMESPACE)
        keys = [key for key in internal_kv._internal_kv_list(_PREFIX, namespace=_NAMESPACE) if key != own]
        said: dict[bytes, bytes | None] = {key: internal_kv._internal_kv_get(key, namespace=_NAMESPACE) for key in keys}
        now = time.monotonic()
        before = self._heard
        self._heard = {
            key: before[key] if key in before and before[key][0] == words else (words, now)
            for key, words in said.items()
            if words is not None  # its driver has ended just now
        }
        for key, (_, since) in self._heard.items():
            if now > since + FORGOTTEN_S:
                internal_kv._internal_kv_del(key, namespace=_NAMESPACE)


def _written(claim: Claim, said: int) -> bytes:
    fields = {
        "driver": claim.driver,
        "parts": [dict(part) for part in claim.shape.parts],
        "running": claim.running,
        "most": claim.most,
        "said": said,
    }
    return json.dumps(fields).encode()


def _read(said: bytes) -> Claim | None:
    """Return the claim, or None for one of another version of this library that is written otherwise."""
    try:
        fields = json.loads(said)
        return Claim(
            driver=fields["driver"],
            shape=Shape(tuple(fields["parts"])),
            running=fields["running"],
            most=fields["most"],
        )
    except (KeyError, TypeError, ValueError):
        return None
