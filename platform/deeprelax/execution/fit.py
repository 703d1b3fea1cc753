"""Ray Train's part of a run: n workers, and the replacement of those that are lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import ray
from ray.actor import ActorHandle
from ray.train.v2.api.callback import RayTrainCallback
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.result import Result

from deeprelax.execution.backend import ReplicaConfig
from deeprelax.execution.reserved import Controller, start_controller
from deeprelax.execution.worker import Assignment, replica_main

if TYPE_CHECKING:
    from deeprelax.execution.cluster import Room
    from deeprelax.execution.launch import Tolerance

START_FAILURES = 1
"""Times the workers may fail to start before the run gives up, each after RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S."""


class Fit(threading.Thread):
    """Ray Train's blocking ``fit``, in a thread: in the main one it would take Ctrl-C for itself.

    Args:
        given: to every worker.
        workers: how many there are.
        tolerance: what the run endures.
        room: the workers' resources.
        scratch: a folder for Ray Train's own files.
        verbose: let Ray talk.

    Attributes:
        error: what ended it, once it has ended.
    """

    def __init__(
        self, given: Assignment, workers: int, tolerance: Tolerance, room: Room, scratch: str, *, verbose: bool
    ) -> None:
        super().__init__(name="deeprelax-fit", daemon=True)
        self.error: Exception | None = None
        level = "INFO" if verbose else "ERROR"
        logging.getLogger("ray.train").setLevel(level)
        self._trainer = _trainer_for(room)(
            cast("Callable[[dict[str, object]], None]", replica_main),
            train_loop_config=dict(given),
            backend_config=ReplicaConfig(
                given["servers"][0], elastic=tolerance.elastic, first_bundle=room.first_bundle
            ),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu="GPU" in room.resources,
                resources_per_worker=room.resources,
            ),
            run_config=RunConfig(  # type: ignore[arg-type] # Ray's annotation names its older class
                name="train",
                storage_path=scratch,
                worker_runtime_env=room.runtime_env,
                failure_config=FailureConfig(
                    max_failures=tolerance.max_failures, controller_failure_limit=START_FAILURES
                ),
                logging_config=LoggingConfig(log_level=level),
            ),
        )

    def run(self) -> None:
        """Run it and keep its error."""
        try:
            self._trainer.fit()
        except Exception as error:  # noqa: BLE001 - the watching thread raises it
            self.error = error

    def kill(self) -> bool:
        """End the workers at once; return False if Ray Train's controller must be asked to, since they are its own."""
        if not isinstance(self._trainer, _ReservedTrainer):
            return False
        self._trainer.kill()
        return True


class _Trainer(DataParallelTrainer):
    """Without the processes that Ray Train starts for others: 2 s of CPU each, while the workers start."""

    unneeded = frozenset({"DatasetsCallback"})

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        made = super()._create_default_callbacks()
        return [callback for callback in made if type(callback).__name__ not in self.unneeded]


class _TrainerOnOwnCluster(_Trainer):
    """The cluster ends with the run, and so need not be cleaned."""

    unneeded = frozenset({"DatasetsCallback", "PlacementGroupCleanerCallback"})


class _ReservedTrainer(_Trainer):
    """Its workers are reserved and freed by others; see :mod:`deeprelax.execution.reserved`."""

    unneeded = frozenset({"DatasetsCallback", "PlacementGroupCleanerCallback"})
    _killed = False
    _controller: Controller | None = None

    def _initialize_and_run_controller(self, **arguments: object) -> Result:
        controller = self._controller = start_controller(arguments)
        if self._killed:  # while the controller was made
            self.kill()
        ray.get(controller.run.remote())
        return cast("Result", ray.get(controller.get_result.remote()))

    def kill(self) -> None:
        """End the controller, and with it its workers."""
        self._killed = True
        if self._controller is not None:
            assert isinstance(self._controller, ActorHandle)
            ray.kill(self._controller)


def _trainer_for(room: Room) -> type[_Trainer]:
    if room.first_bundle is not None:
        return _ReservedTrainer
    return _TrainerOnOwnCluster if room.own else _Trainer
