"""Pictures of a sweep that has ended; they need matplotlib, the extra ``plots``."""

from __future__ import annotations

from deeprelax.tuning.sweep.pictures.files import MISSING, draw_pictures

__all__ = ["MISSING", "draw_pictures"]
