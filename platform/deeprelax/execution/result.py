"""What a finished run gives back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from deeprelax.config import RunConfig
from deeprelax.errors import CheckpointError
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import read_json, read_tensors


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run that has ended, or was stopped; everything in it is also in the files of ``run_dir``.

    Args:
        run_dir: the run's folder.
        config: complete.
        metrics: of the center at the end: ``center/loss``, ``center/error``, …; on request ``replicas/…``,
            ``ensemble/error`` and ``flat/…``.
        cost: gradient evaluations per replica and in total, data passes, bytes exchanged, in total and to join, to
            exchange and to judge an ensemble, mean seconds waited, seconds.
        incidents: how often replicas were lost, rejoined, quarantined …; only what has happened.
        stopped: True if it was asked to stop; ``deeprelax fit --resume RUN_DIR`` continues it.

    Example:
        ``result = deeprelax.fit("digits", coupling="parle"); result.load_into(my_model)``
    """

    run_dir: Path
    config: RunConfig
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    incidents: Mapping[str, int] = field(default_factory=dict)
    stopped: bool = False

    @property
    def center_path(self) -> Path:
        """The center's weights: a plain state_dict in safetensors."""
        return self.run_dir / "center.safetensors"

    def state_dict(self) -> dict[str, Tensor]:
        """Return the center's weights and buffers by the model's own names."""
        return read_tensors(self.center_path)

    def load_into(self, model: nn.Module) -> nn.Module:
        """Copy the center into ``model`` and return it.

        Raises:
            CheckpointError: the model is another one than was trained.
        """
        try:
            model.load_state_dict(self.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{self.center_path} does not fit this model: {error}") from None
        return model

    def history(self) -> list[dict[str, object]]:
        """Return the evaluations of the center, oldest first."""
        return RunStore(self.run_dir).rows("evaluation")

    def telemetry(self) -> list[dict[str, object]]:
        """Return the rows of telemetry, oldest first: one a replica and exchange."""
        return RunStore(self.run_dir).rows("telemetry")

    def summary(self) -> dict[str, object]:
        """Return the result as plain JSON values."""
        return {
            **self.metrics,
            "cost": dict(self.cost),
            "incidents": dict(self.incidents),
            "run_dir": str(self.run_dir),
            "trainable": self.config.trainable,
            "method": self.config.method,
            "replicas": self.config.make_coupling().replicas,
            "seed": self.config.seed,
            "epochs": self.config.epochs,
            "steps": self.config.steps,
            "stopped": self.stopped,
        }

    def __str__(self) -> str:
        return json.dumps(self.summary(), indent=2)


def load_result(run_dir: str | Path) -> RunResult:
    """Return the result of a run that ended earlier.

    Raises:
        CheckpointError: the folder holds no finished run.
    """
    path = Path(run_dir).absolute()
    summary = read_json(path / "result.json")
    metrics = {name: float(str(value)) for name, value in summary.items() if "/" in name}
    cost = summary.get("cost")
    if not isinstance(cost, dict) or "stopped" not in summary:
        raise CheckpointError(f"Cannot read {path / 'result.json'}: it is no result of deeprelax. Give a run's folder.")
    config = RunConfig(**read_json(path / "config.json"))
    incidents = summary.get("incidents", {})
    assert isinstance(incidents, dict)
    return RunResult(
        run_dir=path,
        config=config,
        metrics=metrics,
        cost=cost,
        incidents=incidents,
        stopped=bool(summary["stopped"]),
    )
