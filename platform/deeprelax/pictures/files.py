"""The files of pictures: a folder that can be written, and SVG whose bytes depend on nothing but what is drawn."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deeprelax.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("pictures.mplstyle")


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


def save(path: Path, draw: Callable[[Figure], None], creator: str) -> Path:
    """Draw a picture into an SVG file and return the file; an older one is replaced.

    Args:
        path: of the file.
        draw: draws on an empty figure.
        creator: the command that makes it, written into the file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without pyplot there is no global state and no window: a Figure of its own, in a style that ends with the block.
    with mpl.rc_context(fname=STYLE):
        figure = Figure(layout="constrained")
        draw(figure)
        figure.savefig(path, metadata={"Creator": creator, "Date": None})
    return path
