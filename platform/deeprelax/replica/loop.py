"""The training loop of one replica, as a generator of messages: no transport, no process, no terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.message import Message, Reply
from deeprelax.coupling.methods import make_coupling
from deeprelax.errors import CheckpointError, DivergedError, StrayedError
from deeprelax.replica import checkpoint
from deeprelax.replica.adaptation import Adaptation
from deeprelax.replica.evaluation import evaluate, has_batchnorm, outputs_of, own_buffers, recalibrate
from deeprelax.replica.gradients import Ask, Gradients
from deeprelax.replica.local_step import Company
from deeprelax.replica.population import PopulationConfig
from deeprelax.replica.random_stream import RandomStream
from deeprelax.replica.replica import Replica, Steps
from deeprelax.replica.seeds import derived_seed
from deeprelax.replica.start import batches_of, build_model
from deeprelax.replica.task import Task

Event = dict[str, object]
Emit = Callable[[Event], None]
Measure = Callable[[nn.Module, Task], Mapping[str, float]]
AskingLoop = Generator[Message | Ask, Reply | None, None]
"""A replica's whole loop: yields what it needs, a gradient or an exchange; a reply answers an exchange."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how a replica trains.

    Args:
        total_steps: mini-batch steps of the run.
        batch_size: samples of a step.
        accumulate: parts a batch is computed in, to save memory; the step is the same.
        clip_norm: largest norm of the gradient; None does not clip.
        precision: ``float32``, or ``bf16``: forward and loss under bfloat16 autocast, weights in float32.
        seed: of weights, data order, noise and dropout.
        evaluate_every_steps: the center is judged at the first exchange after so many steps.
        checkpoint_every_steps: likewise saved; 0 saves only at the end.
        report: besides the center, judge at the end each of the ``replicas`` and their ``ensemble``.
        measure_flatness: returns ``flat/…`` of a model that holds the center; None does not measure.
        flatness: do so with the evaluation at the ``end``, or with ``every`` one.
        population: how the replicas' settings differ and spread; None: all keep the coupling's.
    """

    total_steps: int
    batch_size: int
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0
    evaluate_every_steps: int = 0
    checkpoint_every_steps: int = 0
    report: tuple[str, ...] = ()
    measure_flatness: Measure | None = None
    flatness: Literal["end", "every"] = "end"
    population: PopulationConfig | None = None


class Training:
    """One replica's run from join to final evaluation.

    Args:
        task: model, data, loss and metrics.
        coupling: resolved; its ``lr`` is set.
        plan: how long and how.
        index: a in 0..n-1; replica 0 judges and saves the center.
        device: where the model lives.
        emit: takes events: ``telemetry``, ``evaluation``, ``checkpoint``, ``replica``, ``adapted``, and ``counted``
            after what travelled since the last checkpoint.
        checkpoints: folder of the run's checkpoints.
        center_state: returns the center where it lives, for a checkpoint.
        resume: the checkpoint to continue from.
        company: of replicas that are computed together; None: this one is computed by itself.
    """

    def __init__(  # noqa: PLR0913 - all that a run leaves open about one replica
        self,
        task: Task,
        coupling: Coupling,
        plan: Plan,
        *,
        index: int = 0,
        device: torch.device | None = None,
        emit: Emit,
        checkpoints: Path,
        center_state: Callable[[], Mapping[str, Tensor]],
        resume: checkpoint.Checkpoint | None = None,
        company: Company | None = None,
    ) -> None:
        self.task = task
        self.plan = plan
        self.index = index
        self.device = device or torch.device("cpu")
        self.emit = emit
        self.checkpoints = checkpoints
        self.center_state = center_state
        self.resume = resume
        self.model = build_model(task, coupling, plan.seed, index).to(self.device)
        self.batches = batches_of(task, coupling, plan.batch_size, plan.seed, index)
        self.replica = Replica(
            company.bind(self.model) if company else self.model,
            coupling,
            index=index,
            seed=plan.seed,
            steps_per_pass=self.batches.steps_per_pass,
            total_steps=plan.total_steps,
            make_later=company.make_later if company else None,
        )
        if coupling.batchnorm == "average":
            self.replica.extras = tuple(b.view(-1) for b in self.model.buffers() if b.is_floating_point())
        if plan.population is not None:
            self.replica.adapt(self._adaptation(plan.population))
        self._augmenting = torch.Generator().manual_seed(derived_seed(plan.seed, "augment", index))
        self._dropout = RandomStream(derived_seed(plan.seed, "dropout", index), self.device)
        self._gradients = Gradients(
            task=task,
            flat=self.replica.flat,
            device=self.device,
            augmenting=self._augmenting,
            dropout=self._dropout,
            accumulate=plan.accumulate,
            clip_norm=plan.clip_norm,
            precision=plan.precision,
        )
        self._pass = -1
        self._order: tuple[Tensor, ...] = ()
        self._judged = -1
        self._saved = -1

    def run(self) -> Steps[None]:
        """Train, and compute every gradient when it is asked for.

        The generator ends after the final evaluation, or, when the run was asked to stop, after saving.
        """
        loop = self.asking()
        reply: Reply | None = None
        while True:
            try:
                said = loop.send(reply)
            except StopIteration:
                return
            if isinstance(said, Ask):
                said.answer()
                reply = None
            else:
                reply = yield said

    def asking(self) -> AskingLoop:
        """Train as :meth:`run` does, but ask for the gradients: who runs the loop may compute those of many at once."""
        if self.resume is not None and self._part(self.resume).exists():
            self._restore(self.resume)
        joined = yield from self.replica.join()
        self._report_adaptation()
        if joined.stop and joined.step:
            # The others stopped here while this replica was being replaced: its part completes the checkpoint.
            self._save()
            return
        seen = self.replica.position.step
        while self.replica.position.step < self.plan.total_steps:
            ask = Ask(self._gradients, self._batch(self.replica.position.step))
            yield ask
            exchanged = yield from self.replica.step(ask.loss)
            if exchanged is None:
                continue
            self._after_exchange(seen)
            seen = self.replica.position.step
            if (exchanged.stop or exchanged.save) and seen < self.plan.total_steps:
                self._save()
            if exchanged.stop and seen < self.plan.total_steps:
                return
        yield from self._end()

    def _end(self) -> Steps[None]:
        if self._saved != self.replica.position.step:  # otherwise this continues a run that had ended
            yield from self.replica.finish()
        self._report_telemetry()
        if self.index == 0 and self._judged != self.replica.position.step:
            self._judge_center()
        self._save()
        if "replicas" in self.plan.report:
            self._emit("replica", evaluate(self.model, self.task, self.device))
        if "ensemble" in self.plan.report:
            yield from self._judge_ensemble()

    def _batch(self, step: int) -> Tensor:
        """Return the samples of a step, int64 of shape (B,)."""
        number, index = divmod(step, self.batches.steps_per_pass)
        if number != self._pass:
            self._pass, self._order = number, self.batches.of_pass(number)
        return self._order[index]

    def _after_exchange(self, before: int) -> None:
        now = self.replica.position.step
        self._report_adaptation()
        self._report_telemetry()
        if self.index == 0 and _crossed(before, now, self.plan.evaluate_every_steps):
            self._judge_center()
        if now < self.plan.total_steps and _crossed(before, now, self.plan.checkpoint_every_steps):
            self._save()

    def _adaptation(self, population: PopulationConfig) -> Adaptation:
        return Adaptation(
            population,
            self.replica.coupling,
            index=self.index,
            seed=self.plan.seed,
            start=self.replica.position,
            held_out_loss=self._held_out_loss if population.judge == "holdout" else None,
        )

    def _held_out_loss(self) -> float:
        return evaluate(self.model, self.task, self.device)["loss"]

    def _report_adaptation(self) -> None:
        for row in self.replica.adaptation.take_news() if self.replica.adaptation else ():
            self._emit("adapted", row)

    def _report_telemetry(self) -> None:
        row = self.replica.telemetry()
        if not row:
            return
        self._emit("telemetry", row)
        self._refuse_divergence(row.get("replica/loss", 0.0), f"replica {self.index}", StrayedError)

    def _refuse_divergence(self, loss: float, whose: str, kind: type[DivergedError] = DivergedError) -> None:
        if not math.isfinite(loss):
            raise kind(
                f"The loss of {whose} is {loss} at step {self.replica.position.step}. "
                "Use a smaller lr, a softer spring (larger gamma, rho), or clip_norm."
            )

    def _judge_center(self) -> None:
        self._judged = self.replica.position.step
        with self.replica.flat.showing(self.replica.center()), own_buffers(self.model):
            self._settle_batchnorm()
            metrics = evaluate(self.model, self.task, self.device)
            flatness = self._flatness() if math.isfinite(metrics["loss"]) else {}
        self._emit("evaluation", {f"center/{name}": value for name, value in metrics.items()} | dict(flatness))
        self._refuse_divergence(metrics["loss"], "the center")

    def _flatness(self) -> Mapping[str, float]:
        measure = self.plan.measure_flatness
        due = self.plan.flatness == "every" or self.replica.position.step == self.plan.total_steps
        return measure(self.model, self.task) if measure is not None and due else {}

    def _judge_ensemble(self) -> Steps[None]:
        reply = yield Message(
            kind="mean",
            phase="evaluation",
            vectors=(outputs_of(self.model, self.task, self.device),),
            step=self.replica.position.step,
            exchanges=self.replica.position.exchanges,
        )
        if self.index == 0:
            targets = self.task.test_data.batch(torch.arange(len(self.task.test_data)))[1]
            probabilities = reply.vectors[0].to(targets.device).view(*targets.shape, -1)
            error = (probabilities.argmax(-1) != targets).double().mean()
            self._emit("ensemble", {"error": float(error)})
        self._emit("counted", {})

    def _settle_batchnorm(self) -> None:
        if self.replica.coupling.batchnorm == "recalibrate" and has_batchnorm(self.model):
            recalibrate(self.model, self.task, self.plan.batch_size, self.device)

    def _emit(self, event: str, values: Mapping[str, object]) -> None:
        position = self.replica.position
        self.emit(
            {
                "event": event,
                "replica": self.index,
                "step": position.step,
                "exchanges": position.exchanges,
                "passes": position.measured_in("passes"),
                **values,
            }
        )

    def _save(self) -> None:
        position = self.replica.position
        if position.step == self._saved:
            return
        self._saved = position.step
        where = checkpoint.folder(self.checkpoints, position.step)
        buffers = {f"buffer.{name}": buffer for name, buffer in self.model.named_buffers()}
        streams = {"augment": self._augmenting.get_state(), **self._dropout.state()}
        checkpoint.write_tensors(
            where / f"replica-{self.index:03d}.safetensors", self.replica.state() | buffers | streams
        )
        numbers: dict[str, object] = {
            "step": position.step,
            "exchanges": position.exchanges,
            "elapsed": self.replica.elapsed,
            "coupling": self.replica.coupling.model_dump(),
        }
        if self.replica.adaptation is not None:
            numbers["adaptation"] = self.replica.adaptation.state()
        checkpoint.write_json(where / f"replica-{self.index:03d}.json", numbers)
        if self.index == 0:
            checkpoint.write_tensors(where / "exchange.safetensors", self.center_state())
            with self.replica.flat.showing(self.replica.center()), own_buffers(self.model):
                self._settle_batchnorm()
                checkpoint.write_tensors(where / "center.safetensors", self.model.state_dict())
        self._emit("checkpoint", {"elapsed": self.replica.elapsed})

    def _part(self, saved: checkpoint.Checkpoint) -> Path:
        """Return this replica's part of a checkpoint; who did not take part then has none, and is a newcomer."""
        return saved.path / f"replica-{self.index:03d}.json"

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        numbers = checkpoint.read_json(self._part(saved))
        tensors = checkpoint.read_tensors(saved.path / f"replica-{self.index:03d}.safetensors")
        buffers = {
            name: tensors.pop(f"buffer.{name}") for name, _ in self.model.named_buffers() if f"buffer.{name}" in tensors
        }
        for name, buffer in self.model.named_buffers():
            if name not in buffers:
                raise CheckpointError(
                    f"The checkpoint {saved.path} holds no buffer {name!r}: it belongs to another model."
                )
            buffer.copy_(buffers[name])
        self._augmenting.set_state(tensors.pop("augment"))
        self._dropout.restore(tensors)
        fields = numbers["coupling"]
        assert isinstance(fields, dict)
        coupling = make_coupling(self.replica.coupling.method(), fields)
        self.replica.restore(
            tensors, step=saved.step, exchanges=saved.exchanges, coupling=coupling, elapsed=saved.elapsed
        )
        if self.replica.adaptation is not None:
            state = numbers["adaptation"]
            assert isinstance(state, dict)
            self.replica.adaptation.restore(state)
        self._judged = self._saved = saved.step


def _crossed(before: int, now: int, every: int) -> bool:
    return every > 0 and now // every > before // every
