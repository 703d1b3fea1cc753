"""A population of trials: who copies whom, what changes within which bounds, and what a trial is after that."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.toytasks import TOY
from tests.unit.tuning.populations import Training, training
from tests.unit.tuning.sweeps import agreed, toy_space

from deeprelax import fit
from deeprelax.cli import main
from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.execution.learned import Stage, load_learned
from deeprelax.execution.result import RunResult
from deeprelax.registry import find
from deeprelax.replica.population import rounded
from deeprelax.tuning.space import (
    Choice,
    Constant,
    Float,
    Scalar,
    ScheduleDimension,
    SearchSpace,
    find_space,
    union,
)
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.lineage import Branch, learned_lineage
from deeprelax.tuning.sweep.perturbation import check_movable, knob_of, movable, perturbed, staged
from deeprelax.tuning.sweep.standing import cost_of


def run_of(study: Study, number: int) -> RunConfig:
    (trial,) = [trial for trial in study.trials() if trial.number == number]
    return RunConfig(**trial.user_attrs["run"])


def fitted(run: RunConfig, folder: Path) -> RunResult:
    """Return what a plain fit makes of a trial's run."""
    return fit(
        TOY, coupling=run.make_coupling(), config=run.trainable_config, local=True, show_progress=False,
        run_dir=folder, epochs=run.epochs, holdout=run.holdout, threads=1,
    )  # fmt: skip


def some_cloned(found: Training) -> int:
    return next(number for number, notes in found.cloned().items() if notes)


def test_the_worst_goes_on_from_the_best_and_is_one_run_under_its_lineage(tmp_path: Path) -> None:
    with training(tmp_path, trials=4, population=4) as found:
        names = found.recruit()
        assert len(names) == 4
        for name in names:
            found.step(name)
        values = {number: float(str(found.rows[name][0]["center/loss"])) for number, name in enumerate(names)}
        worst, best = max(values, key=lambda n: values[n]), min(values, key=lambda n: values[n])
        assert found.cloned() == {
            n: [f"cloned from trial {best} at pass {1.2:g}"] if n == worst else [] for n in range(4)
        }
        found.run(names)
        assert found.study.counts()["complete"] == 4

        number = some_cloned(found)
        stored = {trial.number: trial.values for trial in found.study.trials()}
        replayed = fitted(run_of(found.study, number), tmp_path / "fit")
        assert stored[number] == [replayed.metrics["center/loss"]]
        untouched = next(one for one, notes in found.cloned().items() if not notes)
        alone = fitted(run_of(found.study, untouched), tmp_path / "alone")
        assert stored[untouched] == [alone.metrics["center/loss"]]
        assert "staged" not in str(alone.config.coupling["lr"])
        run = run_of(found.study, number)
        assert "staged" in str(run.coupling["lr"])

        folder = tmp_path / f"trials/{number:05d}/seed-0"
        learned = load_learned(folder)
        assert learned.schedules == {"lr": run.coupling["lr"]}
        assert learned.lineage[0].step == 0
        assert learned.lineage[-1].replica == learned.winner == number
        applied = {row["step"]: row["coupling/lr"] for row in replayed.telemetry() if row["replica"] == 0}
        assert [applied.get(step, value) for step, value in zip(learned.steps, learned.applied["lr"], strict=True)] == (
            learned.applied["lr"]
        )
        assert learned.replicas[learned.trials.index(number)] == learned.applied

        pictures = tmp_path / "pictures"
        ran = CliRunner().invoke(main, ["schedule", str(folder), "--plots", str(pictures)])
        assert ran.exit_code == 0, ran.output
        assert f"--set 'lr={run.coupling['lr']}'" in ran.stdout
        assert (pictures / "schedule.svg").is_file()


@pytest.mark.parametrize(("objective", "better"), [("minimize", min), ("maximize", max)])
def test_better_is_what_the_objective_says(
    objective: str, better: Callable[[list[float]], float], tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"minimize": (), "maximize": ()} | {objective: ("center/loss",)}
    with training(tmp_path, trials=2, population=2, run={"epochs": 2}, **fields) as found:
        first, second = found.recruit()
        losses = [float(str(found.step(name)["center/loss"])) for name in (first, second)]
        source = losses.index(better(losses))
        assert found.cloned() == {source: [], 1 - source: [f"cloned from trial {source} at pass 1.2"]}


def test_equal_seeds_decide_alike_and_others_do_not(tmp_path: Path) -> None:
    told: list[Any] = []
    for part, seed in (("a", 0), ("b", 0), ("c", 5)):
        with training(tmp_path / part, trials=2, population=2, sampler_seed=seed, run={"epochs": 2}) as found:
            found.run(found.recruit())
            told.append([(trial.values, trial.user_attrs["run"]["coupling"]) for trial in found.study.trials()])
    assert told[0] == told[1]
    assert told[0] != told[2]


