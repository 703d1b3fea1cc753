"""What studies a database holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.joining import TERMS
from deeprelax.tuning.study.leases import GRACE_S
from deeprelax.tuning.study.ledger import Ledger
from deeprelax.tuning.study.link import OPENING_S
from deeprelax.tuning.study.storage import open_storage
from deeprelax.tuning.study.terms import Terms


@dataclass(frozen=True)
class Listed:
    """A study in a list.

    Args:
        name: of the study.
        terms: what its drivers agreed on.
        counts: see :meth:`Study.counts <deeprelax.tuning.study.study.Study.counts>`.
        done: how many of its trials have their outcome.
    """

    name: str
    terms: Terms
    counts: Mapping[str, int]
    done: int


def list_studies(url: str | None = None) -> list[Listed]:
    """Return the studies of a database, oldest first; those of other tools are left out.

    Args:
        url: see :class:`~deeprelax.tuning.study.address.Address`. A file that does not exist has no studies.

    Raises:
        StudyError: the database cannot be reached or used.
    """
    address = Address(url)
    if address.is_file and not address.file.exists():
        return []
    storage = open_storage(address, grace_s=GRACE_S, patience_s=OPENING_S)
    try:
        found = []
        for study in storage.get_all_studies():
            if TERMS not in study.user_attrs:
                continue
            terms = Terms.from_json(study.user_attrs[TERMS])
            study_id = storage.get_study_id_from_name(study.study_name)
            ledger = Ledger.of(storage.get_all_trials(study_id, deepcopy=False), terms)
            found.append(Listed(study.study_name, terms, ledger.counts(), ledger.done))
        return found
    finally:
        storage.close()
