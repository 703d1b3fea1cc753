"""What studies a database holds."""

from __future__ import annotations

from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.database import Database, Listed


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
    with Database(url) as database:
        return database.studies()
