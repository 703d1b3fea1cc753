"""Dimensions, schedules among them, and the space they make."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.tuning.spaces import BUILT_IN, space

from deeprelax.errors import ConfigError
from deeprelax.schedules import parse
from deeprelax.schedules.position import UNITS
from deeprelax.schedules.schedule import Shape
from deeprelax.tuning.space import (
    Branch,
    Choice,
    Constant,
    Dimension,
    Draft,
    Float,
    Int,
    PointSuggester,
    RandomSuggester,
    Range,
    Scalar,
    ScheduleDimension,
    fit_command,
    union,
)

LR = Float(field="lr", low=0.01, high=1.0, log=True)
CHANGING: tuple[Shape, ...] = ("linear", "exponential", "cosine", "piecewise")


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    low = draw(st.sampled_from([0.01, 0.1, 1.0, 30.0]))
    return low, low * draw(st.sampled_from([1.0, 2.0, 100.0]))


@st.composite
def schedules(draw: st.DrawFn) -> ScheduleDimension:
    """Return any schedule that may be searched for gamma."""
    shapes = tuple(draw(st.lists(st.sampled_from(["constant", *CHANGING]), min_size=1, unique=True)))
    changes = any(shape in CHANGING for shape in shapes)
    fewest = 1 if "piecewise" in shapes else 0
    units = draw(st.lists(st.sampled_from(UNITS), min_size=fewest, unique=True))
    return ScheduleDimension(
        field="gamma",
        shapes=shapes,
        start=draw(ranges()),
        change=draw(ranges()) if changes else None,
        spans=tuple((unit, draw(ranges())) for unit in units) if changes else (),
        measure=draw(st.sampled_from([None, "kappa_in"])),
    )


def around(gamma: ScheduleDimension) -> tuple[Dimension, ...]:
    return (Constant(field="lr", value=0.1), Constant(field="period", value=20), gamma)


def drawn(dimension: ScheduleDimension, seed: int) -> tuple[dict[str, Scalar], str]:
    random = RandomSuggester(seed)
    coupling = space(*around(dimension)).suggest(random)["coupling"]
    assert isinstance(coupling, dict)
    return random.params, coupling["gamma"]


# Schedules.


@settings(max_examples=60, deadline=None)
@given(dimension=schedules(), seed=st.integers(0, 1000))
def test_schedule_has_the_shape_start_change_and_span_that_were_asked_for(
    dimension: ScheduleDimension, seed: int
) -> None:
    if not space_varies(dimension):
        return
    params, text = drawn(dimension, seed)
    schedule = parse(text)
    shape = params.get("gamma.shape", dimension.shapes[0])
    assert schedule.shape == shape
    level = float(str(params[f"gamma.{dimension.measure or 'start'}"]))
    expected = 0.1 * 20 / level if dimension.measure else level
    assert schedule.values[0] == pytest.approx(expected, rel=1e-5)
    if shape == "constant":
        assert "gamma.change" not in params
        return
    ratio = schedule.values[-1] / schedule.values[0]
    assert (1 / ratio if dimension.measure else ratio) == pytest.approx(params["gamma.change"], rel=1e-4)
    if dimension.spans:
        unit = params.get("gamma.unit", dimension.spans[0][0])
        assert schedule.unit == unit
        span = schedule.points[1][0] if shape == "piecewise" else schedule.span
        assert span == pytest.approx(params[f"gamma.{unit}"], rel=1e-5)


def space_varies(dimension: ScheduleDimension) -> bool:
    return bool(list(dimension.parameters()))


@pytest.mark.parametrize(
    ("dimension", "point", "text"),
    [
        (
            ScheduleDimension(field="lr", shapes=("cosine",), start=(0.01, 1), change=0.0),
            {"lr.start": 0.1},
            "cos(0.1,0)",
        ),
        (
            ScheduleDimension(
                field="lr", shapes=("piecewise",), start=(0.01, 1), change=(0.1, 1), spans=(("passes", (1, 9)),)
            ),
            {"lr.start": 0.1, "lr.change": 0.2, "lr.passes": 4},
            "piecewise(0:0.1,4:0.02,passes)",
        ),
        (
            ScheduleDimension(
                field="rho", shapes=("auto",), growth=(10, 1e5), spans=(("steps", (1, 9)), ("passes", (1, 9)))
            ),
            {"rho.growth": 1e4, "rho.unit": "steps", "rho.steps": 5},
            "auto(10000,steps=5)",
        ),
    ],
)
def test_schedule_is_written_as_it_is_typed(dimension: ScheduleDimension, point: dict[str, Scalar], text: str) -> None:
    fields = space(dimension).at(point)
    assert fields["coupling"] == {dimension.field: text}


# What a space is.


@settings(max_examples=60, deadline=None)
@given(first=schedules(), second=schedules())
def test_descriptions_are_equal_exactly_for_equal_dimensions(
    first: ScheduleDimension, second: ScheduleDimension
) -> None:
    one, two = (json.dumps(dimension.describe()) for dimension in (first, second))
    assert (one == two) == (first == second)


@pytest.mark.parametrize(
    "other",
    [
        Float(field="lr", low=0.01, high=2.0, log=True),
        Float(field="lr", low=0.01, high=1.0),
        Float(field="outer_lr", low=0.01, high=1.0, log=True),
        ScheduleDimension(field="lr", shapes=("constant",), start=(0.01, 1.0)),
        Branch(name="data", options=(("all", (LR,)), ("shards", ()))),
    ],
)
def test_space_with_another_dimension_is_another_space(other: Dimension) -> None:
    assert space(LR) != space(other)
    assert space(LR).describe() != space(other).describe()


def test_prose_and_points_make_no_other_space() -> None:
    sourced = Float(field="lr", low=0.01, high=1.0, log=True, source="a paper")
    same = space(sourced, points=({"lr": 0.1},))
    assert same == space(LR)
    assert same.describe() == space(LR).describe()


def test_fields_go_where_a_run_takes_them() -> None:
    mixed = space(
        Int(field="trainable_config.hidden", low=8, high=64, step=8),
        Choice(field="batch_size", choices=(32, 64)),
        Constant(field="optimizer", value="adamw"),
        Float(field="optimizer_options.weight_decay", low=0.0, high=0.1),
        Float(field="momentum", low=0.01, high=1.0, log=True, measure="forgetting"),
    )
    point = {
        "trainable_config.hidden": 16, "batch_size": 32, "optimizer_options.weight_decay": 0.05,
        "momentum.forgetting": 0.1,
    }  # fmt: skip
    assert mixed.at(point) == {
        "method": "parle",
        "trainable_config": {"hidden": 16},
        "batch_size": 32,
        "coupling": {"optimizer": "adamw", "optimizer_options": {"weight_decay": 0.05}, "momentum": 0.9},
    }
    assert fit_command("digits", mixed.at(point)) == (
        "deeprelax fit digits --coupling parle --set optimizer=adamw "
        "--set 'optimizer_options={\"weight_decay\": 0.05}' --set momentum=0.9 --config hidden=16 --batch-size 32"
    )


def test_command_leaves_out_what_is_none_and_runs_where_the_run_does() -> None:
    fields = {
        "method": "sgd",
        "coupling": {"lr": None, "momentum": 0.5},
        "steps": None,
        "seed": 3,
        "placement": "local",
    }
    assert fit_command("my task.py:moons", fields) == (
        "deeprelax fit 'my task.py:moons' --coupling sgd --set momentum=0.5 --seed 3 --local"
    )


def test_a_method_that_another_branch_chose_has_its_own_default_period() -> None:
    gamma = Float(field="gamma", low=0.01, high=1.0, measure="kappa_in")
    both = union("both", [space(LR, gamma, method=method) for method in ("hj",)], summary="", source="")
    coupling = both.at({"coupling": "small", "small.lr": 0.1, "small.gamma.kappa_in": 0.5})["coupling"]
    assert coupling == {"lr": 0.1, "gamma": 0.1 * 5 / 0.5}


def test_random_suggester_repeats_itself_and_keeps_to_steps() -> None:
    wide = space(
        Int(field="period", low=1, high=100, log=True),
        Int(field="batch_size", low=16, high=64, step=16),
        Float(field="slow_lr", low=0.1, high=0.5, step=0.2),
        method="lookahead",
    )
    draws = [RandomSuggester(seed) for seed in range(200) for _ in range(2)]
    for draw in draws:
        wide.suggest(draw)
    assert all(one.params == two.params for one, two in zip(draws[::2], draws[1::2], strict=True))
    assert {draw.params["batch_size"] for draw in draws} == {16, 32, 48, 64}
    assert {round(float(str(draw.params["slow_lr"])), 9) for draw in draws} == {0.1, 0.3, 0.5}
    periods = [int(str(draw.params["period"])) for draw in draws]
    assert min(periods) <= 2
    assert 70 <= max(periods) <= 100
    assert sum(period < 10 for period in periods) / len(periods) == pytest.approx(0.5, abs=0.15)


# What is refused.


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as error:
        make()
    return str(error.value)


BAD: dict[str, tuple[Callable[[], object], list[str]]] = {
    "empty": (space, ["'small'", "nothing varies"]),
    "constants only": (lambda: space(Constant(field="lr", value=0.1)), ["nothing varies"]),
    "twice": (lambda: space(LR, LR), ["'lr' stands twice"]),
    "unknown field": (
        lambda: space(Float(field="gama", low=1, high=2)),
        ["Unknown field 'gama'", "Did you mean 'gamma'?", "'parle'"],
    ),
    "field of another method": (lambda: space(Float(field="rho", low=1, high=2), method="hj"), ["'rho'", "'hj'"]),
    "unknown method": (lambda: space(LR, method="parl"), ["Unknown coupling 'parl'", "Did you mean 'parle'?"]),
    "unknown method in a branch": (
        lambda: space(Branch(name="method", options=(("parl", (LR,)),))),
        ["Unknown coupling 'parl'"],
    ),
    "value out of the field's range": (
        lambda: space(Float(field="averaging", low=0.5, high=1.5)),
        ["at the high end", "averaging=1.5", "less than 1"],
    ),
    "value in a branch": (
        lambda: space(
            Branch(name="spring", options=(("coupled", (Int(field="period", low=0, high=3),)), ("decoupled", ())))
        ),
        ["at the low end", "period=0", ">= 1"],
    ),
    "option is no value of the field": (
        lambda: space(Branch(name="consensus", options=(("slow", ()), ("fast", (LR,))))),
        ["consensus='fast'", "'slow' or 'averaged'"],
    ),
    "low above high": (lambda: Float(field="lr", low=2, high=1), ["[2, 1] of lr", "low <= high"]),
    "infinite": (lambda: Float(field="lr", low=1, high=math.inf), ["[1, inf] of lr", "finite"]),
    "log of zero": (lambda: Float(field="lr", low=0, high=1, log=True), ["low=0 of lr", "> 0 with log"]),
    "step and log": (lambda: Float(field="lr", low=1, high=2, log=True, step=0.1), ["step=0.1 of lr"]),
    "no choices": (lambda: Choice(field="data", choices=()), ["choices=[] of data"]),
    "choice twice": (lambda: Choice(field="data", choices=("all", "all")), ["['all', 'all'] of data", "different"]),
    "no branch": (lambda: Branch(name="data", options=()), ["choices=[] of data"]),
    "dot in a branch": (lambda: Branch(name="data", options=(("a.b", ()),)), ["['a.b'] of data", "without dots"]),
    "unknown measure": (
        lambda: Float(field="gamma", low=1, high=2, measure="kapa_in"),
        ["Unknown measure 'kapa_in' of gamma", "Did you mean 'kappa_in'?"],
    ),
    "measure of another field": (
        lambda: Float(field="rho", low=1, high=2, measure="kappa_in"),
        ["measure='kappa_in' of rho", "use kappa_out"],
    ),
    "measure of a field without any": (
        lambda: Float(field="period", low=1, high=2, measure="kappa_in"),
        ["period has none", "its own values"],
    ),
    "measure without lr": (
        lambda: space(Float(field="gamma", low=0.1, high=0.5, measure="kappa_in")),
        ["Missing lr", "put its dimension first"],
    ),
    "no start": (lambda: ScheduleDimension(field="lr", shapes=("constant",)), ["Missing start of lr"]),
    "no change": (
        lambda: ScheduleDimension(field="lr", shapes=("constant", "cosine"), start=(1, 2)),
        ["Missing change of lr", "cosine"],
    ),
    "change of a constant": (
        lambda: ScheduleDimension(field="lr", shapes=("constant",), start=(1, 2), change=0.5),
        ["Invalid change of lr", "left out"],
    ),
    "growth without auto": (
        lambda: ScheduleDimension(field="lr", shapes=("constant",), start=(1, 2), growth=(1, 2)),
        ["Invalid growth of lr"],
    ),
    "spans of a constant": (
        lambda: ScheduleDimension(field="lr", shapes=("constant",), start=(1, 2), spans=(("steps", (1, 2)),)),
        ["Invalid spans of lr"],
    ),
    "drop without a place": (
        lambda: ScheduleDimension(field="lr", shapes=("piecewise",), start=(1, 2), change=0.5),
        ["Missing spans of lr", "drops"],
    ),
    "exponential to zero": (
        lambda: space(ScheduleDimension(field="lr", shapes=("exponential",), start=(0.1, 1), change=0.0)),
        ["end=0.0", "use lin"],
    ),
    "auto where it cannot be": (
        lambda: space(ScheduleDimension(field="gamma", shapes=("auto",), growth=(1, 2))),
        ["gamma=", "Must not be auto"],
    ),
    "point without a value": (lambda: space(LR, points=({},)), ["Invalid point of space 'small'", "Missing 'lr'"]),
    "point with a wrong name": (
        lambda: space(LR, points=({"lr": 0.1, "lrr": 1},)),
        ["nothing asks for 'lrr'", "Did you mean 'lr'?"],
    ),
    "point outside": (lambda: space(LR, points=({"lr": 3.0},)), ["lr=3.0", "[0.01, 1]"]),
    "point of another kind": (lambda: space(LR, points=({"lr": "0.1"},)), ["lr='0.1'", "a number"]),
    "point off the grid": (
        lambda: space(Int(field="period", low=2, high=8, step=2)).at({"period": 3}),
        ["period=3", "plus a multiple of 2"],
    ),
    "point with another choice": (
        lambda: BUILT_IN["couplings"].at({"coupling": "parl"}),
        ["coupling='parl'", "Did you mean 'parle'?"],
    ),
    "name": (lambda: union("a.b", [space(LR)], summary="", source=""), ["space name 'a.b'"]),
}


@pytest.mark.parametrize("case", BAD)
def test_mistake_is_found_when_the_space_is_made(case: str) -> None:
    make, parts = BAD[case]
    message = refused(make)
    for part in parts:
        assert part in message


def test_suggester_that_answers_with_no_number_is_refused() -> None:
    class Wrong(PointSuggester):
        def suggest_float(self, *_: object, **__: object) -> float:
            return "much"  # type: ignore[return-value]

    assert "'much'. Must be a number" in refused(lambda: LR.suggest(Wrong({}), Draft()))
