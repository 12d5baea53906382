import copy
import random

import optuna
import pytest
from optuna.trial import TrialState

from nasproxy.config import SAMPLERS
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import derive_seed
from nasproxy.search.proposals import MAX_REPEATS, Proposer, SpaceExhausted, make_sampler
from nasproxy.spaces import inspect_space, load_space

SPACE = """
name: tiny
network: convnet
parameters:
  width: {range: [1, 40]}
  depth: [1, 2, 4]        # four poolings of 8×8 leave nothing
  activation: [relu, sigmoid]
  dropout: {range: [0.0, 0.5], step: 0.1, when: {depth: [2]}}
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return parts_of(SPACE, tmp_path_factory.mktemp("space"))


def parts_of(text, folder):
    (folder / "space.yaml").write_text(text)
    space = load_space(folder / "space.yaml")
    return space, inspect_space(space, (1, 8, 8), 3)


def accuracy(params):
    return round(0.3 + params["width"] / 100 - 0.01 * params["depth"] + 0.3 * params.get("dropout", 0), 6)


def play(parts, *, trials, pending, sampler="tpe", order=0, restart_every=None):
    """A search whose answers come as late and as disorderly as ``pending`` allows: its trials."""
    space, inspection = parts
    stream = random.Random(order)

    def fresh():
        return Proposer(space, inspection, sampler=sampler, seed=7, pending=pending)

    study = []
    proposer = fresh()
    while len(study) < trials:
        if restart_every and len(study) % restart_every == 0:
            proposer = fresh()
        proposal = proposer.propose(study)
        running = [trial for trial in study if trial.state == TrialState.RUNNING]
        assert len(running) <= pending
        if proposal is not None:
            proposal.number = len(study)
            study.append(proposal)
        if running and (proposal is None or stream.random() < 0.6):
            trial = stream.choice(running)
            failed = trial.params["width"] % 7 == 0
            trial.state = TrialState.FAIL if failed else TrialState.COMPLETE
            trial.values = None if failed else [accuracy(trial.params)]
    return study


def params_of(study):
    return [trial.params for trial in study]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_do_not_depend_on_when_answers_come(parts, sampler):
    trials = 24 if sampler == "gp" else 40
    first = params_of(play(parts, trials=trials, pending=6, sampler=sampler))
    assert all(params_of(play(parts, trials=trials, pending=6, sampler=sampler, order=n)) == first for n in (1, 2))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_do_not_depend_on_interruptions(parts, sampler):
    trials = 24 if sampler == "gp" else 40
    whole = params_of(play(parts, trials=trials, pending=4, sampler=sampler))
    assert params_of(play(parts, trials=trials, pending=4, sampler=sampler, restart_every=1)) == whole


@pytest.mark.slow
def test_nsga2_selects_the_same_parents_after_an_interruption(parts):
    """Its generations have 50 trials, so only a longer search has parents at all."""
    whole = params_of(play(parts, trials=180, pending=5, sampler="nsga2"))
    assert params_of(play(parts, trials=180, pending=5, sampler="nsga2", restart_every=13, order=3)) == whole


def test_with_one_pending_the_sampler_sees_all_answers(parts):
    """As Optuna's own loop does, with the same seeds."""
    space, inspection = parts
    ours = play(parts, trials=25, pending=1)
    study = optuna.create_study(direction="maximize")
    for number in range(25):
        study.sampler = make_sampler("tpe", derive_seed(7, "sampler", number))
        trial = study.ask()
        candidate = space.suggest(trial)
        if inspection.reason(candidate) is not None:
            study.tell(trial, state=TrialState.PRUNED)
        elif candidate.params["width"] % 7 == 0:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, accuracy(candidate.params))
    assert params_of(study.trials) == params_of(ours)


def test_what_cannot_be_built_is_pruned_with_its_reason(parts):
    study = play(parts, trials=30, pending=3)
    pruned = [trial for trial in study if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(trial.params["depth"] == 4 for trial in pruned)
    assert all("poolings" in trial.user_attrs["reason"] for trial in pruned)


@pytest.mark.parametrize("sampler", ["brute-force", "random", "tpe"])
def test_every_candidate_is_found_and_then_the_space_is_exhausted(tmp_path, sampler):
    text = "name: few\nnetwork: convnet\nparameters: {width: [1, 2, 3], depth: [1, 2, 4]}\n"
    parts = parts_of(text, tmp_path)
    proposer = Proposer(*parts, sampler=sampler, seed=0, pending=1)
    study = []

    def go_on():
        while len(study) < 9 * (MAX_REPEATS + 3):
            trial = proposer.propose(study)
            trial.number = len(study)
            if trial.state == TrialState.RUNNING:
                trial.state, trial.values = TrialState.COMPLETE, [0.5]
            study.append(trial)

    with pytest.raises(SpaceExhausted):
        go_on()
    assert len(proposer.known) == 6
    if sampler == "brute-force":
        assert len(study) == 6


def test_brute_force_goes_in_random_order_and_each_seed_has_its_own(parts):
    def order(seed):
        proposer = Proposer(*parts, sampler="brute-force", seed=seed, pending=100)
        study = []
        for number in range(20):
            study.append(proposer.propose(study))
            study[-1].number = number
        return params_of(study)

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert len({trial["width"] for trial in order(0)}) > 5


def test_a_proposal_is_complete(parts):
    """It is written in one piece: a process that ends leaves no trial with half of its parameters."""
    space, inspection = parts
    proposal = Proposer(space, inspection, sampler="tpe", seed=0, pending=1).propose([])
    assert space.candidate(proposal.params).id == proposal.user_attrs["candidate"]
    study = optuna.create_study()
    study.add_trial(copy.deepcopy(proposal))
    assert study.trials[0].state == TrialState.RUNNING
    assert study.trials[0].params == proposal.params


def test_unknown_sampler():
    with pytest.raises(NasproxyError, match="'tpe'"):
        make_sampler("tep", 0)
