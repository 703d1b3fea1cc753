"""Trainables: the functions ``config -> Task`` that say what is trained, found by name, by module or by file.

Example:
    >>> @trainable("nothing")
    ... def nothing():
    ...     "A task that is never built."
    >>> find("nothing").summary
    'A task that is never built.'
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from deeprelax.errors import ConfigError, nearest
from deeprelax.reference import Reference, import_module, load_file, refer, refuse_while_loading
from deeprelax.schema import NoConfig, plain, schema_of, validate

if TYPE_CHECKING:
    from deeprelax.replica.task import Task

__all__ = ["GROUP", "NoConfig", "Reference", "Trainable", "find", "names", "resolve", "trainable"]

GROUP = "deeprelax.trainables"
_MARK = "__deeprelax_trainable__"
_REGISTERED: dict[str, Trainable] = {}
_Function = TypeVar("_Function", bound="Callable[..., Task]")


@dataclass(frozen=True)
class Trainable:
    """A function that builds a :class:`~deeprelax.replica.task.Task` from a validated config.

    Args:
        name: the name it is registered under.
        function: takes one ``schema`` object, or nothing if ``schema`` is :class:`NoConfig`.
        schema: a pydantic model or a dataclass.
        summary: first line of the function's docstring.
    """

    name: str
    function: Callable[..., Task]
    schema: type
    summary: str

    def configure(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the complete config as plain JSON values: ``values`` and the defaults of all other fields.

        Raises:
            ConfigError: names every wrong field of ``values``, its value, what is required and the nearest right name.
        """
        return plain(self.schema, self._validate(values))

    def build(self, config: Mapping[str, object]) -> Task:
        """Return the task for ``config``, which is validated again.

        Raises:
            ConfigError: a field is wrong, or the function did not return a Task.
        """
        # Imported here so that finding and checking trainables does not load torch.
        from deeprelax.replica.task import Task

        validated = self._validate(config)
        task: object = self.function() if self.schema is NoConfig else self.function(validated)
        if not isinstance(task, Task):
            raise ConfigError(f"Invalid result of trainable {self.name!r}: a {type(task).__name__}. Must be a Task.")
        return task

    def reference(self) -> Reference:
        """Return where a worker finds the function.

        Raises:
            ConfigError: the function lives in a notebook cell, an interactive session or another function.
        """
        return refer(self.function)

    def _validate(self, values: Mapping[str, object]) -> object:
        return validate(self.schema, values, f"trainable {self.name!r}")


def trainable(name: str) -> Callable[[_Function], _Function]:
    """Register the decorated function as a trainable; the function itself stays as it is.

    Args:
        name: letters, digits, ``_`` and ``-``. A second function of the same module or file replaces the first, so a
            notebook cell can run again.

    Raises:
        ConfigError: the name is malformed or taken, or the function's parameter is not annotated with a pydantic model
            or a dataclass.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise ConfigError(f"Invalid trainable name {name!r}. Must be a letter, then letters, digits, '_' or '-'.")

    def register(function: _Function) -> _Function:
        known = _REGISTERED.get(name)
        if known is not None and _home(known.function).isdisjoint(_home(function)):
            raise ConfigError(f"Invalid trainable name {name!r}: taken by {known.function.__module__}. Must be unique.")
        described = _REGISTERED[name] = _describe(name, function)
        setattr(function, _MARK, described)
        return function

    return register


def find(task: str | Callable[..., Task]) -> Trainable:
    """Return the trainable meant by ``task``.

    Args:
        task: a registered name, an entry point of the group ``deeprelax.trainables``, ``"module:function"``,
            ``"path/file.py:function"``, or the function itself. Only the first needs the decorator.

    Raises:
        ConfigError: nothing of this name exists, its code cannot be loaded, or a file being loaded starts a run.
    """
    refuse_while_loading()
    if inspect.isfunction(task):
        return _of(task)
    if not isinstance(task, str):
        raise ConfigError(f"Invalid trainable {task!r}. Must be a name or a function defined with def.")
    if task in _REGISTERED:
        return _REGISTERED[task]
    points = entry_points(group=GROUP)
    target, colon, function = (points[task].value if task in points.names else task).rpartition(":")
    if not colon:
        raise ConfigError(
            f"Unknown trainable {task!r}.{nearest(task, names())} Must be module:function, path/file.py:function "
            f"or one of: {', '.join(names())}."
        )
    return _member(load_file(Path(target)) if target.endswith(".py") else import_module(target), function)


def names() -> list[str]:
    """Return the sorted names of all registered and installed trainables."""
    return sorted({*_REGISTERED, *entry_points(group=GROUP).names})


def resolve(reference: Reference) -> Trainable:
    """Return the trainable on a worker.

    Raises:
        ConfigError: the code is not there or differs from the driver's.
    """
    return _member(reference.load(), reference.path.rpartition(":")[2])


def _member(module: ModuleType, name: str) -> Trainable:
    functions = {key: value for key, value in vars(module).items() if inspect.isfunction(value)}
    if name not in functions:
        raise ConfigError(f"Unknown function {name!r} in {module.__file__}.{nearest(name, functions)}")
    return _of(functions[name])


def _of(function: Callable[..., Task]) -> Trainable:
    marked = getattr(function, _MARK, None)
    return marked if isinstance(marked, Trainable) else _describe(function.__name__, function)


def _describe(name: str, function: Callable[..., Task]) -> Trainable:
    lines = (inspect.getdoc(function) or "").splitlines()
    return Trainable(name, function, schema_of(function), lines[0] if lines else "")


def _home(function: Callable[..., Task]) -> set[str]:
    return {function.__module__, inspect.unwrap(function).__code__.co_filename}
