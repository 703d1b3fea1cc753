"""A study in an SQLite file: Optuna's own suite, and the leases in many more orders than the unit test tries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from tests.unit.tuning.conformance import StudyStorageCase
from tests.unit.tuning.machine import check_leases
from tests.unit.tuning.studies import prepared

from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.storage import open_storage


class TestSQLite(StudyStorageCase):
    """Optuna's own suite of what a storage must do."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        with closing(open_storage(Address(prepared(tmp_path)), grace_s=45, patience_s=10)) as opened:
            yield opened


@pytest.mark.long
def test_leases_in_many_orders() -> None:
    check_leases(examples=12, steps=30)
