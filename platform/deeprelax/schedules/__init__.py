"""Schedules are values: start, end, shape and unit; exact at any position of a run, written as short text."""

from deeprelax.schedules.position import Position, Unit
from deeprelax.schedules.schedule import Schedule
from deeprelax.schedules.text import as_schedule, parse, write

__all__ = ["Position", "Schedule", "Unit", "as_schedule", "parse", "write"]
