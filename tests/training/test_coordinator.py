import pytest
from toy import toy_task

from nasproxy.spaces import load_space
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.jobs import Job, Result
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
        return [Result(job, job.evaluation(seed, Fit(0.5 + seed / 10, 1.0, 0.1)), finished=not seeds)]


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
    ledger.add(job.evaluation(1, Fit(0.9, 1.0, 0.1)))
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