def test_gradients_are_those_that_were_computed(tmp_path: Path) -> None:
    space = SearchSpace(
        name="sizes",
        dimensions=(
            Constant(field="method", value="local_sgd"),
            Float(field="lr", low=0.001, high=0.5, log=True),
            Constant(field="period", value=3),
            Choice(field="replicas", choices=(2, 5)),
        ),
        summary="For tests.",
        source="none",
        points=({"lr": 0.3, "replicas": 5}, {"lr": 0.001, "replicas": 2}),
    )
    with training(tmp_path, space, trials=2, population=2) as found:
        found.run(found.recruit())
        notes = found.cloned()
        assert notes[1], "the slow one of two replicas went on as the fast one of five"
        first = found.rows["tune-0"]
        whole = float(str(first[-1]["gradients"]))
        before = float(str(found.rows["tune-1"][0]["gradients"]))
        assert whole / float(str(first[0]["gradients"])) == pytest.approx(2.5, rel=0.1)
        assert before == 2 / 5 * float(str(first[0]["gradients"]))
        after = whole - float(str(first[0]["gradients"]))
        costs = [cost_of(trial)["gradients"] for trial in found.study.trials()]
        assert costs == [whole, before + after]
        assert found.searcher._spent == sum(costs)


def test_a_trial_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    with training(tmp_path, trials=3, population=3) as found:
        first, second, third = found.recruit()
        population = found.searcher.population
        found.step(first)
        found.step(second)
        assert population.waits(first)
        assert population.waits(second)
        population.leave(third)
        population.decide()
        assert not population.waits(first)


def test_a_population_is_closed_until_all_its_trials_have_ended(tmp_path: Path) -> None:
    with training(tmp_path, trials=3, population=2, run={"epochs": 1}) as found:
        pairs = []
        while names := found.recruit():
            assert found.searcher.suggest("more") is None
            pairs.append(len(names))
            found.run(names)
        assert pairs == [2, 1]
        assert found.study.counts()["complete"] == 3


def test_paused_trials_of_a_stopped_driver_are_trained_again_from_their_start(tmp_path: Path) -> None:
    with training(tmp_path, trials=2, population=2) as found:
        first, second = found.recruit()
        rows = [found.step(first), found.step(second)]
        found.step(first)
        found.searcher.give_back()
        assert found.study.counts()["preempted"] == 2
        again = found.recruit()
        assert [found.step(name)["center/loss"] for name in again] == [row["center/loss"] for row in rows]
        found.run(again)
        assert found.study.counts()["complete"] == 2


def test_a_lineage_has_the_levels_that_held_along_it() -> None:
    run = RunConfig(
        trainable=TOY, method="local_sgd", steps=40, epochs=4.0, batch_size=8, threads=1,
        coupling={"period": 10, "lr": "staged(0:cos(0.1,0),0.25:cos(0.2,0),0.5:0.05)"},
    )  # fmt: skip
    other = run.with_fields(coupling={"period": 10, "lr": 0.3})
    lineage = (Branch(0, 7, {}), Branch(10, 3, {}), Branch(20, 5, {}, clipped=True))
    others = {5: run, 3: other, 9: other.with_fields(steps=80), 4: other.with_fields(method="elastic_sgd")}
    learned = learned_lineage(lineage, run, others, {"lr"})
    assert learned.lineage == (Stage(0, 7, {"lr": 1.0}), Stage(10, 3, {"lr": 2.0}), Stage(20, 5, {"lr": 0.5}))
    assert (learned.winner, learned.clipped, learned.trials) == (5, 1, (3, 4, 5))
    assert (learned.steps, learned.exchanges) == ([0, 10, 20, 30], [0, 1, 2, 3])
    assert learned.applied == {"lr": pytest.approx([0.1, 0.1 * (1 + math.cos(math.pi / 4)), 0.05, 0.05], rel=1e-15)}
    assert learned.replicas[0] == {"lr": [0.3] * 4}
    assert learned.schedules == {"lr": run.coupling["lr"]}


# What changes.


def springs() -> SearchSpace:
    return SearchSpace(
        name="springs",
        dimensions=(
            Constant(field="method", value="elastic_sgd"),
            Float(field="lr", low=0.05, high=0.5, log=True),
            ScheduleDimension(
                field="rho",
                shapes=("constant", "exponential"),
                start=(0.01, 0.3),
                change=(1.0, 10.0),
                measure="kappa_out",
            ),
            Float(field="momentum", low=0.0, high=0.9),
            Choice(field="replicas", choices=(2, 3)),
        ),
        summary="For tests.",
        source="none",
    )


