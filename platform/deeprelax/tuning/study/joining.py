"""Making a study, or joining one that exists: every driver ends up with the same terms."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection

from deeprelax.errors import ConfigError, StudyError, nearest
from deeprelax.tuning.study.samplers import check_sampler
from deeprelax.tuning.study.storage import PatientStorage, quiet
from deeprelax.tuning.study.terms import Json, Terms, plain

TERMS = "deeprelax:terms"
FIRST = "first"

_CREATOR_S = 5.0
"""Seconds that a study may be without terms before its creator counts as dead."""

_DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}


@dataclass(frozen=True)
class Joined:
    """A study that is open.

    Args:
        study_id: its id in the database.
        terms: its terms.
        first: parameters to try first, those of slot 0, 1, ...
    """

    study_id: int
    terms: Terms
    first: tuple[Mapping[str, Json], ...]


def join(storage: PatientStorage, name: str, terms: Terms | None, first: Sequence[Mapping[str, object]] = ()) -> Joined:
    """Make the study ``name`` with these terms, or join it and check that its terms are these.

    Args:
        storage: of the database.
        name: of the study.
        terms: ours; None joins a study that must exist.
        first: parameters to try first, if the study is new.

    Raises:
        ConfigError: the name is empty, there are more points than trials, or the sampler cannot be used.
        StudyError: the study is unknown, made by another tool, or has other terms.
    """
    if terms is None:
        study_id = _known(storage, name)
    else:
        _check(name, terms, first)
        study_id = _made(storage, name, terms)
    stored = _stored(storage, study_id)
    if stored is None and terms is not None:
        _check_untouched(storage, study_id, name, terms)
        offered = terms.to_json() | {FIRST: plain([dict(point) for point in first], FIRST)}
        storage.set_study_user_attr(study_id, TERMS, offered)
        stored = _stored(storage, study_id)
    if stored is None:
        raise StudyError(_foreign(storage, name))
    agreed = Terms.from_json(stored)
    if terms is not None and (difference := agreed.difference(terms)):
        raise StudyError(
            f"Study {name!r} in {storage.link.address} exists and differs from yours:\n{difference}\n"
            f"Give another name, the same terms, or resume it with its own (--resume {name})."
        )
    check_sampler(agreed)
    return Joined(study_id, agreed, tuple(stored[FIRST]))  # type: ignore[arg-type]


def _known(storage: PatientStorage, name: str) -> int:
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        raise unknown(storage, name) from None


def unknown(storage: PatientStorage, name: str) -> StudyError:
    """Return the error for a study that does not exist; it names the nearest."""
    names = [study.study_name for study in storage.get_all_studies()]
    there = f"It has: {', '.join(sorted(names))}." if names else "It has no studies."
    return StudyError(f"Unknown study {name!r} in {storage.link.address}.{nearest(name, names)} {there}")


def _check(name: str, terms: Terms, first: Sequence[Mapping[str, object]]) -> None:
    if not name or len(name) > 512:
        raise ConfigError(f"Invalid study name {name[:40]!r}. Must have 1 to 512 characters.")
    if len(first) > terms.trials:
        raise ConfigError(f"Invalid trials={terms.trials}. Must be >= the {len(first)} points to try first.")
    if terms.sampler == "grid" and len(first) != terms.trials:
        raise ConfigError(
            f"Invalid sampler='grid' with {len(first)} points for trials={terms.trials}. The points of the grid must "
            "be given to try first, as many as trials; a space with a continuous parameter has no grid."
        )
    check_sampler(terms)


def _made(storage: PatientStorage, name: str, terms: Terms) -> int:
    try:
        with quiet():
            return storage.create_new_study([_DIRECTIONS[direction] for direction in terms.directions], name)
    except DuplicatedStudyError:
        study_id = storage.get_study_id_from_name(name)
    give_up = time.monotonic() + _CREATOR_S
    while _stored(storage, study_id) is None and not _is_used(storage, study_id) and time.monotonic() < give_up:
        time.sleep(0.1)  # its creator is about to write the terms
    return study_id


def _stored(storage: PatientStorage, study_id: int) -> dict[str, Json] | None:
    return storage.get_study_user_attrs(study_id).get(TERMS)


def _is_used(storage: PatientStorage, study_id: int) -> bool:
    return bool(storage.get_study_user_attrs(study_id) or storage.get_all_trials(study_id, deepcopy=False))


def _check_untouched(storage: PatientStorage, study_id: int, name: str, terms: Terms) -> None:
    """Check that a study without terms is one whose creator died at once, and so may be taken over."""
    directions = [_DIRECTIONS[direction] for direction in terms.directions]
    if _is_used(storage, study_id) or storage.get_study_directions(study_id) != directions:
        raise StudyError(_foreign(storage, name))


def _foreign(storage: PatientStorage, name: str) -> str:
    return f"Study {name!r} in {storage.link.address} was not made by deeprelax. Give another name."
