"""A socket between two processes of one machine on which vectors are passed by reference."""

from __future__ import annotations

import json
import os
import socket
import struct

from deeprelax.exchange.shared_memory.vectors import SharedVectors

Words = dict[str, object]
"""JSON values. Nothing is unpickled."""

_LARGEST_BYTES = 65_536
_MOST_SHARED = 2  # the vectors of a reply and those of the group
_PEER = struct.Struct("3i")  # process, user, group


class Channel:
    """One end of a connection; packets arrive whole and in order, or the other process has ended.

    Args:
        connection: of the family ``AF_UNIX`` and the type ``SOCK_SEQPACKET``.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sent: set[int] = set()
        self._received: dict[int, SharedVectors] = {}

    @classmethod
    def connect(cls, name: str) -> Channel:
        """Return a channel to the process that listens at ``name``.

        Raises:
            OSError: no process of this machine does, or the system has no such sockets.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(f"\0{name}")
        except OSError:
            connection.close()
            raise
        return cls(connection)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def send(self, words: Words, *shared: SharedVectors) -> None:
        """Send words, and which vectors they are about; the memory itself is handed over with its first mention.

        Raises:
            OSError: the other process has ended, or hears nothing.
        """
        new = [one for one in shared if one.key not in self._sent]
        mentioned = {"shared": [one.key for one in shared], "new": [(one.key, one.layout) for one in new]}
        socket.send_fds(self._socket, [json.dumps(words | mentioned).encode()], [one.descriptor for one in new])
        self._sent.update(one.key for one in new)

    def receive(self, timeout_s: float | None = None) -> tuple[Words, list[SharedVectors]]:
        """Wait for a packet and return its words and vectors.

        Args:
            timeout_s: the longest wait; None waits for ever.

        Raises:
            ConnectionError: the other process has ended.
            TimeoutError: nothing came.
        """
        self._socket.settimeout(timeout_s)
        packet, descriptors, flags, _ = socket.recv_fds(self._socket, _LARGEST_BYTES, _MOST_SHARED)
        if not packet:
            raise ConnectionResetError("the other process has ended")
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), "a packet is larger than _LARGEST_BYTES"
        words = json.loads(packet)
        for (key, layout), descriptor in zip(words["new"], descriptors, strict=True):
            self._received[key] = SharedVectors(tuple((name, length) for name, length in layout), descriptor)
        return words, [self._received[key] for key in words["shared"]]

    def peer_is_own_user(self) -> bool:
        """True if the other process belongs to this one's user: the names of sockets are open to all users."""
        _, user, _ = _PEER.unpack(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        return bool(user == os.geteuid())

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
