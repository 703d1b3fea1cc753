"""The pictures of the theory; drawing them needs matplotlib, the extra ``plots``."""

from __future__ import annotations

from deeprelax.pictures import prepare
from deeprelax.verify.pictures.files import draw_pictures

__all__ = ["draw_pictures", "prepare"]
