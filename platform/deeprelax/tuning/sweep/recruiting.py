"""A population under Ray Tune: the searcher that fills it, and the scheduler that lets its trials wait and go on.

Tune's own ``PopulationBasedTraining`` refuses to work with any searcher, waits for ever (``synch=True``) for a trial
that has failed, draws from the global random numbers, and keeps every checkpoint. So only Tune's interfaces for
searchers and schedulers are used, and what it copies are the runs' own folders.

Tune is never asked to save: a paused trial is complete on disk, and its process takes the next trial meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler

from deeprelax.tuning.sweep.outcome import PAUSED, Result
from deeprelax.tuning.sweep.population import Population
from deeprelax.tuning.sweep.searcher import StudySearcher
from deeprelax.tuning.sweep.trial import PackConfig, TrialConfig

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


class RecruitingSearcher(StudySearcher):
    """Fills the population from the study, closes it, and begins the next one when all its trials have ended.

    Its ``slots`` are the size of a population. It is closed before if the study has no trial to give now.

    Attributes:
        population: set before the first trial is asked for.
    """

    population: Population

    def suggest(self, trial_id: str) -> TrialConfig | PackConfig | str | None:  # type: ignore[override]  # Tune says dict[Any, Any]
        """Return the next trial of the population, None while it is closed, or FINISHED."""
        if not self.open:
            self.population.renew()
        if self.population.closed and not self.stopping and self.error is None:
            return None
        found = super().suggest(trial_id)
        if isinstance(found, dict):
            opened = self.open[trial_id]  # under a scheduler no trial is in a pack
            self.population.join(trial_id, opened, [*opened.runs])
        self.population.closed = len(self.open) >= self._slots() or (bool(self.open) and self.has_asked_in_vain)
        return found

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Let a trial go however it has ended: the others do not wait for it any more."""
        try:
            self.population.leave(trial_id, result)
        except Exception as unwritten:  # noqa: BLE001 - Tune would bury it; the driver raises it
            self.error = unwritten
        super().on_trial_complete(trial_id, result, error)

    def give_back(self) -> None:
        """Return the trials that are still open, those that wait among them, to the queue."""
        for trial_id in self.open:
            self.population.leave(trial_id)
        super().give_back()


class PopulationScheduler(FIFOScheduler):
    """Pauses the trials of a population until all are there. Its pickled state is empty, like the searcher's.

    Args:
        population: decides.
        searcher: ends the sweep if a decision cannot be carried out.
    """

    def __init__(self, population: Population, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Tune's
        self._population = population
        self._searcher = searcher

    def __getstate__(self) -> dict[str, object]:
        return {}

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: Result) -> str:
        """Let a trial that has paused wait for the others; the last one goes on at once, in its process."""
        if not result.get(PAUSED):
            return str(self.CONTINUE)
        self._population.arrive(trial.trial_id, result)
        self._decide()
        if not self._population.waits(trial.trial_id):
            return str(self.CONTINUE)
        tune_controller.pause_trial(trial, should_checkpoint=False)
        trial.set_config({**trial.config, "resumes": True})
        return str(self.NOOP)

    def choose_trial_to_run(self, tune_controller: TuneController) -> TuneTrial | None:
        """Return a trial that is new, else one that has waited and may go on; none while all wait for others."""
        self._decide()  # the population may have been closed meanwhile, or the trial that was missing has ended
        trials = tune_controller.get_trials()
        ready = [trial for trial in trials if trial.status == TuneTrial.PENDING]
        ready += [
            trial for trial in trials if trial.status == TuneTrial.PAUSED and not self._population.waits(trial.trial_id)
        ]
        return ready[0] if ready else None

    def _decide(self) -> None:
        try:
            self._population.decide()
        except Exception as error:  # noqa: BLE001 - Tune would take it for the trial's; the driver raises it
            self._searcher.error = error
