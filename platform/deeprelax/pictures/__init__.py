"""What all pictures share; drawing them needs matplotlib, the extra ``plots``."""

from __future__ import annotations

from deeprelax.pictures.files import prepare, save

__all__ = ["prepare", "save"]
