"""Gives jobs to a crew and keeps the results: each training is done once, and is on disk before it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from nasproxy.training.crew import Crew
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import Evaluation

STEP_SECONDS = 1.0  # that a step waits for a result; after it, the ledger is asked for the work of other processes

Key = tuple[str, str, str]


class Coordinator:
    """Connects a ``crew``, which trains, and a ``ledger``, which stores. Several may share a ledger in a database.

    A job that another coordinator has claimed is left to it, and is taken over when its claim is no longer renewed. In
    a file, which has one writer, nothing is claimed.
    """

    def __init__(self, crew: Crew, ledger: Ledger) -> None:
        self.crew = crew
        self.ledger = ledger
        self._rows: dict[tuple[Key, int], Evaluation] = {}
        self._absent: set[tuple[Key, int]] = set()  # not in a ledger that only this process writes
        self._in_flight: set[Key] = set()

    def evaluations(self, job: Job) -> list[Evaluation] | None:
        """The stored evaluations, one per seed in the order of ``job.seeds``; None while one is missing."""
        rows = [self._row(job.key, seed) for seed in job.seeds]
        return None if None in rows else [row for row in rows if row is not None]

    def step(self, wanted: Iterable[Job]) -> None:
        """Starts jobs of ``wanted``, in order, while the crew is free; then waits for results, and stores them."""
        elsewhere: set[Key] = set()
        jobs = iter(wanted)
        while self.crew.free and (job := next(jobs, None)) is not None:
            busy = any(key in self._in_flight or key in elsewhere for key in job.keys)
            if busy or not self._missing(job):
                continue
            if not self.ledger.local and not self.ledger.claim(*job.key):
                elsewhere.update(job.keys)
                continue
            if missing := self._missing(job):  # another process may have finished it just before the claim
                self._in_flight.update(job.keys)
                self.crew.submit(replace(job, seeds=missing))
            else:
                self._release(job)
        if not self._in_flight and not elsewhere:
            return
        beat = (lambda: None) if self.ledger.local else self.ledger.beat
        for result in self.crew.results(STEP_SECONDS, beat):
            self.ledger.add(*result.evaluations)
            for row in result.evaluations:
                self._rows[(row.candidate, row.score, row.setting), row.seed] = row
            if checkpoint := result.job.checkpoint(self.crew.keep, result.seed):
                checkpoint.unlink(missing_ok=True)
            if result.finished:
                self._in_flight.difference_update(result.job.keys)
                self._release(result.job)

    def finish(self, jobs: Sequence[Job], progress: Callable[[int, int], None] | None = None) -> list[list[Evaluation]]:
        """Does what is missing of ``jobs``, in their order.

        Args:
            progress: is called with (jobs done, jobs in all).

        Returns:
            The evaluations of each job, one per seed.
        """
        answers: dict[int, list[Evaluation]] = {}
        while True:
            for number, job in enumerate(jobs):
                if number not in answers and (rows := self.evaluations(job)) is not None:
                    answers[number] = rows
            if progress is not None:
                progress(len(answers), len(jobs))
            if len(answers) == len(jobs):
                return [answers[number] for number in range(len(jobs))]
            self.step(job for number, job in enumerate(jobs) if number not in answers)

    def _release(self, job: Job) -> None:
        if not self.ledger.local:
            self.ledger.release(*job.key)

    def _missing(self, job: Job) -> tuple[int, ...]:
        return tuple(seed for seed in job.seeds if self._row(job.key, seed) is None)

    def _row(self, key: Key, seed: int) -> Evaluation | None:
        known = self._rows.get((key, seed))
        if known is not None or (key, seed) in self._absent:
            return known
        row = self.ledger.get(*key, seed)
        if row is not None:
            self._rows[key, seed] = row
        elif self.ledger.local:
            self._absent.add((key, seed))
        return row