def test_levels_of_schedules_move_and_nothing_else() -> None:
    space = springs()
    parameters: dict[str, Scalar] = {
        "lr": 0.1, "rho.shape": "exponential", "rho.kappa_out": 0.1, "rho.change": 4.0, "momentum": 0.5, "replicas": 2,
    }  # fmt: skip
    run = Feasible(agreed(), find(TOY)).requested(space.at(parameters))
    assert [one.name for one in movable(space, parameters, run)] == ["lr", "rho.kappa_out"]
    joined = union("both", [space, toy_space()], summary="For tests.", source="none")
    inside: dict[str, Scalar] = {f"springs.{name}": value for name, value in parameters.items()}
    inside["coupling"] = "springs"
    assert [one.name for one in movable(joined, inside, run)] == ["springs.lr", "springs.rho.kappa_out"]
    assert {knob_of(one) for one in find_space("parle").parameters()} >= {"lr", "rho", "gamma", "outer_lr"}


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 0.5), st.floats(0.01, 0.3), st.tuples(*[st.sampled_from([1.2, 1 / 1.2, 30.0, 1 / 30])] * 2))
def test_perturbed_levels_stay_within_the_bounds_of_the_space(
    lr: float, kappa: float, factors: tuple[float, float]
) -> None:
    space = springs()
    parameters: dict[str, Scalar] = {
        "lr": lr,
        "rho.shape": "constant",
        "rho.kappa_out": kappa,
        "momentum": 0.5,
        "replicas": 2,
    }
    moving = [one for one in space.parameters() if one.name in ("lr", "rho.kappa_out")]
    drawn = perturbed(parameters, moving, factors)
    for found in drawn:
        space.at(found)
        assert {name: found[name] for name in ("rho.shape", "momentum", "replicas")} == {
            "rho.shape": "constant", "momentum": 0.5, "replicas": 2,
        }  # fmt: skip
    for one, factor in zip(moving, factors, strict=True):
        wanted = rounded(float(str(parameters[one.name])) * factor)
        assert drawn[0][one.name] == min(max(wanted, one.low), one.high)
        ways = [abs(math.log(float(str(found[one.name])) / float(str(parameters[one.name])))) for found in drawn]
        assert ways == sorted(ways, reverse=True)


def test_a_change_of_one_level_moves_what_is_measured_by_it() -> None:
    feasible, space = Feasible(agreed(), find(TOY)), springs()
    parameters: dict[str, Scalar] = {
        "lr": 0.1,
        "rho.shape": "constant",
        "rho.kappa_out": 0.1,
        "momentum": 0.5,
        "replicas": 2,
    }
    now, then = (feasible.requested(space.at(parameters | {"lr": lr})) for lr in (0.1, 0.12))
    later = staged(now, then, 0.5)
    assert later.coupling["lr"] == "staged(0:0.1,0.5:0.12)"
    assert later.coupling["rho"] == "staged(0:1,0.5:1.2)"
    assert staged(later, then, 0.75) == later
    nearly = then.with_fields(coupling=then.coupling | {"lr": 0.120001})
    assert staged(later, nearly, 0.75) == later
    assert later.with_fields(coupling={}) == now.with_fields(coupling={})


def test_settings_past_a_stability_bound_are_never_trained(tmp_path: Path) -> None:
    # Stable up to lr/rho < 2 (no momentum); suggestions reach 1.9, and p = 1.2 would lead past it.
    space = SearchSpace(
        name="edge",
        dimensions=(
            Constant(field="method", value="elastic_sgd"),
            Constant(field="momentum", value=0.0),
            Constant(field="replicas", value=2),
            Float(field="lr", low=0.1, high=0.5),
            Constant(field="rho", value=0.1),
        ),
        summary="For tests.",
        source="none",
        points=({"lr": 0.19}, {"lr": 0.18}),
    )
    with training(tmp_path, space, trials=2, population=2, run={"epochs": 5}) as found:
        found.run(found.recruit())
        levels = [
            float(text.rpartition(":")[2].rstrip(")")) for trial in found.study.trials()
            for text in str(trial.user_attrs["run"]["coupling"]["lr"]).split(",")
        ]  # fmt: skip
        assert any(found.cloned().values())
        assert 0.19 < max(levels) < 0.2
        assert found.study.counts()["complete"] == 2


def test_a_space_of_which_nothing_can_change_is_refused() -> None:
    fixed = SearchSpace(
        name="fixed",
        dimensions=(Constant(field="method", value="local_sgd"), Choice(field="period", choices=(2, 4))),
        summary="For tests.",
        source="none",
    )
    with pytest.raises(ConfigError, match=r"space 'fixed': it searches nothing.*gamma, .*lr, "):
        check_movable(fixed)
    for space in (springs(), toy_space()):
        check_movable(space)


def test_pb2_is_refused_and_pbt_named() -> None:
    with pytest.raises(ConfigError, match=r"Invalid scheduler='pb2'.*Use pbt"):
        agreed(scheduler="pb2")
    with pytest.raises(ConfigError, match="population"):
        agreed(scheduler="pbt", population=1)
