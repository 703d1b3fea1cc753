"""Schedules: shapes, units, the text form, and exactness at any position."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.schedules import Position, Schedule, Unit, as_schedule, parse, write
from deeprelax.schedules.position import UNITS
from deeprelax.schedules.schedule import SHAPES, Shape

RUN = 100


def at_step(text: str, step: int, *, exchanges: int = 0) -> float:
    position = Position(step=step, exchanges=exchanges, steps_per_pass=10, total_steps=RUN)
    return parse(text).at(position)


@pytest.mark.parametrize(
    ("text", "step", "expected"),
    [
        ("0.1", 0, 0.1),
        ("0.1", 1000, 0.1),
        ("const(3)", 50, 3.0),
        ("inf", 50, math.inf),
        ("lin(1,0)", 0, 1.0),
        ("lin(1,0)", 25, 0.75),
        ("lin(1,0)", 100, 0.0),
        ("exp(100,1)", 0, 100.0),
        ("exp(100,1)", 50, 10.0),
        ("exp(100,1)", 100, 1.0),
        ("cos(1,0)", 0, 1.0),
        ("cos(1,0)", 50, 0.5),
        ("cos(1,0)", 25, 0.5 + math.sqrt(2) / 4),
        ("cos(1,0.2)", 100, 0.2),
        ("piecewise(0:0.1,0.5:0.02)", 49, 0.1),
        ("piecewise(0:0.1,0.5:0.02)", 50, 0.02),
        ("piecewise(0:1,30:2,60:3,steps)", 59, 2.0),
        ("piecewise(0:1,30:2,60:3,steps)", 60, 3.0),
        ("staged(0:1,0.5:lin(4,0))", 49, 1.0),
        ("staged(0:1,0.5:lin(4,0))", 50, 2.0),
        ("staged(0:1,0.5:lin(4,0))", 100, 0.0),
        ("staged(0:exp(100,1),30:2,steps)", 30, 2.0),
        ("auto(16,base=2)", 0, 1 / 2),
        ("auto(16,base=2)", 25, 1 / 4),
        ("auto(16,base=2)", 100, 1 / 32),
    ],
)
def test_shape_has_its_known_value(text: str, step: int, expected: float) -> None:
    assert at_step(text, step) == pytest.approx(expected, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "step", "exchanges", "expected"),
    [
        ("lin(0,8,steps=20)", 5, 0, 2.0),
        ("lin(0,8,exchanges=4)", 99, 1, 2.0),
        ("lin(0,8,passes=2)", 5, 0, 2.0),
        ("lin(0,8,fraction=0.5)", 25, 0, 4.0),
        ("piecewise(0:1,2:5,exchanges)", 99, 1, 1.0),
        ("piecewise(0:1,2:5,exchanges)", 0, 2, 5.0),
        ("piecewise(0:1,2:5,passes)", 19, 0, 1.0),
        ("piecewise(0:1,2:5,passes)", 20, 0, 5.0),
    ],
)
def test_span_counts_in_its_unit(text: str, step: int, exchanges: int, expected: float) -> None:
    assert at_step(text, step, exchanges=exchanges) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("text", ["lin(7,3,steps=10)", "exp(7,3,steps=10)", "cos(7,3,steps=10)"])
@pytest.mark.parametrize("step", [10, 11, 10_000])
def test_value_stays_exactly_at_the_end_after_the_span(text: str, step: int) -> None:
    assert at_step(text, step) == 3.0


@pytest.mark.parametrize("total", [10, 1000])
@pytest.mark.parametrize("text", ["exp(100,1)", "auto(10000,base=1)"])
def test_growth_is_total_and_does_not_depend_on_the_number_of_steps(text: str, total: int) -> None:
    schedule = parse(text)
    values = [schedule.at(Position(step=step, total_steps=total)) for step in (0, total // 2, total)]
    ratio = values[0] / values[2]
    assert ratio == pytest.approx({"exp(100,1)": 100.0, "auto(10000,base=1)": 1e4}[text], rel=1e-12)
    assert values[0] / values[1] == pytest.approx(math.sqrt(ratio), rel=1e-12)


def test_unmeasured_auto_schedule_is_no_spring_and_a_measured_one_starts_at_its_base() -> None:
    schedule = parse("auto(10000)")
    assert schedule.awaits_balance
    assert schedule.at(Position(step=50, total_steps=RUN)) == math.inf
    balanced = schedule.balanced(4.0)
    assert not balanced.awaits_balance
    assert balanced.at(Position(step=0, total_steps=RUN)) == 0.25
    assert schedule.balanced(0.0).at(Position(step=0, total_steps=RUN)) == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "lin(1,0)",
        "exp(100,1)",
        "cos(0.1,0.01)",
        "auto(1e4,base=3)",
        "piecewise(0:1,0.3:2)",
        "staged(0:cos(1,0),0.3:exp(4,1,steps=9))",
    ],
)
def test_value_depends_on_the_position_alone_and_so_survives_a_resume(text: str) -> None:
    stepped = parse(text)
    along = [stepped.at(Position(step=step, total_steps=RUN)) for step in range(RUN + 1)]
    for step in (0, 1, 33, 99, 100):
        resumed = parse(write(stepped))
        assert resumed.at(Position(step=step, total_steps=RUN)) == along[step]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.1", "0.1"),
        (" 25 ", "25"),
        ("1e-3", "0.001"),
        ("const(2)", "2"),
        ("linear( 1 , 0 )", "lin(1,0)"),
        ("exponential(100, 1, steps=500)", "exp(100,1,steps=500)"),
        ("cosine(0.1,0,passes=5)", "cos(0.1,0,passes=5)"),
        ("cos(0.1,0,fraction=1)", "cos(0.1,0)"),
        ("piecewise(0:0.1, 30:0.02, passes)", "piecewise(0:0.1,30:0.02,passes)"),
        ("auto()", "auto(1)"),
        ("auto(1e4,base=0.5,passes=3)", "auto(10000,base=0.5,passes=3)"),
    ],
)
def test_text_has_one_canonical_form(text: str, canonical: str) -> None:
    assert write(parse(text)) == canonical


positive = st.floats(min_value=1e-9, max_value=1e9)
finite = st.floats(min_value=-1e100, max_value=1e100)
number = st.floats(allow_nan=False)


@st.composite
def schedules(draw: st.DrawFn, shapes: tuple[Shape, ...] = SHAPES) -> Schedule:
    shape: Shape = draw(st.sampled_from(shapes))
    if shape == "staged":
        simple = schedules(tuple(name for name in SHAPES if name not in ("auto", "staged")))
        begins = [0.0, *sorted(draw(st.sets(positive, max_size=3)))]
        return Schedule(shape=shape, stages=tuple((x, draw(simple)) for x in begins), unit=draw(st.sampled_from(UNITS)))
    if shape == "constant":
        return Schedule(start=draw(number))
    unit: Unit = draw(st.sampled_from(UNITS))
    span = draw(positive)
    if shape == "piecewise":
        rest = sorted(draw(st.sets(positive, max_size=4)))
        return Schedule(shape=shape, points=tuple((x, draw(number)) for x in [0.0, *rest]), unit=unit)
    if shape == "auto":
        return Schedule(shape=shape, growth=draw(positive), base=draw(st.none() | positive), unit=unit, span=span)
    values = positive if shape == "exponential" else finite
    return Schedule(shape=shape, start=draw(values), end=draw(values), unit=unit, span=span)


@settings(deadline=None)
@given(schedules())
def test_parse_restores_exactly_what_write_wrote(schedule: Schedule) -> None:
    assert parse(write(schedule)) == schedule


@settings(deadline=None)
@given(schedules(), st.integers(min_value=0, max_value=2 * RUN))
def test_value_lies_between_the_extremes_the_schedule_declares(schedule: Schedule, step: int) -> None:
    value = schedule.at(Position(step=step, exchanges=step // 7, steps_per_pass=10, total_steps=RUN))
    if schedule.values:
        lowest, highest = min(schedule.values), max(schedule.values)
        slack = 1e-12 * max(abs(lowest), abs(highest))
        assert value in schedule.values or lowest - slack <= value <= highest + slack
    else:
        assert value > 0


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["Invalid schedule ''", "Must be a number or a shape"]),
        ("nan", ["Invalid start=nan", "a number"]),
        ("fast", ["Invalid schedule 'fast'", "exp(100,1)"]),
        ("expo(100,1)", ["Unknown schedule shape 'expo'", "Did you mean 'exp'?", "cos(0.1,0)"]),
        ("lni(1,0)", ["'lni'", "Did you mean 'lin'?"]),
        ("piecwise(0:1)", ["Did you mean 'piecewise'?"]),
        ("exp(100)", ["Invalid schedule 'exp(100)'", "two values, start and end; got 1"]),
        ("lin(1,2,3)", ["two values", "got 3"]),
        ("lin(a,0)", ["'a' is not a number"]),
        ("const(1,2)", ["one value"]),
        ("exp(0,1)", ["start=0.0", "> 0", "lin(...)"]),
        ("exp(1,-1)", ["end=-1.0", "> 0"]),
        ("lin(inf,0)", ["start=inf", "finite"]),
        ("exp(100,1,step=5)", ["steps=…", "got step"]),
        ("exp(100,1,steps=5,passes=1)", ["got steps, passes"]),
        ("exp(100,1,steps=0)", ["span=0.0", "> 0 and finite"]),
        ("exp(100,1,steps=inf)", ["span=inf", "finite"]),
        ("piecewise()", ["points=()", "rising from 0"]),
        ("piecewise(1:2)", ["rising from 0"]),
        ("piecewise(0:1,5:2,3:3)", ["rising from 0"]),
        ("piecewise(0:1,0:2)", ["rising from 0"]),
        ("piecewise(0:1,2)", ["'2' is not a point 'position:value'"]),
        ("piecewise(0:1,5:2:3)", ["'5:2:3' is not a point"]),
        ("staged(0:1,2)", ["'2' is not a stage 'position:schedule'"]),
        ("staged(1:2)", ["rising from 0"]),
        ("staged(0:1,0.5:auto(3))", ["Invalid stage='auto'", "neither auto nor staged"]),
        ("staged(0:1,0.5:expo(3,1))", ["Did you mean 'exp'?"]),
        ("piecewise(0:nan)", ["points", "number"]),
        ("piecewise(0:1,nan:2)", ["points", "number"]),
        ("auto(0)", ["growth=0.0", "> 0 and finite"]),
        ("auto(1,2)", ["one value", "got 2"]),
        ("auto(10,base=-1)", ["base=-1.0", ">= 0"]),
        ("auto(10,bse=1)", ["got bse"]),
    ],
)
def test_wrong_text_is_refused_with_value_requirement_and_nearest(text: str, fragments: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("lin(1,0,passes=3)", "steps_per_pass="), ("cos(1,0)", "total_steps="), ("piecewise(0:1,0.5:2)", "total_steps=")],
)
def test_unit_of_unknown_length_is_refused_with_the_argument_to_give(text: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        parse(text).at(Position(step=3))


def test_steps_and_exchanges_need_no_length_of_the_run() -> None:
    assert parse("lin(0,1,steps=4)").at(Position(step=1)) == 0.25
    assert parse("lin(0,1,exchanges=4)").at(Position(exchanges=1)) == 0.25


@pytest.mark.parametrize("value", [25, 25.0, "25", Schedule(start=25.0)])
def test_number_text_and_schedule_mean_the_same(value: Schedule | float | str) -> None:
    assert as_schedule(value) == Schedule(start=25.0)


@pytest.mark.parametrize(
    "text", ["0.1", "inf", "lin(0,2)", "exp(100,1)", "cos(0.1,0)", "piecewise(0:1,0.5:3)", "staged(0:1,0.5:lin(2,1))"]
)
@pytest.mark.parametrize("step", [0, 33, 50, 100])
def test_a_scaled_schedule_has_the_values_times_the_factor(text: str, step: int) -> None:
    here = Position(step=step, total_steps=RUN)
    assert parse(text).scaled(1.7).at(here) == pytest.approx(1.7 * parse(text).at(here), rel=1e-14)
    assert parse(text).scaled(1.0) == parse(text)


def test_stages_follow_each_other_and_each_runs_as_if_from_the_start() -> None:
    falling = parse("cos(0.1,0)")
    learned = falling.then(0.25, falling.scaled(2.0)).then(0.5, Schedule(start=3.0))
    assert write(learned) == "staged(0:cos(0.1,0),0.25:cos(0.2,0),0.5:3)"
    for step, expected in (
        (24, falling),
        (25, falling.scaled(2.0)),
        (49, falling.scaled(2.0)),
        (50, Schedule(start=3.0)),
    ):
        here = Position(step=step, total_steps=RUN)
        assert learned.at(here) == expected.at(here)
    with pytest.raises(ConfigError, match="rising"):
        learned.then(0.5, falling)


def test_a_measured_schedule_cannot_be_scaled() -> None:
    with pytest.raises(ConfigError, match="Invalid shape='auto'"):
        parse("auto(10,base=2)").scaled(2.0)


def test_points_ahead_are_spread_from_here_to_the_end() -> None:
    here = Position(step=40, exchanges=8, steps_per_pass=10, total_steps=RUN)
    ahead = here.ahead(5.0, 6)
    assert [(one.step, one.exchanges) for one in ahead] == [(40 + 10 * i, 8 + 2 * i) for i in range(7)]
    assert {(one.steps_per_pass, one.total_steps) for one in ahead} == {(10, RUN)}
    assert Position(step=RUN, total_steps=RUN).ahead(5.0, 6) == [Position(step=RUN, total_steps=RUN)]
