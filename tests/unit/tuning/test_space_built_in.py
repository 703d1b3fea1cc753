"""The spaces that come with the package: nearly all they suggest can be trained, and all of it is as it says."""

from __future__ import annotations

import json
import math
import shlex
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.tuning.spaces import BUILT_IN

from deeprelax import registry
from deeprelax.cli.root import assigned
from deeprelax.config import RunConfig
from deeprelax.coupling import METHODS, Coupling, Parle, make_coupling
from deeprelax.replica.task import Task
from deeprelax.schedules import Position
from deeprelax.tuning.space import RandomSuggester, Scalar, SearchSpace, find_space, fit_command
from deeprelax.tuning.space.find import GROUP
from deeprelax.tuning.space.measure import GRADIENT_RMS

START = Position(step=0, total_steps=1000, steps_per_pass=100)
SEEDS = st.integers(0, 10**6)
names = pytest.mark.parametrize("name", BUILT_IN)


@cache
def digits() -> Task:
    return registry.find("digits").build({})


def coupling_of(fields: dict[str, object]) -> Coupling:
    return RunConfig(**{"trainable": "digits", **fields}).make_coupling()


def drawn(name: str, seed: int) -> tuple[dict[str, Scalar], dict[str, object]]:
    """Return the parameters and the fields of a random suggestion."""
    random = RandomSuggester(seed)
    fields = BUILT_IN[name].suggest(random)
    return random.params, fields


def test_every_installed_space_is_tested_here_and_found_by_its_name() -> None:
    installed = {point.name for point in entry_points(group=GROUP)}
    assert installed == set(BUILT_IN), "install the package again: pip install -e ."
    assert find_space("parle") == BUILT_IN["parle"]


def test_every_coupling_is_in_some_space() -> None:
    suggested = {str(drawn("couplings", seed)[1]["method"]) for seed in range(300)}
    assert suggested == set(METHODS)


@names
def test_nine_of_ten_random_suggestions_can_be_trained_on_digits(name: str) -> None:
    space = BUILT_IN[name]
    refused = [space.violation(drawn(name, seed)[1], digits()) for seed in range(100)]
    assert sum(reason is None for reason in refused) >= 0.9 * len(refused), [reason for reason in refused if reason]


@names
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_every_suggestion_is_a_valid_coupling_and_at_most_unstable(name: str, seed: int) -> None:
    params, fields = drawn(name, seed)
    coupling_of(fields)
    reason = BUILT_IN[name].violation(fields, digits())
    assert reason is None or reason.startswith("Unstable "), reason
    assert BUILT_IN[name].at(params) == fields, "the parameters alone give the run again"
    assert json.loads(json.dumps(fields)) == fields


@names
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_parameters_lists_what_is_asked_for_and_when(name: str, seed: int) -> None:
    params, _ = drawn(name, seed)
    exist = [
        parameter
        for parameter in BUILT_IN[name].parameters()
        if all(params.get(other) in values for other, values in parameter.conditions)
    ]
    assert [parameter.name for parameter in exist] == list(params)
    for parameter in exist:
        value = params[parameter.name]
        if parameter.kind == "categorical":
            assert value in parameter.choices
        else:
            assert isinstance(value, int | float)
            assert parameter.low <= value <= parameter.high


@names
def test_published_points_are_in_the_space_and_can_be_trained(name: str) -> None:
    space = BUILT_IN[name]
    assert space.published()
    for point in space.published():
        assert space.violation(space.at(point), digits()) is None


@names
def test_every_bound_has_a_source(name: str) -> None:
    assert "arXiv:" in BUILT_IN[name].source or name == "couplings"
    unsourced = [item.name for item in BUILT_IN[name].parameters() if not item.source and item.kind != "categorical"]
    assert unsourced == []


def test_parle_publishes_the_schedules_of_its_paper() -> None:
    space = BUILT_IN["parle"]
    coupling = space.at(space.published()[0])["coupling"]
    assert isinstance(coupling, dict)
    assert (coupling["gamma"], coupling["rho"], coupling["period"]) == ("exp(100,1)", "exp(1,0.1)", 25)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_springs_are_searched_in_what_the_run_reports_as_kappa(seed: int) -> None:
    params, fields = drawn("parle", seed)
    coupling = coupling_of(fields)
    reported = coupling.dimensionless(coupling.knobs(START))
    assert reported["kappa_in"] == pytest.approx(params["gamma.kappa_in"], rel=1e-4)
    assert reported["kappa_out"] == pytest.approx(params["rho.kappa_out"], rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_rates_are_searched_as_the_step_a_steady_gradient_makes(seed: int) -> None:
    params, fields = drawn("parle", seed)
    coupling = coupling_of(fields)
    knobs = coupling.knobs(START)
    assert isinstance(coupling, Parle)
    assert knobs["lr"] / (1 - coupling.momentum) == pytest.approx(params["lr.effective"], rel=1e-3)
    reached = knobs["outer_lr"] / (1 - coupling.outer_momentum)
    assert reached == pytest.approx(params["outer_lr.outer_effective"], rel=1e-3)


def test_noise_is_searched_in_what_the_run_reports_as_noise_ratio() -> None:
    space = BUILT_IN["entropy_sgd"]
    point = space.published()[0]
    coupling = coupling_of(space.at(point))
    knobs = coupling.knobs(START)
    ratio = coupling.force(knobs).noise / (knobs["lr"] * GRADIENT_RMS)
    assert ratio == pytest.approx(point["langevin.beta.noise_ratio"], rel=1e-4)


def test_heat_is_searched_in_the_radius_of_its_cloud() -> None:
    space = BUILT_IN["heat"]
    knobs = coupling_of(space.at(space.published()[0])).knobs(START)
    assert math.sqrt(knobs["gamma"] / knobs["beta"]) == pytest.approx(0.01)


@names
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_command_trains_what_was_suggested(name: str, seed: int) -> None:
    _, fields = drawn(name, seed)
    words = shlex.split(fit_command("digits", fields))
    assert words[:4] == ["deeprelax", "fit", "digits", "--coupling"]
    chosen = tuple(word for option, word in pairwise(words) if option == "--set")
    assert make_coupling(words[4], assigned(chosen, "--set")) == coupling_of(fields)


def test_union_keeps_each_space_under_its_name() -> None:
    whole = {parameter.name for parameter in BUILT_IN["couplings"].parameters()}
    for name, space in BUILT_IN.items():
        if name != "couplings":
            assert {f"{name}.{parameter.name}" for parameter in space.parameters()} <= whole


def test_spaces_differ_and_describe_themselves_as_plain_json() -> None:
    described = [json.dumps(space.describe()) for space in BUILT_IN.values()]
    assert len(set(described)) == len(BUILT_IN)
    again: SearchSpace = find_space("deeprelax_search_spaces.couplings:couplings")
    assert again.describe() == json.loads(described[-1])
