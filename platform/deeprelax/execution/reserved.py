"""Ray Train's workers in the placement group that this process is in, where it would reserve one of its own.

A trial of a sweep is such a process. All its workers were reserved together before it began, and whoever reserved them
frees them when it ends: it never waits for workers while it holds some, and leaves none behind. Ray Train cannot be
given a group, so its controller is replaced by one that differs only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import ray
from ray._common.constants import RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR
from ray.actor import ActorMethod
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import (
    DefaultPlacementGroupHandle,
    Worker,
    WorkerGroup,
    WorkerGroupContext,
)
from ray.train.v2.api.config import ScalingConfig
from ray.util.placement_group import PlacementGroup, get_current_placement_group

from deeprelax.execution.backend import ReplicaConfig


class Controller(Protocol):
    """What is needed of Ray Train's controller, an actor."""

    run: ActorMethod
    get_result: ActorMethod


class _Lent(DefaultPlacementGroupHandle):
    """A placement group that its owner frees."""

    def shutdown(self) -> None:
        """Leave the group as it is."""


class _ReservedWorkerGroup(WorkerGroup):
    """Workers on the bundles of the controller's own group, from ``ReplicaConfig.first_bundle`` on."""

    def _create_placement_group(
        self,
        scaling_config: ScalingConfig,  # noqa: ARG002 - Ray's signature
        worker_group_context: WorkerGroupContext,  # noqa: ARG002
    ) -> DefaultPlacementGroupHandle:
        group = get_current_placement_group()
        assert group is not None, "the controller is in its creator's placement group"
        return _Lent(group)

    def _create_workers(
        self,
        num_workers: int,
        placement_group: PlacementGroup,
        resources_per_worker: dict[str, float],
        placement_group_bundle_indices: list[int] | None = None,
        starting_world_rank: int = 0,
        world_size: int | None = None,
        replica_group_size: int | None = None,
    ) -> list[Worker]:
        if placement_group_bundle_indices is None:  # else a lost worker is replaced in its place
            config = self._train_run_context.backend_config
            assert isinstance(config, ReplicaConfig)
            assert config.first_bundle is not None
            placement_group_bundle_indices = list(range(config.first_bundle, config.first_bundle + num_workers))
        return super()._create_workers(
            num_workers,
            placement_group,
            resources_per_worker,
            placement_group_bundle_indices,
            starting_world_rank,
            world_size,
            replica_group_size,
        )


class _ReservedController(TrainController):
    """Ray Train's controller with such workers."""

    worker_group_cls = _ReservedWorkerGroup


def start_controller(arguments: Mapping[str, object]) -> Controller:
    """Start the controller of a run beside this process; when it is killed, its workers end with it."""
    # Ray would warn that its own controller blocks.
    variables = {RAY_WARN_BLOCKING_GET_INSIDE_ASYNC_ENV_VAR: "0"} | get_env_vars_to_propagate()
    actor = ray.remote(
        num_cpus=0,
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        runtime_env={"env_vars": variables},
    )(_ReservedController)
    return cast("Controller", actor.remote(**arguments))
