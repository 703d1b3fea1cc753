"""The figures of one run: its center, and what its replicas do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deeprelax.dashboard.figures.figure import Figure, Trace, line, numbers, present
from deeprelax.dashboard.logs import Row
from deeprelax.dashboard.runs import Run

AXES: Mapping[str, str] = {"step": "mini-batch steps of a replica", "seconds": "seconds", "bytes": "exchanged bytes"}
"""What the center's progress can be drawn against."""

_COLUMNS = {"step": "step", "seconds": "seconds", "bytes": "exchange/bytes_total"}
_KNOBS = ("coupling/gamma", "coupling/rho", "coupling/lr", "coupling/outer_lr", "coupling/period", "coupling/beta")
_RATIOS = {"replica/spring_ratio": "spring", "replica/noise_ratio": "noise"}
_KAPPAS = {"coupling/kappa_in": "κ_in = η'L/γ", "coupling/kappa_out": "κ_out = η/ρ"}
_LEAST_TIMELINE = {"joined": "circle", "rejoined": "circle-open", "lost": "x", "finished": "square"}


def run_figures(run: Run, against: str = "step") -> list[Figure]:
    """Return the figures of a run for which it has the numbers.

    Args:
        run: the run.
        against: a key of :data:`AXES`.
    """
    made = [
        _progress(run, against, "error", "Error of the center", ("center/error", "replicas/error_mean")),
        _progress(run, against, "loss", "Loss", ("center/loss", "train/loss")),
        _distances(run),
        _knobs(run),
        _ratios(run),
        _exchange(run),
        _members(run),
    ]
    return [figure for figure in made if figure.traces]


def compared(runs: Mapping[str, Run], against: str) -> list[Figure]:
    """Return error and loss of several runs in common figures."""
    x = _COLUMNS[against]
    return [
        Figure(
            name=name,
            title=title,
            says=f"{title} of {len(runs)} runs against {AXES[against]}.",
            traces=[
                line(label, numbers(run.evaluations, x), numbers(run.evaluations, metric))
                for label, run in runs.items()
                if present(run.evaluations, [metric])
            ],
            x=AXES[against],
            y=title,
            log_y=name == "loss",
        )
        for name, title, metric in (
            ("error", "Error of the center", "center/error"),
            ("loss", "Loss of the center", "center/loss"),
            ("spread", "Consensus ratio", "replica/spread"),
        )
    ]


def _progress(run: Run, against: str, name: str, title: str, metrics: Sequence[str]) -> Figure:
    rows = run.evaluations
    x = numbers(rows, _COLUMNS[against])
    return Figure(
        name=name,
        title=title,
        says=_newest(rows, metrics),
        traces=[line(metric, x, numbers(rows, metric)) for metric in present(rows, metrics)],
        x=AXES[against],
        log_y=name == "loss",
    )


def _distances(run: Run) -> Figure:
    return Figure(
        name="distance",
        title="Distance of each replica to the center",
        says="They shrink as the springs tighten; a replica that leaves the others stands out.",
        traces=_of_replicas(run, "replica/distance"),
        x=AXES["step"],
        y="|xᵃ − x̄|",
        log_y=True,
    )


def _knobs(run: Run) -> Figure:
    rows = _of(run, run.replicas[:1])
    return Figure(
        name="knobs",
        title="Schedules as they were applied",
        says="Learning rate, γ, ρ and period at each exchange, of replica 0.",
        traces=[
            line(name.removeprefix("coupling/"), numbers(rows, "step"), numbers(rows, name))
            for name in present(rows, _KNOBS)
        ],
        x=AXES["step"],
        log_y=True,
    )


def _ratios(run: Run) -> Figure:
    rows = _of(run, run.replicas[:1])
    steps = numbers(rows, "step")
    named = _KAPPAS | {name: f"{word} : gradient" for name, word in _RATIOS.items()}
    return Figure(
        name="ratios",
        title="Springs and noise without units",
        says="κ_in near 1e-4 means an inert inner spring; κ_out is the part of its gap a replica closes an exchange.",
        traces=[line(text, steps, numbers(rows, name)) for name, text in named.items() if present(rows, [name])],
        x=AXES["step"],
        log_y=True,
    )


def _exchange(run: Run) -> Figure:
    waited = any(numbers(run.telemetry, "exchange/wait_s"))
    return Figure(
        name="exchange",
        title="Seconds waited for the exchange, in all",
        says="A replica that waits less than the others is the one they wait for.",
        traces=_of_replicas(run, "exchange/wait_s") if waited else [],
        x=AXES["step"],
        y="seconds",
    )


def _members(run: Run) -> Figure:
    rows = [row for row in run.events if "replica" in row and row["event"] in {*_LEAST_TIMELINE, "quarantined"}]
    kinds = dict.fromkeys(str(row["event"]) for row in rows)
    traces: list[Trace] = []
    for kind in kinds:
        here = [row for row in rows if row["event"] == kind]
        marks = {"size": 11, "symbol": _LEAST_TIMELINE.get(kind, "diamond")}
        who = [f"replica {row['replica']}" for row in here]
        traces.append(line(kind, numbers(here, "step"), who, mode="markers", marker=marks))
    return Figure(
        name="members",
        title="Who took part",
        says="When replicas joined, were lost, came back or were quarantined.",
        traces=traces,
        x=AXES["step"],
        layout={"yaxis": {"type": "category", "automargin": True}},
    )


def _of_replicas(run: Run, name: str) -> list[Trace]:
    return [
        line(f"replica {replica}", numbers(rows, "step"), numbers(rows, name))
        for replica in run.replicas
        if present(rows := _of(run, [replica]), [name])
    ]


def _of(run: Run, replicas: Sequence[int]) -> list[Row]:
    return [row for row in run.telemetry if row["replica"] in replicas]


def _newest(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    found = [f"{name} {rows[-1][name]:.4g}" for name in metrics if rows and name in rows[-1]]
    return f"Newest: {', '.join(found)}." if found else "Nothing was judged yet."
