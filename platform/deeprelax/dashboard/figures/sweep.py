"""The figures of a sweep: what was found, when, at what cost, and what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from deeprelax.dashboard.figures.figure import Figure, Trace, line
from deeprelax.dashboard.figures.parallel import parallel
from deeprelax.dashboard.sweeps import Sweep, TrialRow


def sweep_figures(sweep: Sweep) -> list[Figure]:
    """Return the figures for which there are trials."""
    made = [
        _history(sweep, "history", "Best so far against trials", "trials that have ended", lambda _: 1.0),
        _history(sweep, "bytes", "Best so far against bytes", "exchanged bytes of all trials", _bytes),
        _history(sweep, "gradients", "Best so far against gradients", "gradients of all trials", lambda r: r.gradients),
        parallel(sweep.terms.metrics[0], _judged(sweep), _varied(sweep, _judged(sweep)), sweep.terms.directions[0]),
        _importances(sweep),
        _fidelity(sweep),
        _slices(sweep),
    ]
    return [figure for figure in made if figure.traces]


def _history(sweep: Sweep, name: str, title: str, x: str, cost: Callable[[TrialRow], float]) -> Figure:
    rows = sorted((row for row in sweep.rows if row.ended is not None), key=lambda row: row.ended or 0.0)
    spent = list(accumulate(cost(row) for row in rows))
    judged = [(at, row) for at, row in zip(spent, rows, strict=True) if row.outcome == "complete" and row.values]
    if not judged or spent[-1] == 0:
        return Figure(name=name, title=title, says="", traces=[])
    better = max if sweep.terms.directions[0] == "maximize" else min
    values = [row.values[0] for _, row in judged]
    at = [x for x, _ in judged]
    best = list(accumulate(values, better))
    marks = {"size": 6, "opacity": 0.7}
    return Figure(
        name=name,
        title=title,
        says=f"The best {sweep.terms.metrics[0]} is {best[-1]:.4g}.",
        traces=[
            line("trial", at, values, mode="markers", marker=marks, text=[f"trial {row.number}" for _, row in judged]),
            line("best so far", at, best, mode="lines", line={"shape": "hv", "color": "#d55e00", "width": 2.5}),
        ],
        x=x,
        y=sweep.terms.metrics[0],
        log_y=all(value > 0 for value in values),
    )


def _bytes(row: TrialRow) -> float:
    return row.bytes_exchanged or 0.0


def _importances(sweep: Sweep) -> Figure:
    shares = dict(reversed(list(sweep.importances.items())[:12]))
    traces: list[Trace] = []
    if shares:
        bars = {"x": list(shares.values()), "y": list(shares)}
        traces = [{"type": "bar", "orientation": "h", **bars}]
    return Figure(
        name="importances",
        title="What matters",
        says="Share of each parameter in what decides the first objective.",
        traces=traces,
        x="importance",
        layout={"yaxis": {"automargin": True}},
    )


def _fidelity(sweep: Sweep) -> Figure:
    rows = [row for row in sweep.rows if row.fidelity is not None]
    hover = [f"trial {row.number}: {row.why}" for row in rows]
    stopped = line(
        "stopped early", [row.fidelity for row in rows], [row.values[0] if row.values else None for row in rows],
        mode="markers", text=hover, marker={"size": 8},
    )  # fmt: skip
    return Figure(
        name="fidelity",
        title="Stopped early",
        says=f"{len(rows)} trials were stopped before their end; where, and how they stood.",
        traces=[stopped] if rows else [],
        x="data passes",
        y=sweep.terms.metrics[0],
    )


def _slices(sweep: Sweep) -> Figure:
    rows = _judged(sweep)
    names = _varied(sweep, rows)[:3]
    traces = [
        line(
            name, [row.parameters.get(name) for row in rows], [row.values[0] for row in rows], mode="markers",
            xaxis=f"x{i + 1 if i else ''}", marker={"size": 6}, text=[f"trial {row.number}" for row in rows],
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    axes = {
        f"xaxis{i + 1 if i else ''}": {"title": {"text": name}, "type": _scale(rows, name), "automargin": True}
        for i, name in enumerate(names)
    }
    grid = {"rows": 1, "columns": max(1, len(names)), "pattern": "independent", "subplots": [_subplots(len(names))]}
    return Figure(
        name="slices",
        title="The objective against the parameters that matter most",
        says="A point a trial.",
        traces=traces,
        y=sweep.terms.metrics[0],
        layout={**axes, "grid": grid, "showlegend": False},
    )


def _subplots(count: int) -> list[str]:
    return [f"x{i + 1 if i else ''}y" for i in range(count)]


def _scale(rows: Sequence[TrialRow], name: str) -> str:
    values = [row.parameters[name] for row in rows if name in row.parameters]
    found = [float(value) for value in values if isinstance(value, int | float)]
    return "log" if len(found) == len(values) and found and min(found) > 0 and max(found) / min(found) > 30 else "-"


def _judged(sweep: Sweep) -> list[TrialRow]:
    return [row for row in sweep.rows if row.outcome == "complete" and row.values]


def _varied(sweep: Sweep, rows: Sequence[TrialRow]) -> list[str]:
    """Return the parameters that differ among the trials, the most important first."""
    names = dict.fromkeys([*sweep.importances, *(name for row in rows for name in row.parameters)])
    return [name for name in names if len({row.parameters.get(name) for row in rows}) > 1]
