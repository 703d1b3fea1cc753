"""One report for a config that is wrong: every mistake, its value, the requirement and the nearest right name."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from deeprelax.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


def config_error(error: ValidationError, owner: str, fields: Iterable[str]) -> ConfigError:
    """Return the error to raise for a config that pydantic refused.

    Args:
        error: what pydantic found.
        owner: whose config it is, such as ``"coupling 'parle'"``.
        fields: the names of its fields.
    """
    known = list(fields)
    problems = "\n".join(f"  {_problem(item, known)}" for item in error.errors())
    names = f"Its fields: {', '.join(known)}." if known else "It has no fields."
    return ConfigError(f"Invalid config of {owner}:\n{problems}\n{names}")


def _problem(item: ErrorDetails, fields: list[str]) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"Unknown field {name!r}.{nearest(name, fields)}"
    if item["type"].startswith("missing"):
        return f"Missing field {name!r}. Must be given."
    requirement = item["msg"].replace("Input should", "Must").removeprefix("Value error, ").removesuffix(".")
    sentence = requirement if requirement.endswith("?") else f"{requirement}."
    # A validator of the whole config has no field of its own: its message names them.
    return f"Invalid {name}={reprlib.repr(item['input'])}. {sentence}" if name else sentence
