"""What a simulation shows: closed forms on a quadratic, the cost of lag, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from deeprelax.cli import main
from deeprelax.errors import ConfigError, UnstableError
from deeprelax.simulation import Lag, Simulation, read_lag, simulate
from deeprelax.simulation.losses import named_loss
from deeprelax.simulation.simulate import ladder


def test_the_centers_error_is_that_of_the_closed_form() -> None:
    """The mean of n linear chains is one chain with the noise over sqrt(n): x ← (1 - ηh) x - η s ξ/sqrt(n)."""
    n, lr, noise, dimension = 25, 0.1, 2.0, 200
    done = simulate(
        "elastic_sgd",
        replicas=(n,),
        steps=300,
        lr=lr,
        noise=noise,
        dimension=dimension,
        momentum=0.0,
        rho=1.0,
        start=0.1,
    )
    curvature = torch.logspace(0, 1, dimension, base=0.1, dtype=torch.float64)
    variance = lr**2 * noise**2 / n / (1 - (1 - lr * curvature) ** 2)
    assert done.tracks[0].error == pytest.approx(float((curvature * variance).sum() / 2), rel=0.1)


def test_more_replicas_average_the_noise_of_the_center_out() -> None:
    done = simulate(replicas=(4, 32, 256), steps=500)
    assert done.order == pytest.approx(-1, abs=0.25)
    spreads = [track.spread for track in done.tracks]
    assert max(spreads) < 1.5 * min(spreads), "what one replica does hardly depends on n"


def test_lag_delays_the_center() -> None:
    in_time, late = (simulate("local_sgd", replicas=(64,), steps=400, period=5, lag=lag) for lag in ("0", "4"))
    first, second = in_time.tracks[0].reached, late.tracks[0].reached
    assert first is not None
    assert second is None or second > first


def test_a_run_that_diverges_says_so() -> None:
    done = simulate("local_sgd", replicas=(2,), steps=2000, lr=10.0, momentum=0.0)
    track = done.tracks[0]
    assert track.error == math.inf
    assert track.reached is None
    assert len(track.steps) < 100, "it is not followed any further"
    json.loads(json.dumps(done.as_dict(), allow_nan=False))


def test_the_same_seed_gives_the_same_run() -> None:
    first, again, other = (simulate(replicas=(5,), steps=50, lag="exp(1)", seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_target_is_reached_at_the_first_exchange_below_it() -> None:
    track = simulate("local_sgd", replicas=(8,), steps=300, period=3, noise=0.0, momentum=0.0, target=0.5).tracks[0]
    assert track.reached is not None
    assert track.reached % 3 == 0
    at = track.steps.index(track.reached)
    assert track.errors[at] <= 0.5 < track.errors[at - 1]


def test_one_number_stands_for_its_eighths() -> None:
    assert ladder(2000) == [3, 31, 250, 2000]
    assert ladder(1) == [1]


@pytest.mark.parametrize("name", ["quadratic", "f1", "f2"])
def test_losses_have_their_lowest_value(name: str) -> None:
    loss = named_loss(name, 3)
    point = torch.tensor(loss.potential.minima[0], dtype=torch.float64)
    assert float(loss.potential(point)) == pytest.approx(loss.lowest, abs=1e-12)
    assert float(loss.potential.gradient(point).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("text", "lag"),
    [("0", Lag()), ("const(3)", Lag(mean=3)), (" 3 ", Lag(mean=3)), ("exp(.5)", Lag(shape="exp", mean=0.5))],
)
def test_lags_are_read(text: str, lag: Lag) -> None:
    assert read_lag(text) == lag


@pytest.mark.parametrize(
    "text", ["", "late", "exp", "exp()", "exp(-1)", "1.5", "const(nan)", "65", "exp(inf)", "exp(1"]
)
def test_what_is_no_lag_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Invalid lag"):
        read_lag(text)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"coupling": "parl"}, ConfigError, "Did you mean 'parle'"),
        ({"replicas": 0}, ConfigError, "Invalid replicas=0"),
        ({"replicas": ()}, ConfigError, "Invalid replicas"),
        ({"steps": 0}, ConfigError, "steps=0"),
        ({"noise": -1.0}, ConfigError, "noise=-1"),
        ({"loss": "f3"}, ConfigError, "Must be one of quadratic, f1, f2"),
        ({"dimension": 0}, ConfigError, "Invalid dimension=0"),
        ({"gama": 1.0}, ConfigError, "gama"),
        ({"coupling": "elastic_sgd", "rho": 1e-6}, UnstableError, "rho"),
        ({"coupling": "entropy_sgd"}, ConfigError, "has one replica"),
    ],
)
def test_what_cannot_run_is_refused_before_it_runs(
    fields: dict[str, object], error: type[ConfigError], says: str
) -> None:
    def never(track: object) -> None:
        pytest.fail(f"{track} ran")

    with pytest.raises(error, match=says):
        simulate(**fields, watch=never)  # type: ignore[arg-type]


def ran(*words: str) -> Result:
    return CliRunner().invoke(main, ["simulate", "--steps", "60", "--replicas", "2,8", *words])


def test_the_command_prints_a_row_for_every_n() -> None:
    told = ran("--period", "5", "--set", "rho=4")
    assert told.exit_code == 0, told.output
    head, *rows, verdict = told.stdout.splitlines()
    assert head.split() == ["replicas", "center", "error", "spread", "steps", "to", "target"]
    assert [row.split()[0] for row in rows] == ["2", "8"]
    assert "It falls like n^" in verdict


def test_json_is_what_python_returns() -> None:
    told = json.loads(ran("--json", "--lag", "exp(1)", "--loss", "f2", "--lr", "0.01").stdout)
    done: Simulation = simulate(replicas=(2, 8), steps=60, lag="exp(1)", loss="f2", lr="0.01")
    assert told == json.loads(json.dumps(done.as_dict()))


def test_pictures_are_drawn(tmp_path: Path) -> None:
    told = ran("--plots", str(tmp_path / "pictures"))
    assert told.exit_code == 0, told.output
    assert (tmp_path / "pictures/simulation.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-n", "many"], "such as 2000 or 2,20,200"),
        (["--lag", "late"], "Invalid lag"),
        (["--set", "rho"], "FIELD=VALUE"),
    ],
)
def test_the_command_refuses_with_one_line(words: list[str], says: str) -> None:
    told = ran(*words)
    assert told.exit_code == 2
    assert says in told.stderr
