import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nasproxy.core.errors import NasproxyError
from nasproxy.search.pruning import Pruner


def finished(pruner, *rungs, number=0, state=TrialState.COMPLETE):
    """A trial that reached these values."""
    trial = create_trial(
        value=rungs[-1] if rungs else 0.0,
        state=state,
        intermediate_values={pruner.step(rung): value for rung, value in enumerate(rungs)},
    )
    trial.number = number
    return trial


def test_halving_lets_the_best_third_of_a_rung_go_on():
    pruner = Pruner("halving", 3)
    known = [finished(pruner, value / 10, number=value) for value in range(8)]  # 0.0 to 0.7
    assert [pruner.ends([value], known) for value in (0.35, 0.45, 0.55, 0.65, 0.75)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_first_of_a_rung_goes_on():
    pruner = Pruner("halving", 3)
    assert not pruner.ends([0.1], [])
    assert not pruner.ends([0.1, 0.2], [finished(pruner, 0.05, number=0)])
    assert pruner.ends([0.1], [finished(pruner, 0.2, number=1)])


def test_every_rung_has_its_own_competitors():
    """Second rung: only those that came so far count, and those were the better ones."""
    pruner = Pruner("halving", 2)
    known = [finished(pruner, 0.1, number=0, state=TrialState.PRUNED)]
    known += [finished(pruner, 0.9, value, number=n) for n, value in enumerate((0.5, 0.6, 0.7), start=1)]
    assert not pruner.ends([0.95, 0.65], known)
    assert pruner.ends([0.95, 0.55], known)


def test_decides_as_optuna_does_in_a_search_one_by_one():
    """Told one after the other, the same trials are pruned as by Optuna's own loop."""
    values = [(37 * k % 23 / 23, 17 * k % 19 / 19) for k in range(40)]
    pruner = Pruner("halving", 3)
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    )
    theirs, ours, known = [], [], []
    for number, rungs in enumerate(values):
        trial = study.ask()
        ended, told = None, None
        for rung, value in enumerate(rungs):
            trial.report(value, 3**rung)
            if ended is None and trial.should_prune():
                ended = rung
                break
        theirs.append(ended)
        study.tell(trial, None if ended is not None else 1.0, state=TrialState.PRUNED if ended is not None else None)
        for rung in range(2):
            if pruner.ends(rungs[: rung + 1], known):
                told = rung
                break
        ours.append(told)
        reached = rungs if told is None else rungs[: told + 1]
        known.append(finished(pruner, *reached, number=number))
    assert ours == theirs
    assert None in ours
    assert {0, 1} <= set(ours)


def test_median_needs_some_that_went_all_the_way():
    pruner = Pruner("median", 3)
    known = [finished(pruner, value, number=n) for n, value in enumerate((0.2, 0.4, 0.6))]
    assert not pruner.ends([0.1], known[:2])
    assert pruner.ends([0.3], known)
    assert not pruner.ends([0.5], known)


def test_an_unknown_pruner_is_refused():
    with pytest.raises(NasproxyError, match="halving"):
        Pruner("halfing", 3)
