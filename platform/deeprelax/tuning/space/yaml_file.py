"""Search spaces written as YAML; ``deeprelax spaces show --help`` has an example.

A file holds the fields of a :class:`~deeprelax.tuning.space.SearchSpace`, ``points`` under the name ``published``. Its
dimensions are listed by field: a plain value is a constant; a mapping is a dimension, with the name of its kind as one
key (``float`` and ``int``: [low, high]; ``choice``: values; ``schedule``: shapes; ``branch``: groups of dimensions;
``constant``: a list or mapping that is held) and the other arguments of that kind's class as further keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import yaml

from deeprelax.errors import ConfigError, nearest
from deeprelax.schema import validate
from deeprelax.tuning.space.branch import Branch
from deeprelax.tuning.space.dimension import Choice, Constant, Dimension, Float, Int
from deeprelax.tuning.space.schedule import ScheduleDimension
from deeprelax.tuning.space.search_space import SearchSpace

_KINDS: Mapping[str, type[Dimension]] = {
    "float": Float,
    "int": Int,
    "choice": Choice,
    "schedule": ScheduleDimension,
    "branch": Branch,
    "constant": Constant,
}
_WRITTEN_OTHERWISE = ("field", "name", "low", "high", "choices", "shapes", "options", "sets_field", "value")
_KEYS = ("name", "summary", "source", "dimensions", "published")


def read_space(path: Path) -> SearchSpace:
    """Return the space written in the file ``path``.

    Raises:
        ConfigError: there is no such file, it is no YAML, or one of its keys or values is wrong; the message names it.
    """
    document = _load(path)
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise ConfigError(
            f"Unknown key {unknown[0]!r} in {path}.{nearest(unknown[0], _KEYS)} Keys: {', '.join(_KEYS)}."
        )
    missing = [key for key in ("dimensions", "summary", "source") if key not in document]
    if missing:
        raise ConfigError(f"Missing key {missing[0]!r} in {path}. Must be given.")
    dimensions = tuple(_dimensions(_mapping(document["dimensions"], f"dimensions in {path}"), str(path)))
    points = document.get("published", [])
    if not isinstance(points, list):
        raise ConfigError(f"Invalid published={points!r} in {path}. Must be a list of points.")
    try:
        return SearchSpace(
            name=str(document.get("name", path.stem)),
            dimensions=dimensions,
            summary=str(document["summary"]),
            source=str(document["source"]),
            points=tuple(_mapping(point, f"published point in {path}") for point in points),  # type: ignore[misc]
        )
    except ConfigError as error:
        raise ConfigError(f"Invalid file {path}: {error}") from None


def _load(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise ConfigError(
            f"Invalid file {str(path)!r}. Must be an existing YAML file; relative paths start at {Path.cwd()}."
        )
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Invalid file {path}. Must be YAML: {error}") from None
    return _mapping(document, str(path))


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            f"Invalid {where}: {value!r}. Must be a mapping of names, as in 'deeprelax spaces show --help'."
        )
    return dict(value)


def _dimensions(entries: Mapping[str, object], path: str) -> list[Dimension]:
    return [_dimension(field, entry, path) for field, entry in entries.items()]


def _dimension(field: str, entry: object, path: str) -> Dimension:
    where = f"dimension {field!r} in {path}"
    if isinstance(entry, list):
        raise ConfigError(
            f"Invalid {where}: {entry!r}. Must say its kind: {{float: {entry!r}}}, {{choice: {entry!r}}} or "
            f"{{constant: {entry!r}}}."
        )
    if not isinstance(entry, dict):
        return Constant(field=field, value=entry)
    values = _mapping(entry, where)
    kind = _kind(values, where)
    given = values.pop(kind)
    if kind == "branch":
        return Branch(name=field, options=_options(given, where, path), source=str(values.get("source", "")))
    if "spans" in values:
        values["spans"] = tuple(_mapping(values["spans"], f"spans of {where}").items())
    dimension = validate(_KINDS[kind], {"field": field, **values, **_main_value(kind, given, where)}, where)
    assert isinstance(dimension, Dimension)
    return dimension


def _kind(values: Mapping[str, object], where: str) -> str:
    """Return the kind of a dimension; its other keys are checked."""
    kinds = [key for key in values if key in _KINDS]
    if len(kinds) != 1:
        hint = nearest(next(iter(values), ""), _KINDS)
        raise ConfigError(
            f"Invalid {where}: keys {', '.join(values)}.{hint} Must have exactly one of {', '.join(_KINDS)}."
        )
    own = dataclasses.fields(_KINDS[kinds[0]])  # type: ignore[arg-type]  # every kind is a dataclass
    keys = [kinds[0], *(item.name for item in own if item.name not in _WRITTEN_OTHERWISE)]
    unknown = next((key for key in values if key not in keys), None)
    if unknown is not None:
        raise ConfigError(f"Unknown key {unknown!r} of {where}.{nearest(unknown, keys)} Its keys: {', '.join(keys)}.")
    return kinds[0]


def _options(groups: object, where: str, path: str) -> tuple[tuple[str, tuple[Dimension, ...]], ...]:
    options = {name: _mapping(group, f"branch {name!r} of {where}") for name, group in _mapping(groups, where).items()}
    return tuple((name, tuple(_dimensions(group, path))) for name, group in options.items())


def _main_value(kind: str, value: object, where: str) -> dict[str, object]:
    """Return the value behind the kind's name as fields of its class."""
    if kind in {"float", "int"}:
        if not isinstance(value, list) or len(value) != 2:
            raise ConfigError(f"Invalid {kind}={value!r} of {where}. Must be [low, high].")
        return {"low": value[0], "high": value[1]}
    if kind == "schedule":
        return {"shapes": [value] if isinstance(value, str) else value}
    return {"choices" if kind == "choice" else "value": value}
