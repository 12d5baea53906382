from dataclasses import replace

import pytest
from toy import toy_dataset, toy_task

from nasproxy.scores.measuring import minibatch_task, shared
from nasproxy.spaces import load_space
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import hire
from nasproxy.training.jobs import Job
from nasproxy.training.ledger import Ledger
from nasproxy.training.results import Fit


class Fake:
    """A crew that answers the latest job first, one seed at a time."""

    keep = None

    def __init__(self, size=2):
        self.size = size
        self.jobs = []
        self.trained = []

    @property
    def free(self):
        return self.size - len(self.jobs)

    def submit(self, job):
        assert self.free > 0
        self.jobs.append([job, list(job.seeds)])

    def results(self, timeout, beat):
        job, seeds = self.jobs[-1]
        seed = seeds.pop(0)
        if not seeds:
            self.jobs.pop()
        self.trained.append((job.candidate, seed))
        scores = (job.task.score, *job.task.others)
        return [job.result(seed, dict.fromkeys(scores, Fit(0.5 + seed / 10, 1.0, 0.1)), finished=not seeds)]


@pytest.fixture
def ledger(tmp_path):
    found = Ledger(tmp_path / "e.sqlite")
    yield found
    found.close()


def jobs_of(count, seeds=(0,)):
    space, task = load_space("convnet_small"), toy_task()
    candidates = list(space.enumerate())[:count]
    return [Job(task, space, candidate.id, candidate.params, tuple(seeds)) for candidate in candidates]


def test_answers_come_in_the_order_of_the_jobs_and_seeds(ledger):
    jobs, seen = jobs_of(5, seeds=(2, 0, 1)), []
    rows = Coordinator(Fake(), ledger).finish(jobs, lambda done, total: seen.append((done, total)))
    assert [[row.candidate for row in own] for own in rows] == [[job.candidate] * 3 for job in jobs]
    assert [[row.seed for row in own] for own in rows] == [[2, 0, 1]] * 5
    assert seen[0] == (0, 5)
    assert seen[-1] == (5, 5)


def test_nothing_is_trained_twice(ledger):
    crew, jobs = Fake(), jobs_of(4)
    first = Coordinator(crew, ledger).finish(jobs[:2])
    again = Coordinator(crew, ledger).finish([*jobs, jobs[0]])  # the same job twice, too
    assert again[:2] == first
    assert sorted(crew.trained) == sorted((job.candidate, 0) for job in jobs)


def test_only_missing_seeds_are_trained(ledger):
    crew = Fake()
    (job,) = jobs_of(1, seeds=(0, 1, 2))
    (row,) = job.result(1, {job.task.score: Fit(0.9, 1.0, 0.1)}, finished=True).evaluations
    ledger.add(row)
    (rows,) = Coordinator(crew, ledger).finish([job])
    assert [seed for _, seed in crew.trained] == [0, 2]
    assert [row.value for row in rows] == [0.5, 0.9, 0.7]


def test_it_is_on_disk_before_it_counts(ledger, tmp_path):
    (job,) = jobs_of(1)
    coordinator = Coordinator(Fake(), ledger)
    assert coordinator.evaluations(job) is None
    coordinator.step([job])
    other = Ledger(tmp_path / "e.sqlite")
    assert other.get(*job.key, 0) == coordinator.evaluations(job)[0]
    other.close()


def test_with_nothing_to_do_it_does_not_wait(ledger):
    crew = Fake()
    crew.results = lambda *_: pytest.fail("waited for nothing")
    Coordinator(crew, ledger).step([])


def free_score_jobs(count):
    """Of ``count`` candidates: three scores that share passes, and one that does not."""
    space, dataset = load_space("convnet_small"), toy_dataset()
    tasks = shared([minibatch_task(name, dataset, 0) for name in ("synflow", "swap", "naswot", "fisher")])
    assert [task.others for task in tasks] == [(), ("naswot", "fisher"), (), ()]
    some = list(space.enumerate())[:count]
    return [Job(task, space, candidate.id, candidate.params, (0,)) for candidate in some for task in tasks]


@pytest.mark.parametrize("size", [1, 2, 8])
def test_scores_that_share_passes_are_one_job(ledger, size):
    crew, jobs = Fake(size), free_score_jobs(3)
    rows = Coordinator(crew, ledger).finish(jobs)
    assert [(row.candidate, row.score) for (row,) in rows] == [(job.candidate, job.task.score) for job in jobs]
    assert len(crew.trained) == 6
    assert [ledger.get(*job.key, 0) for job in jobs] == [row for (row,) in rows]


def test_only_a_score_that_is_missing_is_measured_again(ledger):
    crew, jobs = Fake(), free_score_jobs(1)
    alone = replace(jobs[1], task=replace(jobs[1].task, others=()))
    (row,) = alone.result(0, {"swap": Fit(1.0, None, 0.1)}, finished=True).evaluations
    ledger.add(row)  # as by a version that measured every score alone
    Coordinator(crew, ledger).finish(jobs)
    assert len(crew.trained) == 3


def test_workers_give_the_scores_that_share_passes(ledger, cpu, tmp_path):
    with hire(1, cpu.device) as one:
        expected = Coordinator(one, ledger).finish(free_score_jobs(2))
    other = Ledger(tmp_path / "other.sqlite")
    with hire(2, cpu.device) as two:
        found = Coordinator(two, other).finish(free_score_jobs(2))
    other.close()
    assert [row.value for (row,) in found] == [row.value for (row,) in expected]
