"""The shape of the repository: `platform/` is only a source root, three packages are typed, files stay readable."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
PACKAGES: list[str] = WHEEL["packages"]
MAX_LINES = 400


def test_platform_is_not_a_package() -> None:
    assert not (ROOT / "platform/__init__.py").exists(), "it would shadow the standard library's platform module"


def test_platform_has_exactly_one_child() -> None:
    assert [path.name for path in (ROOT / "platform").iterdir() if not path.name.startswith(".")] == ["deeprelax"]


def test_tests_have_no_folder_named_platform() -> None:
    assert not (ROOT / "tests/platform").exists()


def test_python_started_in_the_repository_finds_the_standard_platform_module() -> None:
    code = "import platform; platform.python_version()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_ships_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_one_can_read(package: str) -> None:
    lines = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert lines, f"{package} holds no module"
    assert {path: n for path, n in lines.items() if n > MAX_LINES} == {}
