"""Optuna's own suite of what a storage must do, for what lies between Optuna and the database here."""

from __future__ import annotations

import pickle

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from deeprelax.errors import StudyError


class StudyStorageCase(StorageTestCase):
    """The suite, but for the one duty that is refused on purpose."""

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        with pytest.raises(StudyError, match="never pickled"):
            pickle.dumps(storage)
