"""Which pictures there are, and their files."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from deeprelax.errors import ConfigError
from deeprelax.verify.pictures import control, decay, merging, orders, relaxations
from deeprelax.verify.run import RowResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("pictures.mplstyle")

PICTURES: Mapping[str, Callable[[Figure], None]] = MappingProxyType(
    {
        "relaxations": relaxations.draw,
        "merging": merging.draw,
        "control": control.draw,
        "decay": decay.draw,
    }
)
"""File name without ``.svg`` -> what draws it; ``orders`` is drawn beside them, from what the checks measured."""


def prepare(folder: str) -> Path:
    """Return the folder, made if it was not there, before anything takes time.

    Raises:
        ConfigError: matplotlib is not installed, or the folder cannot be made or written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("Pictures need matplotlib, which is not installed. Run: pip install 'deeprelax[plots]'")
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass  # it can be written
    except OSError as error:
        raise ConfigError(
            f"Invalid plots={folder!r}: {error.strerror}. Must be a folder that can be written."
        ) from None
    return path


def draw_pictures(folder: Path, results: Sequence[RowResult]) -> list[Path]:
    """Draw each picture into an SVG file and return the files; the same results give the same bytes.

    Args:
        folder: where; an older picture of the same name is replaced.
        results: of :func:`~deeprelax.verify.run.verify`; each order they measured with their first seed is a panel of
            ``orders.svg``, which is not drawn if there is none.
    """
    files = [_save(folder / f"{name}.svg", draw) for name, draw in PICTURES.items()]
    first = results[0].seed if results else 0
    fitted = [
        verdict
        for result in results
        if result.seed == first
        for verdict in result.verdicts
        if verdict.convergence is not None
    ]
    if fitted:
        files.append(_save(folder / "orders.svg", lambda figure: orders.draw(figure, fitted)))
    return files


def _save(path: Path, draw: Callable[[Figure], None]) -> Path:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without pyplot there is no global state and no window: a Figure of its own, in a style that ends with the block.
    with mpl.rc_context(fname=STYLE):
        figure = Figure(layout="constrained")
        draw(figure)
        figure.savefig(path, metadata={"Creator": "deeprelax verify --plots", "Date": None})
    return path
