"""The pictures of the theory; drawing them needs matplotlib, the extra ``plots``."""

from __future__ import annotations

from deeprelax.verify.pictures.files import draw_pictures, prepare

__all__ = ["draw_pictures", "prepare"]
