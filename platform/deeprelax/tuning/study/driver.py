"""Who runs a trial: stored with it as plain JSON."""

from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version

from deeprelax.tuning.study.terms import Json

_PACKAGES = ("deeprelax", "torch", "ray", "optuna", "numpy")


def describe_driver(cluster: dict[str, Json] | None = None) -> dict[str, Json]:
    """Return host, process, versions and cores of this process.

    Args:
        cluster: what is known of the cluster, such as its ``cluster_id``, ``cores`` and ``gpus``; replaces what this
            process knows of its own machine.
    """
    own: dict[str, Json] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cluster_id": None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "cores": os.cpu_count(),
        "gpus": None,
    }
    return own | (cluster or {})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
