"""How Ray Train treats the workers. Its controller imports this, so it does without torch, which takes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray
from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.worker_group import ReplicaGroup

from deeprelax.execution.notice import listen

if TYPE_CHECKING:
    from ray.actor import ActorProxy

    from deeprelax.exchange.server.actor import Head


class GroupBackend(Backend):
    """A lost worker restarts all workers. No process group is made: the replicas meet at the center server."""

    def on_start(
        self,
        worker_group: BaseWorkerGroup,
        backend_config: BackendConfig,
    ) -> None:
        """Tell the center server who controls the workers, and the workers to take notice; runs in the controller."""
        assert isinstance(backend_config, ReplicaConfig)
        worker_group.execute(listen)
        backend_config.head.adopt.remote(ray.get_runtime_context().current_actor)


class ReplicaBackend(GroupBackend):
    """A lost worker alone is replaced: every worker is a replica group of its own (the mechanism made for torchft)."""

    has_replica_groups = True

    def on_shutdown(self, worker_group: BaseWorkerGroup, backend_config: BackendConfig) -> None:
        """Tell the center server of a lost worker, so that the others need not wait until its lease ends."""
        assert isinstance(backend_config, ReplicaConfig)
        if isinstance(worker_group, ReplicaGroup):
            for worker in worker_group.get_workers():
                assert worker.distributed_context is not None
                backend_config.head.lose.remote(worker.distributed_context.world_rank)


class ReplicaConfig(BackendConfig):
    """Chooses the backend.

    Args:
        head: the center server.
        elastic: a lost worker alone is replaced.
        first_bundle: see :class:`deeprelax.execution.cluster.Placement`.
    """

    def __init__(self, head: ActorProxy[Head], *, elastic: bool, first_bundle: int | None = None) -> None:
        self.head = head
        self.elastic = elastic
        self.first_bundle = first_bundle

    @property
    def backend_cls(self) -> type[Backend]:
        """The backend's class."""
        return ReplicaBackend if self.elastic else GroupBackend
