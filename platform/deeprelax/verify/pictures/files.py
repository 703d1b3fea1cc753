"""Which pictures there are, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from deeprelax.pictures import save
from deeprelax.verify.pictures import control, decay, merging, orders, relaxations
from deeprelax.verify.run import RowResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CREATOR = "deeprelax verify --plots"

PICTURES: Mapping[str, Callable[[Figure], None]] = MappingProxyType(
    {
        "relaxations": relaxations.draw,
        "merging": merging.draw,
        "control": control.draw,
        "decay": decay.draw,
    }
)
"""File name without ``.svg`` -> what draws it; ``orders`` is drawn beside them, from what the checks measured."""


def draw_pictures(folder: Path, results: Sequence[RowResult]) -> list[Path]:
    """Draw each picture into an SVG file and return the files; the same results give the same bytes.

    Args:
        folder: where; an older picture of the same name is replaced.
        results: of :func:`~deeprelax.verify.run.verify`; each order they measured with their first seed is a panel of
            ``orders.svg``, which is not drawn if there is none.
    """
    files = [save(folder / f"{name}.svg", draw, _CREATOR) for name, draw in PICTURES.items()]
    first = results[0].seed if results else 0
    fitted = [
        verdict
        for result in results
        if result.seed == first
        for verdict in result.verdicts
        if verdict.convergence is not None
    ]
    if fitted:
        files.append(save(folder / "orders.svg", lambda figure: orders.draw(figure, fitted), _CREATOR))
    return files
