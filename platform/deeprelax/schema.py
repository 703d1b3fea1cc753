"""Configs of trainables: the class a function takes, and values checked against it with every mistake named at once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from deeprelax.errors import ConfigError
from deeprelax.validation import config_error


class NoConfig(BaseModel):
    """The config of a function that takes no parameter."""


def schema_of(function: Callable[..., object]) -> type:
    """Return the class of the only parameter of ``function``, or :class:`NoConfig` if it has none.

    Raises:
        ConfigError: the parameter's annotation is missing, or is neither a pydantic model nor a dataclass.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return NoConfig
    if len(parameters) > 1 or parameters[0].annotation is inspect.Parameter.empty:
        raise _bad_signature(function, "not one annotated parameter")
    # Only this annotation is evaluated: the others may name types that are imported for type checkers alone.
    holder = SimpleNamespace(__annotations__={"config": parameters[0].annotation})
    try:
        schema = get_type_hints(holder, getattr(function, "__globals__", {}))["config"]
    except NameError as error:
        raise _bad_signature(function, str(error)) from None
    if not (isinstance(schema, type) and (issubclass(schema, BaseModel) or dataclasses.is_dataclass(schema))):
        raise _bad_signature(function, f"{schema!r} is no pydantic model or dataclass")
    return schema


def validate(schema: type, values: Mapping[str, object], owner: str) -> object:
    """Return ``values`` as an object of ``schema``; fields that ``schema`` does not have are never accepted.

    Args:
        schema: a pydantic model or a dataclass.
        values: plain values; missing fields take their defaults.
        owner: whose config it is, for the message, such as ``"trainable 'digits'"``.

    Raises:
        ConfigError: one line for each wrong field: its value, what is required, the nearest right name.
    """
    try:
        return TypeAdapter(schema).validate_python(dict(values), extra="forbid")
    except ValidationError as error:
        raise config_error(error, owner, sorted(TypeAdapter(schema).json_schema().get("properties", {}))) from None


def plain(schema: type, config: object) -> dict[str, object]:
    """Return ``config``, an object of ``schema``, as JSON values with every field."""
    adapter: TypeAdapter[object] = TypeAdapter(schema)
    values: dict[str, object] = adapter.dump_python(config, mode="json")
    return values


def describe(schema: type) -> dict[str, str]:
    """Return a line for every field of ``schema``: its default and its description."""
    properties: dict[str, dict[str, object]] = TypeAdapter(schema).json_schema().get("properties", {})
    return {
        name: f"{field.get('default', 'required')!s:<10} {field.get('description', '')}".rstrip()
        for name, field in properties.items()
    }


def _bad_signature(function: Callable[..., object], problem: str) -> ConfigError:
    return ConfigError(
        f"Invalid signature {function.__name__}{inspect.signature(function)}: {problem}. Must take nothing, or one "
        f"parameter annotated with a pydantic model or dataclass of its module: "
        f"def {function.__name__}(config: Config) -> Task."
    )
