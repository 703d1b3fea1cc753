"""Colours that a colour-blind reader can tell apart (Okabe and Ito 2008); the rest is in pictures.mplstyle."""

from __future__ import annotations

LOSS = "#9a9a9a"
BLUE, ORANGE, BLACK = "#0072b2", "#d55e00", "#000000"
# From far from the loss to near it: each is darker than the one before, so that they differ in grey too.
NEARER = ("#e69f00", "#d55e00", "#7b2d8b", "#00204d")
