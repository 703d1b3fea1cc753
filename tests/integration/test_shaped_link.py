"""The link of the benchmarks is never faster than it was made. What it is slower by is up to the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from benchmarks.shaped_link import End, shaped_link

from deeprelax.planning import read_link

SERVER = """
import socket, sys
listening = socket.create_server((sys.argv[1], 5000))
print("listening", flush=True)
connection, _ = listening.accept()
connection.sendall(connection.recv(1))
size = 0
while size < 1_000_000:
    size += len(connection.recv(65536))
connection.sendall(b"all")
"""
CLIENT = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 5000), timeout=60)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
began = time.perf_counter()
connection.sendall(b"x")
connection.recv(1)
there_and_back = time.perf_counter() - began
connection.sendall(b"0" * 1_000_000)
connection.recv(3)
print(there_and_back, time.perf_counter() - began - there_and_back)
"""


def run(end: End, code: str, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(end.command(sys.executable, "-c", code, address), stdout=subprocess.PIPE, text=True)


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout


def test_latency_and_bandwidth_hold_and_nothing_is_left() -> None:
    if os.geteuid() != 0:
        pytest.skip("Needs root, to make network namespaces.")
    before = namespaces()
    with shaped_link(read_link("100Mbit:20ms")) as (left, right):
        assert left.namespace in namespaces()
        with run(left, SERVER, left.address) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            with run(right, CLIENT, left.address) as client:
                said, _ = client.communicate(timeout=60)
    there_and_back, transfer = map(float, said.split())
    assert there_and_back >= 0.040
    assert transfer >= 0.040 + 8e6 / 100e6
    assert namespaces() == before
