"""Trainables are found by name, module or file, checked field by field, and found again by a worker."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, Field
from torch import nn

from deeprelax import registry
from deeprelax.errors import ConfigError
from deeprelax.reference import load_source
from deeprelax.registry import Reference, find, names, resolve, trainable
from deeprelax.replica.task import Task

FILE = '''
from __future__ import annotations
import torch
from pydantic import BaseModel
from deeprelax.registry import trainable
from deeprelax.replica.task import Task

class Config(BaseModel):
    batch_size: int = 7

@trainable("from-a-file")
def line(config: Config) -> Task:
    """A line through the origin."""
    data = (torch.ones(4, 1), torch.ones(4, 1))
    return Task(model=lambda: torch.nn.Linear(1, 1), train=data, test=data, batch_size=config.batch_size)
'''
RUNS_WITHOUT_GUARD = "from deeprelax.registry import find\nfind('digits')\ndef line(): ...\n"


class Inner(BaseModel):
    rate: float = Field(0.1, gt=0)


class Config(BaseModel):
    units: int = Field(4, ge=1)
    rates: list[float] = [0.5]
    inner: Inner = Inner()


class Required(BaseModel):
    size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataclassConfig:
    units: int = 4


def task(units: int = 4) -> Task:
    data = (torch.zeros(2, units), torch.zeros(2, dtype=torch.int64))
    return Task(model=lambda: nn.Linear(units, 2), train=data, test=data, batch_size=units)


def with_pydantic(config: Config) -> Task:
    """First line.

    Second paragraph.
    """
    return task(config.units)


def with_required(config: Required) -> Task:
    return task(config.size)


def with_dataclass(config: DataclassConfig) -> Task:
    return task(config.units)


def without_config() -> Task:
    return task()


def without_annotation(config):  # type: ignore[no-untyped-def]
    return task(config)


def with_two(config: Config, more: int) -> Task:
    return task(config.units + more)


def with_plain_dict(config: dict[str, object]) -> Task:
    return task(len(config))


def with_unknown_name(config: "Nowhere") -> Task:  # type: ignore[name-defined]  # noqa: F821, UP037
    return task(config.units)


def without_result() -> Task:
    return None  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    functions = [value for value in globals().values() if hasattr(value, "__deeprelax_trainable__")]
    yield
    for function in functions:
        del function.__deeprelax_trainable__


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "tasks.py"
    path.write_text(FILE)
    yield path
    sys.modules.pop("tasks", None)


def test_decorator_returns_the_function_itself_and_registers_it() -> None:
    def function(config: Config) -> Task:
        """What it is."""
        return task(config.units)

    decorated = trainable("mine")(function)
    assert decorated is function
    assert find("mine") is find(function)
    assert (find("mine").name, find("mine").summary, find("mine").schema) == ("mine", "What it is.", Config)
    assert "mine" in names()


def test_undecorated_function_is_found_under_its_own_name() -> None:
    found = find(with_pydantic)
    assert (found.name, found.summary) == ("with_pydantic", "First line.")


@pytest.mark.parametrize("point", entry_points(group=registry.GROUP), ids=lambda point: point.name)
def test_entry_point_of_the_package_is_found_by_its_name(point: object) -> None:
    name = getattr(point, "name", "")
    assert find(name).name == name
    assert find(name).summary


def test_all_names_are_sorted_and_unique() -> None:
    trainable("zebra")(without_config)
    trainable("ant")(with_pydantic)
    assert names() == sorted({*names(), "zebra", "ant"})


def test_configure_returns_every_field_as_plain_values() -> None:
    config = find(with_pydantic).configure({"units": "8", "rates": (1, 2)})
    assert config == {"units": 8, "rates": [1.0, 2.0], "inner": {"rate": 0.1}}


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [(with_pydantic, {"units": 3}, 3), (with_dataclass, {"units": 5}, 5), (without_config, {}, 4)],
)
def test_build_passes_the_validated_config(
    function: Callable[..., Task], values: dict[str, object], expected: int
) -> None:
    found = find(function)
    assert found.build(found.configure(values)).batch_size == expected


def test_every_wrong_field_is_named_with_value_requirement_and_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        find(with_pydantic).configure({"units": 0, "ratse": 1, "rates": ["x"], "inner": {"rate": -1, "hue": 2}})
    for part in (
        "'with_pydantic'",
        "Invalid units=0. Must be greater than or equal to 1.",
        "Unknown field 'ratse'. Did you mean 'rates'?",
        "Invalid rates.0='x'. Must be a valid number",
        "Invalid inner.rate=-1. Must be greater than 0.",
        "Unknown field 'inner.hue'.",
        "Its fields: inner, rates, units.",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (with_dataclass, {"unit": 1}, "Unknown field 'unit'. Did you mean 'units'?"),
        (without_config, {"units": 1}, "It has no fields."),
        (with_required, {}, "Missing field 'size'. Must be given."),
    ],
)
def test_wrong_fields_of_other_schemas(function: Callable[..., Task], values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        find(function).configure(values)
    assert message in str(error.value)


@pytest.mark.parametrize("function", [without_annotation, with_two, with_plain_dict, with_unknown_name])
def test_wrong_signature_is_refused_when_registered(function: Callable[..., Task]) -> None:
    with pytest.raises(ConfigError, match=rf"def {function.__name__}\(config: Config\) -> Task"):
        trainable("wrong")(function)


def test_wrong_result_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"NoneType\. Must be a Task"):
        find(without_result).build({})


@pytest.mark.parametrize("name", ["", "a:b", "a/b.py", "1st", "a b"])
def test_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="Invalid trainable name"):
        trainable(name)(without_config)


def test_name_taken_by_another_module_is_refused(file: Path) -> None:
    trainable("from-a-file")(without_config)
    with pytest.raises(ConfigError, match="taken by"):
        find(f"{file}:line")


def test_function_of_the_same_module_replaces_the_first_as_in_a_notebook() -> None:
    trainable("again")(without_config)
    trainable("again")(with_pydantic)
    assert find("again").function is with_pydantic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digitz", "Did you mean 'digits'"),
        ("no.such.module:line", "No module named"),
        ("deeprelax.errors:neerest", "Did you mean 'nearest'"),
        ("deeprelax.errors:ConfigError", "Unknown function 'ConfigError'"),
        ("missing.py:line", "existing Python file"),
        (":line", "Cannot import"),
    ],
)
def test_unknown_trainable_is_one_clear_error(text: str, message: str) -> None:
    trainable("digits")(without_config)
    with pytest.raises(ConfigError, match=message):
        find(text)


def test_object_that_is_no_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="Must be a name or a function"):
        find(3)  # type: ignore[arg-type]


def test_file_is_loaded_once_and_carries_its_source(file: Path) -> None:
    found = find(f"{file}:line")
    reference = found.reference()
    assert found.name == "from-a-file"
    assert (reference.path, reference.source) == (f"{file}:line", FILE)
    assert resolve(reference) is found


def test_changed_file_is_loaded_again(file: Path) -> None:
    find(f"{file}:line")
    file.write_text(FILE.replace("= 7", "= 8"))
    assert find(f"{file}:line").build({}).batch_size == 8


def test_reference_holds_the_source_that_ran_not_the_file_of_now(file: Path) -> None:
    found = find(f"{file}:line")
    file.unlink()
    assert found.reference().source == FILE


def test_worker_without_the_file_resolves_its_source() -> None:
    reference = Reference("/nowhere/tasks.py:line", "", FILE)
    assert resolve(reference).build({"batch_size": 3}).batch_size == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [("1 / 0", "ZeroDivisionError"), ("def line(:", "SyntaxError"), (RUNS_WITHOUT_GUARD, "__main__")],
)
def test_file_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path, source: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    for _ in range(2):  # the second time too: nothing half loaded may stay behind
        with pytest.raises(ConfigError, match=message):
            find(f"{path}:line")
    assert find(without_config).name == "without_config"


def test_file_keeps_its_own_future_imports() -> None:
    module = load_source("def line(x: int): ...", "annotated.py")
    assert module.line.__annotations__ == {"x": int}


def test_module_is_referred_to_by_name_without_its_source(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    found = find("tasks:line")
    assert (found.reference().path, found.reference().source) == ("tasks:line", None)
    assert resolve(found.reference()) is found


def test_worker_with_other_code_is_refused_with_the_fix(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    reference = find("tasks:line").reference()
    file.write_text(FILE + "\n# another version\n")
    with pytest.raises(ConfigError, match=r"differs from the driver's.*Install the same version"):
        resolve(reference)


def test_worker_without_the_module_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"Must be importable here and on every worker"):
        resolve(Reference("no_such_module:line", "0"))


def test_function_inside_a_function_has_no_reference() -> None:
    def local() -> Task:
        return task()

    with pytest.raises(ConfigError, match="local=True"):
        find(local).reference()


def python(*arguments: str, stdin: str = "", folder: Path | None = None) -> str:
    """Run a fresh interpreter and return what it printed; its ``__main__`` is the case under test."""
    return subprocess.run(
        [sys.executable, *arguments], input=stdin, cwd=folder, capture_output=True, text=True, check=True
    ).stdout


CELL = """
from deeprelax.errors import ConfigError
from deeprelax.registry import find
def cell(): ...
try:
    find(cell).reference()
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("arguments", [["-c", CELL], ["-"]], ids=["command", "standard input"])
def test_function_of_an_interactive_session_is_told_to_move_to_a_file(arguments: list[str]) -> None:
    assert "tasks.py:cell" in python(*arguments, stdin=CELL)


def test_notebook_cell_that_a_debugger_wrote_to_a_file_is_still_a_cell(tmp_path: Path) -> None:
    cell = tmp_path / "123.py"
    cell.write_text("def cell(): ...\n")
    run = f"exec(compile(open({str(cell)!r}).read(), {str(cell)!r}, 'exec'))\n"
    assert "tasks.py:cell" in python("-c", CELL.replace("def cell(): ...\n", run))


def test_script_travels_as_its_source(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    report = (
        "\nif __name__ == '__main__':\n"
        "    from deeprelax.registry import find, resolve\n"
        "    reference = find(line).reference()\n"
        "    print(reference.path, resolve(reference).name, resolve(reference).function is line)\n"
    )
    script.write_text(FILE + report)
    assert python("train.py", folder=tmp_path).split() == [f"{script}:line", "from-a-file", "False"]


def test_module_run_with_m_is_referred_to_by_name(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    report = (
        "\nif __name__ == '__main__':\n    from deeprelax.registry import find\n    print(find(line).reference())\n"
    )
    (tmp_path / "package" / "train.py").write_text(FILE + report)
    assert python("-m", "package.train", folder=tmp_path).startswith("Reference(path='package.train:line'")
