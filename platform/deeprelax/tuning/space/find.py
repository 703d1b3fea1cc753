"""Search spaces found by name, by module, by Python file or by YAML file."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from pathlib import Path

from deeprelax.errors import ConfigError, nearest
from deeprelax.reference import import_module, load_file
from deeprelax.tuning.space.search_space import SearchSpace
from deeprelax.tuning.space.yaml_file import read_space

GROUP = "deeprelax.search_spaces"


def find_space(text: str) -> SearchSpace:
    """Return the space meant by ``text``.

    Args:
        text: an entry point of the group ``deeprelax.search_spaces``, ``"module:function"``,
            ``"path/file.py:function"`` or ``"path/file.yaml"``. The function takes nothing and returns the space.

    Raises:
        ConfigError: nothing of this name exists, its code cannot be loaded, or what it returns is no space.
    """
    if text.endswith((".yaml", ".yml")):
        return read_space(Path(text))
    points = entry_points(group=GROUP)
    target, colon, name = (points[text].value if text in points.names else text).rpartition(":")
    if not colon:
        raise ConfigError(
            f"Unknown space {text!r}.{nearest(text, space_names())} Must be module:function, path/file.py:function, "
            f"path/file.yaml or one of: {', '.join(space_names())}."
        )
    module = load_file(Path(target)) if target.endswith(".py") else import_module(target)
    functions = {key: value for key, value in vars(module).items() if inspect.isfunction(value)}
    if name not in functions:
        raise ConfigError(f"Unknown function {name!r} in {module.__file__}.{nearest(name, functions)}")
    if inspect.signature(functions[name]).parameters:
        raise ConfigError(
            f"Invalid signature of {name!r} in {module.__file__}. Must take nothing: def {name}() -> SearchSpace."
        )
    space: object = functions[name]()
    if not isinstance(space, SearchSpace):
        raise ConfigError(f"Invalid result of {text!r}: a {type(space).__name__}. Must be a SearchSpace.")
    return space


def space_names() -> list[str]:
    """Return the sorted names of all installed spaces."""
    return sorted(set(entry_points(group=GROUP).names))
