"""What every test shares: a pinned environment, one Ray cluster, the rule for missing system packages."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.postgres import BIN, Postgres

# Before anything imports torch or Ray: both read these once.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    RAY_AUTH_MODE="disabled",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_TRAIN_ENABLE_PRINT_PATCH="0",
    RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.1",
)


@pytest.fixture(scope="session")
def needs() -> Callable[[str, str], None]:
    """Return ``needs(package, probe)``: without the path or command ``probe`` the test is skipped, in CI it fails."""

    def check(package: str, probe: str) -> None:
        if Path(probe).exists() or shutil.which(probe):
            return
        reason = f"Needs {probe}: install the system package {package}."
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} In CI nothing may be skipped; .ci/run lists what it installs.")
        pytest.skip(reason)

    return check


@pytest.fixture(scope="module")
def postgres(needs: Callable[[str, str], None]) -> Iterator[Postgres]:
    """Hold a real PostgreSQL of the module's own, for it may be killed."""
    needs("postgresql", str(BIN / "initdb"))
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Hold one local Ray cluster of 4 logical CPUs for the whole session; starting it takes about 6 s."""
    import ray

    # Ray's socket paths may have 107 bytes at most, so pytest's own temporary folder is too deep.
    with tempfile.TemporaryDirectory(prefix="dr", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=True,  # without it, a Train run that is stopped early leaks its placement group
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=200_000_000,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()
