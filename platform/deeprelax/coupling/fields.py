"""The kinds of field a coupling's config is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from deeprelax.coupling.codec import Codec, read_codec, write_codec
from deeprelax.errors import ConfigError
from deeprelax.schedules import Schedule, as_schedule, write


def _read(value: object) -> Schedule:
    if isinstance(value, bool) or not isinstance(value, Schedule | int | float | str):
        raise ConfigError("Must be a number or a schedule such as exp(100,1).")
    return as_schedule(value)


def _all_values(holds: Callable[[float], bool], requirement: str) -> Callable[[Schedule], Schedule]:
    def check(schedule: Schedule) -> Schedule:
        if not all(holds(value) for value in schedule.values):
            raise ConfigError(f"Must be {requirement} all along.")
        return schedule

    return check


def _never_auto(schedule: Schedule) -> Schedule:
    if schedule.shape == "auto":
        raise ConfigError("Must not be auto: only the outer spring rho can be balanced by measurement.")
    return schedule


ScheduleField = Annotated[
    Schedule,
    PlainValidator(_read),
    PlainSerializer(write, return_type=str),
    WithJsonSchema({"type": "string", "description": "a number or a schedule such as exp(100,1)"}),
]
"""A schedule, given as a number, as text or as a value; written as text."""

Positive = Annotated[ScheduleField, AfterValidator(_never_auto), AfterValidator(_all_values(lambda v: v > 0, "> 0"))]
"""A schedule that stays > 0; ``inf`` is allowed."""

Balanceable = Annotated[ScheduleField, AfterValidator(_all_values(lambda v: v > 0, "> 0"))]
"""As :data:`Positive`; ``auto(growth)`` is allowed too."""

Rate = Annotated[
    ScheduleField,
    AfterValidator(_never_auto),
    AfterValidator(_all_values(lambda v: 0 <= v < math.inf, ">= 0 and finite")),
]
"""A learning rate: a schedule that stays >= 0 and finite."""

PeriodField = Annotated[
    ScheduleField,
    AfterValidator(_never_auto),
    AfterValidator(_all_values(lambda v: 1 <= v < math.inf, ">= 1 and finite")),
]
"""Mini-batch steps between two exchanges: a schedule that stays >= 1; rounded to whole steps."""

CodecField = Annotated[
    Codec | None,
    PlainValidator(read_codec),
    PlainSerializer(write_codec, return_type=str),
    WithJsonSchema({"type": "string", "description": "float32, bf16, int8, int4 or topk(0.01)"}),
]
"""A codec, given as text or as a value; written as text. None is ``float32``: nothing is coded."""

Momentum = Annotated[float, Field(ge=0, lt=1)]
Averaging = Annotated[float, Field(ge=0, lt=1)]
