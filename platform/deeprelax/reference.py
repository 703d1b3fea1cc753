"""How code reaches a worker: by import path and source hash, or as source text; never by unpickling."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from deeprelax.errors import ConfigError

_PRIVATE = "_deeprelax_source_"
_SOURCES: dict[str, str] = {}
_LOADING: list[str] = []


@dataclass(frozen=True)
class Reference:
    """Where a worker finds a function.

    Args:
        path: ``"package.module:function"``, or ``"/folder/file.py:function"`` when ``source`` is given.
        source_hash: SHA-256 of the source text of the function's module.
        source: the module's source text if no worker can import it by name (a script, a file given by path), else None.
    """

    path: str
    source_hash: str
    source: str | None = None

    def load(self) -> ModuleType:
        """Return the function's module, imported by name or executed from ``source``.

        Raises:
            ConfigError: the module cannot be imported here, or differs from the driver's.
        """
        target = self.path.rpartition(":")[0]
        if self.source is not None:
            return load_source(self.source, target)
        module = import_module(target)
        file = inspect.getsourcefile(module)
        if file is None or hash_source(Path(file).read_text(encoding="utf-8")) != self.source_hash:
            raise ConfigError(
                f"Invalid code of module {target!r}: {file} differs from the driver's. Must be the same everywhere. "
                f"Install the same version here, ship it with runtime_env py_modules, or give path/file.py:function."
            )
        return module


def refer(function: Callable[..., object]) -> Reference:
    """Return the reference by which a worker finds ``function``.

    Raises:
        ConfigError: the function is defined in a notebook cell, an interactive session or inside another function.
    """
    module = _module_name(function)
    file = _file(function)
    if "<locals>" in function.__qualname__ or not (file.is_file() or module in _SOURCES):
        raise ConfigError(
            f"Invalid place of function {function.__qualname__!r}: a notebook cell, an interactive session or another "
            f"function. Must be at the top level of a file, so that workers can load it. Move it to tasks.py and give "
            f"'tasks.py:{function.__name__}', or train in this process with local=True."
        )
    by_name = module != "__main__" and module not in _SOURCES
    text = _SOURCES.get(module) or file.read_text(encoding="utf-8")
    path = f"{module if by_name else file}:{function.__name__}"
    return Reference(path, hash_source(text), None if by_name else text)


def hash_source(text: str) -> str:
    """Return the SHA-256 of ``text`` in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def import_module(name: str) -> ModuleType:
    """Import the module ``name``; whatever goes wrong in it becomes a :class:`ConfigError`."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(
            f"Cannot import module {name!r}: {type(error).__name__}: {error}. Must be importable here and on every "
            f"worker. Install its package, or give path/file.py:function."
        ) from error


def load_file(path: Path) -> ModuleType:
    """Execute the Python file ``path`` as a private module, once per content."""
    if not path.is_file():
        raise ConfigError(
            f"Invalid file {str(path)!r}. Must be an existing Python file; relative paths start at {Path.cwd()}."
        )
    return load_source(path.read_text(encoding="utf-8"), str(path.resolve()))


def load_source(text: str, filename: str) -> ModuleType:
    """Execute ``text`` as a private module, once per content; ``filename`` is shown in tracebacks."""
    name = _PRIVATE + hash_source(f"{filename}\n{text}")[:16]
    if name in sys.modules:
        return sys.modules[name]
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = filename
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    _SOURCES[name] = text
    _LOADING.append(filename)
    try:
        exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"Cannot load {filename}: {type(error).__name__}: {error}. Must run without errors when imported."
        ) from error
    finally:
        _LOADING.pop()
    return module


def refuse_while_loading() -> None:
    """Raise :class:`ConfigError` inside a file being loaded: a run started there would start on every worker again."""
    if _LOADING:
        raise ConfigError(
            f'Invalid call at the top level of {_LOADING[-1]}. Must stand under `if __name__ == "__main__":`.'
        )


def _module_name(function: Callable[..., object]) -> str:
    """Return the name by which the function's module can be imported, also under ``python -m package.module``."""
    name = function.__module__
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec.name if name == "__main__" and spec is not None else name


def _file(function: Callable[..., object]) -> Path:
    """Return the file of the function's code; for a cell of a notebook one that does not exist."""
    file = Path(inspect.unwrap(function).__code__.co_filename)
    main = getattr(sys.modules["__main__"], "__file__", None)
    # A notebook with a debugger writes each cell to a file: in __main__ only the running script is a whole module.
    if function.__module__ == "__main__" and (main is None or Path(main).resolve() != file.resolve()):
        return Path("<cell>")
    return file.resolve()
