"""The environment variables that Ray reads, pinned here and nowhere else, before Ray is imported.

A variable that the user has set keeps its value.
"""

from __future__ import annotations

import os
import secrets
import sys

ALWAYS = {
    # A worker without a GPU of its own keeps CUDA_VISIBLE_DEVICES, and Ray does not print a warning about it.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers stay in the driver's folder, so a relative data path means the same there.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Seconds between two looks at the workers (Ray's default 2): how fast an end or a death is noticed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def pin(*, loopback: bool, verbose: bool = False) -> None:
    """Set what Ray reads when it is imported and started.

    Args:
        loopback: the cluster is one of our own on this machine. Its ports then listen on 127.0.0.1 only, and only
            processes that know a token may use them. The token is drawn here and lives in this process and its
            children: unlike Ray's own it is not written to the home folder, where it would change what a later
            ``ray start`` does.
        verbose: leave Ray's messages. Otherwise they are dropped: what its daemons report Ray prints on standard
            *output*, even with ``log_to_driver=False``.
    """
    for name, value in ALWAYS.items():
        os.environ.setdefault(name, value)
    if not verbose:
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    # Ray has read these already when it was imported; changed now, driver and workers would disagree.
    if not loopback or "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
