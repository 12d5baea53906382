"""Spaces: what a YAML file spans, which mistakes are reported where, and what can be built for which data."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from toy import slow_but

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import nasbench201, num_params, seeded
from nasproxy.spaces import SearchSpace, inspect_space, load_space, num_flops, shipped_spaces
from nasproxy.spaces.parameter import Parameter, text_of
from nasproxy.spaces.yaml_reader import _shipped_folder

HEAD = "name: s\nnetwork: convnet\nparameters:\n"
CONDITIONAL = HEAD + (
    "  depth: [1, 2, 3, 4]\n"
    "  dropout: {range: [0.0, 0.5], step: 0.1, when: {depth: [3, 4]}}\n"
    "  pooling: {choices: [max, avg], when: {dropout: 0.3}}\n"
)
CONDITIONAL_SIZE = 2 + 2 * (5 + 2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(folder: Path, text: str, name: str = "space.yaml") -> SearchSpace:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_space(path)


def candidates_of(space: SearchSpace) -> list[str]:
    return [json.dumps(candidate.params) for candidate in space.enumerate()]


# --------------------------------------------------------------------------------------------------- what a space spans


def test_every_form_of_a_parameter(tmp_path):
    space = load(
        tmp_path,
        HEAD + "  width: {range: [8, 24], step: 8}\n  depth: {range: [1, 4], log: true}\n  dropout: {range: [0, 1.0]}\n"
        "  activation: relu\n  norm: [none, 'group']\n  pooling: {choices: [max]}\nlimits: {max_params: 5_000_000}\n",
    )
    width, depth, dropout, norm, pooling = space.parameters
    assert [width.domain[k] for k in range(len(width.domain))] == [8, 16, 24]
    assert (depth.domain.low, depth.domain.high, depth.domain.log, depth.domain.step) == (1, 4, True, 1)
    assert dropout.continuous
    assert isinstance(dropout.domain.low, float)
    assert norm.domain == ("none", "group")
    assert pooling.domain == ("max",)
    assert space.constants == {"activation": "relu"}
    assert (space.limits.max_params, space.limits.max_flops) == (5_000_000, None)
    assert space.size() is None


def test_yaml_1_2_keeps_no_as_text_and_012_as_twelve(tmp_path):
    (tmp_path / "n.py").write_text("def f(input_shape, num_classes, *, a): ...\n")
    space = load(tmp_path, HEAD.replace("convnet", "n.py:f") + "  a: [no, 012, 1e-3, true, null, '2', 2]\n")
    assert space.parameters[0].domain == ("no", 12, 0.001, True, None, "2", 2)
    assert space.size() == len({candidate.id for candidate in space.enumerate()}) == 7


def test_float_steps_are_the_numbers_a_person_writes(tmp_path):
    space = load(tmp_path, HEAD + "  dropout: {range: [0.0, 0.7], step: 0.1}\n")
    assert [c.params["dropout"] for c in space.enumerate()] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert space.candidate({"dropout": 0.1 + 0.2}) == space.candidate({"dropout": 0.3})


def test_conditions_span_exactly_the_assignments_that_differ(tmp_path):
    space = load(tmp_path, CONDITIONAL)
    names = [tuple(candidate.params) for candidate in space.enumerate()]
    assert space.size() == len(names) == len(set(candidates_of(space))) == CONDITIONAL_SIZE
    assert names[:2] == [("depth",), ("depth",)]
    assert Counter(map(len, names)) == {1: 2, 2: 10, 3: 4}


def test_children_may_be_declared_before_parents_and_depend_on_constants(tmp_path):
    space = load(
        tmp_path,
        HEAD + "  dropout: {choices: [0.1, 0.2], when: {depth: 2, pooling: max}}\n  depth: [1, 2]\n  pooling: max\n"
        "  norm: {choices: [group, batch], when: {width: 64}}\n  width: {range: [32, 96], step: 32}\n",
    )
    assert [p.name for p in space.parameters] == ["depth", "dropout", "width", "norm"]
    assert space.size() == 3 * 4 == len(set(candidates_of(space)))


def test_an_enormous_space_has_a_size_and_a_sample(tmp_path):
    (tmp_path / "n.py").write_text("def f(input_shape, num_classes, **options): ...\n")
    lines = "".join(f"  p{k}: {{range: [1, 1000000]}}\n" for k in range(8))
    lines += "".join(f"  c{k}: [1, 2, 3]\n  d{k}: {{choices: [1, 2], when: {{c{k}: 1}}}}\n" for k in range(40))
    space = load(tmp_path, HEAD.replace("convnet", "n.py:f") + lines)
    assert space.size() == 10**48 * 4**40
    assert len({space.sample(np.random.default_rng(seed)).id for seed in range(50)}) == 50


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_spaces_enumerate_their_size_and_sample_inside(tmp_path, data):
    (tmp_path / "n.py").write_text("def f(input_shape, num_classes, **options): ...\n")
    values = {}
    text = HEAD.replace("convnet", "n.py:f")
    for k in range(data.draw(st.integers(1, 5))):
        values[f"p{k}"] = list(range(data.draw(st.integers(1, 4))))
        domain = f"choices: {values[f'p{k}']}"
        if data.draw(st.booleans()):
            values[f"p{k}"] = [v * 0.25 for v in range(len(values[f"p{k}"]) + 1)]
            domain = f"range: [0.0, {values[f'p{k}'][-1]}], step: 0.25"
        parents = data.draw(st.lists(st.integers(0, k - 1), max_size=2, unique=True)) if k else []
        conditions = {f"p{p}": data.draw(st.sets(st.sampled_from(values[f"p{p}"]), min_size=1)) for p in parents}
        when = ", ".join(f"{parent}: {sorted(allowed)}" for parent, allowed in conditions.items())
        text += f"  p{k}: {{{domain}{', when: {' + when + '}' if when else ''}}}\n"
    space = load(tmp_path, text)
    found = candidates_of(space)
    assert len(found) == len(set(found)) == space.size()
    assert [json.dumps(space.at(index).params) for index in range(len(found))] == list(found)
    rng = np.random.default_rng(0)
    for _ in range(20):
        candidate = space.sample(rng)
        assert json.dumps(candidate.params) in found
        assert space.candidate(candidate.params) == candidate


def test_sample_is_uniform_over_distinct_assignments(tmp_path):
    from scipy.stats import chisquare

    space = load(tmp_path, CONDITIONAL)
    rng = np.random.default_rng(0)
    counts = Counter(json.dumps(space.sample(rng).params) for _ in range(8000))
    assert len(counts) == CONDITIONAL_SIZE
    assert chisquare(list(counts.values())).pvalue > 0.01
    # Drawing the parent uniformly would give depth 1 a quarter of the draws, and not a sixteenth.
    assert abs(counts['{"depth": 1}'] / 8000 - 1 / CONDITIONAL_SIZE) < 0.01


def test_infinite_spaces_are_sampled_parameter_by_parameter(tmp_path):
    space = load(
        tmp_path,
        HEAD + "  dropout: {range: [0.001, 1], log: true, when: {depth: 1}}\n  depth: [1, 2]\n"
        "  width: {range: [1, 100], log: true}\n",
    )
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng).params for _ in range(4000)]
    rates = [params["dropout"] for params in drawn if "dropout" in params]
    assert all(0.001 <= rate <= 1 for rate in rates)
    assert abs(len(rates) / 4000 - 0.5) < 0.03
    assert abs(np.mean(np.log10(rates)) - -1.5) < 0.06
    assert {params["width"] for params in drawn} >= {1, 100}
    assert 0.4 < np.mean([params["width"] <= 10 for params in drawn]) < 0.65
    with pytest.raises(NasproxyError, match=r"'dropout' of 's' is the continuous range 0.001 to 1.0 \(log\)"):
        space.enumerate()


def test_the_same_seed_draws_the_same_candidates(tmp_path):
    space = load(tmp_path, CONDITIONAL)
    first, second = ([space.sample(rng).id for _ in range(9)] for rng in map(np.random.default_rng, (3, 3)))
    assert first == second
    assert len(set(first)) > 1


# ------------------------------------------------------------------------------------------------------------- Optuna


@pytest.mark.parametrize("text", [CONDITIONAL, None])
def test_brute_force_finds_every_candidate_once(tmp_path, text):
    space = load_space("convnet_small") if text is None else load(tmp_path, text)
    found = []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=optuna.samplers.BruteForceSampler(seed=0))
    limit = 60 if text is None else 10_000  # the small grid would take long; nothing may repeat in its first 60
    study.optimize(lambda trial: found.append(space.suggest(trial)) or 0.0, n_trials=limit)
    assert len({candidate.id for candidate in found}) == len(found) == min(limit, space.size())
    assert {json.dumps(candidate.params) for candidate in found} <= set(candidates_of(space))


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler(seed=0), optuna.samplers.RandomSampler(seed=0)])
def test_samplers_stay_inside_and_trials_can_be_read_back(tmp_path, sampler):
    space = load(
        tmp_path,
        CONDITIONAL + "  width: {range: [8, 512], log: true}\n  activation: {choices: [relu, sigmoid], when: "
        "{depth: 2}}\n",
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, storage="sqlite://")
    ids = []
    study.optimize(lambda trial: ids.append(space.suggest(trial).id) or float(len(ids)), n_trials=25)
    assert ids == [space.candidate(trial.params).id for trial in study.trials]
    assert all(trial.params["width"] in range(8, 513) for trial in study.trials)


def test_suggest_asks_for_active_parameters_only(tmp_path):
    space = load(tmp_path, CONDITIONAL)
    trial = optuna.trial.FixedTrial({"depth": 1, "dropout": 0.3, "pooling": "max"})
    assert space.suggest(trial).params == {"depth": 1}
    assert list(trial.distributions) == ["depth"]
    trial = optuna.trial.FixedTrial({"depth": 4, "dropout": 0.30000000000000004, "pooling": "max"})
    assert space.suggest(trial).params == {"depth": 4, "dropout": 0.3, "pooling": "max"}


def test_each_parameter_is_checked_once(tmp_path, monkeypatch):
    """Where a candidate is suggested or built from parameters; never where the space itself made it."""
    space = load(tmp_path, CONDITIONAL)
    checked, member = Counter(), Parameter.member
    monkeypatch.setattr(
        Parameter, "member", lambda parameter, value: checked.update([parameter.name]) or member(parameter, value)
    )
    params = {"depth": 4, "dropout": 0.3, "pooling": "max"}
    candidate = space.suggest(optuna.trial.FixedTrial(params))
    assert checked == dict.fromkeys(params, 1)
    checked.clear()
    seeded(lambda: space.build(params, (1, 16, 16), 7), 0)
    assert checked == dict.fromkeys(params, 1)
    checked.clear()
    seeded(lambda: space.build_candidate(candidate, (1, 16, 16), 7), 0)
    inspect_space(space, (1, 16, 16), 7)
    assert not checked


def test_a_trial_with_a_value_outside_the_space_is_refused(tmp_path):
    space = load(tmp_path, "name: s\nnetwork: convnet\nparameters:\n  width: {range: [4, 8]}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns, and takes the value
        with pytest.raises(NasproxyError, match="'width' is one of 4 to 8, but the trial has 9"):
            space.suggest(optuna.trial.FixedTrial({"width": 9}))


# --------------------------------------------------------------------------------------------------------- candidates


def test_candidate_drops_what_is_inactive_and_keeps_the_order_of_the_space(tmp_path):
    space = load(tmp_path, CONDITIONAL)
    assert space.candidate({"pooling": "avg", "dropout": 0.1, "depth": np.int64(3)}).params == {
        "depth": 3,
        "dropout": 0.1,
    }
    assert space.candidate({"depth": 1.0, "dropout": 99}).label == "depth=1"
    assert {space.candidate({"depth": 1}), space.candidate({"depth": 1, "pooling": "max"})} == {
        space.candidate({"depth": 1})
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dept": 1}, "Unknown parameter of space 's' 'dept'. Did you mean 'depth'?"),
        ({"depth": 5}, "'depth' of space 's' is one of 1, 2, 3, 4, but got 5"),
        ({"depth": True}, "one of 1, 2, 3, 4, but got true"),
        ({"depth": "1"}, "one of 1, 2, 3, 4, but got 1"),
        ({"depth": 3, "dropout": 0.15}, "one of 0.0 to 0.5 in steps of 0.1, but got 0.15"),
        ({"depth": 3, "dropout": float("nan")}, "but got NaN"),
        ({"depth": 3, "dropout": -0.1}, "but got -0.1"),
        ({"depth": 3, "dropout": False}, "but got false"),
        ({"depth": 3}, "needs 'dropout' (0.0 to 0.5 in steps of 0.1), but got only depth"),
        ({"depth": 3, "dropout": 0.3, "pooling": "maxx"}, "max, avg, but got maxx. Did you mean 'max'?"),
        ({}, "but got only nothing"),
        ({"depth": [1]}, "Values of 'depth' are text, numbers, true/false or null, but got [1]"),
        ({"depth": 1, "norm": "batch"}, "fixes norm=group, but got norm=batch"),
    ],
)
def test_candidate_refuses_what_the_space_does_not_have(tmp_path, params, message):
    space = load(tmp_path, CONDITIONAL + "  norm: group\n")
    with pytest.raises(NasproxyError, match=re.escape(message)):
        space.candidate(params)


def test_rows_of_a_table_are_text(tmp_path):
    space = load(tmp_path, CONDITIONAL)
    assert space.parse_candidate({"depth": "4", "dropout": "0.30", "pooling": "max"}).params == {
        "depth": 4,
        "dropout": 0.3,
        "pooling": "max",
    }
    assert space.parse_candidate({"depth": "1.0", "pooling": "?"}).params == {"depth": 1}
    with pytest.raises(NasproxyError, match="but got four"):
        space.parse_candidate({"depth": "four"})


def test_a_default_left_out_and_spelled_out_are_one_architecture(tmp_path):
    bare = load(tmp_path, HEAD + "  depth: [2, 3]\n", "a.yaml")
    full = load(
        tmp_path,
        HEAD.replace("name: s", "name: t") + "  depth: {range: [1, 4]}\n  dropout: [0, 0.5]\n  width: 128\n"
        "  norm: instance\n",
        "b.yaml",
    )
    assert bare.candidate({"depth": 3}).id == full.candidate({"depth": 3, "dropout": 0}).id
    assert re.fullmatch("[0-9a-f]{12}", bare.candidate({"depth": 3}).id)
    ids = [bare.candidate({"depth": 3}).id, bare.candidate({"depth": 2}).id]
    ids.append(full.candidate({"depth": 3, "dropout": 0.5}).id)
    ids.append(load(tmp_path, HEAD + "  depth: [3]\n  norm: batch\n", "c.yaml").candidate({"depth": 3}).id)
    mlp = load(tmp_path, "name: m\nnetwork: mlp\nparameters: {depth: [3]}\n", "d.yaml")
    ids.append(mlp.candidate({"depth": 3}).id)
    assert len(set(ids)) == 5


def test_build_calls_the_family_with_constants_and_parameters(tmp_path):
    space = load(tmp_path, CONDITIONAL + "  width: 8\n")
    net = seeded(lambda: space.build({"depth": 3, "dropout": 0.3, "pooling": "max"}, (1, 16, 16), 7), 0).eval()
    assert net(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in net) == 3
    assert sum(isinstance(layer, torch.nn.Dropout) and layer.p == 0.3 for layer in net) == 1
    with pytest.raises(NasproxyError, match="but got 9"):
        space.build({"depth": 9}, (1, 16, 16), 7)


# --------------------------------------------------------------------------------------------------------------- hash


def test_the_hash_covers_the_content_and_nothing_else(tmp_path):
    base = load(tmp_path, CONDITIONAL + "limits: {max_params: 100, max_flops: 9}\n")
    (tmp_path / "other").mkdir()
    same = load(
        tmp_path / "other",
        "# a comment\nlimits:\n  max_flops: 9\n  max_params: 1e2\nparameters:\n"
        "  pooling: {when: {dropout: [0.3]}, choices: [max, avg]}\n  depth: [1, 2, 3, 4.0]\n"
        "  dropout: {when: {depth: [4, 3]}, step: 0.1, range: [0.0, 0.5]}\nnetwork: 'convnet'\nname: s\n",
        "moved.yaml",
    )
    assert same.hash == base.hash
    assert re.fullmatch("[0-9a-f]{64}", base.hash)
    for old, new in [
        ("[1, 2, 3, 4]", "[1, 2, 4, 3]"),  # a study's choices are ordered
        ("0.5]", "0.6]"),
        ("depth: [3, 4]", "depth: 3"),
        ("name: s", "name: t"),
        ("[max, avg]", "[max]"),
    ]:
        assert old in CONDITIONAL
        changed = load(tmp_path, CONDITIONAL.replace(old, new) + "limits: {max_params: 100, max_flops: 9}\n")
        assert changed.hash != base.hash
    assert load(tmp_path, CONDITIONAL).hash != base.hash
    ints, floats = HEAD + "  dropout: {range: [0, 1]}\n", HEAD + "  dropout: {range: [0.0, 1.0], step: 1}\n"
    assert load(tmp_path, ints).hash != load(tmp_path, floats).hash


def test_the_hash_is_the_same_in_another_process():
    code = "from nasproxy.spaces import load_space as l; s = l('convnet_space'); print(s.hash, next(s.enumerate()).id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    space = load_space("convnet_space")
    assert done.stdout.split() == [space.hash, next(space.enumerate()).id]


# ----------------------------------------------------------------------------------------------------------- mistakes

P = "  depth: [1, 2]\n"  # a sound line 4, so that the mistakes below stand alone on line 5

MISTAKES = [
    # the file as a whole
    ("", 1, 1, "the file is empty"),
    ("# nothing\n", 1, 1, "the file is empty"),
    ("- a\n", 1, 1, "a space must be a mapping of names to values, but got a list"),
    ("hello\n", 1, 1, "but got 'hello'"),
    ("name: s\nnetwork: [\n", 3, 1, "This is no YAML: expected the node content, but found '<stream end>'"),
    ("name: s\n  b: 2\n", 2, 4, "This is no YAML: mapping values are not allowed here"),
    ("name: s\nb: *x\n", 2, 4, "undefined alias 'x'"),
    ("name: s\n---\nname: t\n", 2, 1, "another document"),
    ("name: s\nb: \x07\n", 2, 4, "character '\\x07'"),
    # keys of the space
    ("name: s\nnetwork: convnet\n", 1, 1, "The key 'parameters' is missing"),
    ("network: convnet\nparameters:\n" + P, 1, 1, "The key 'name' is missing"),
    (HEAD + P + "limit: {max_params: 3}\n", 5, 1, "Unknown key of a space 'limit'. Did you mean 'limits'?"),
    (HEAD + P + "name: t\n", 5, 1, "Duplicate key 'name' in a space: it is already on line 1"),
    (HEAD.replace("s\n", "3\n", 1) + P, 1, 7, "The name must be text, but got 3"),
    (HEAD.replace("s\n", "\n", 1) + P, 1, 1, "The name must be text, a number, true/false or null, but got nothing"),
    ("name: s\nnetwork: convnet\nparameters: []\n", 3, 13, "parameters must be a mapping"),
    ("name: s\nnetwork: convnet\nparameters: {}\n", 3, 13, "parameters must name at least one parameter"),
    (HEAD + P + "limits: {max_params: 0}\n", 5, 22, "max_params must be an integer >= 1, but got 0"),
    (HEAD + P + "limits: {max_params: 1.5}\n", 5, 22, "but got 1.5"),
    (HEAD + P + "limits: {max_parms: 5}\n", 5, 10, "Unknown key of limits 'max_parms'. Did you mean 'max_params'?"),
    # the network
    (HEAD.replace("convnet", "convnt") + P, 2, 10, "Unknown network 'convnt'. Did you mean 'convnet'?"),
    (HEAD.replace("convnet", "absent.py:f") + P, 2, 10, "'absent.py' is not in"),
    (HEAD.replace("convnet", "nets.py") + P, 2, 10, "Or name your own function: file.py:function"),
    (HEAD.replace("convnet", "nets.py:bild") + P, 2, 10, "has no function 'bild'. Did you mean 'build'?"),
    (HEAD.replace("convnet", "broken.py:f") + P, 2, 10, "failed: ModuleNotFoundError: No module named 'not_there'"),
    (HEAD.replace("convnet", "exits.py:f") + P, 2, 10, "failed: SystemExit: 0"),
    (HEAD.replace("convnet", "syntax.py:f") + P, 2, 10, "failed: SyntaxError: "),
    (HEAD.replace("convnet", "nets.py:build") + P, 2, 10, "needs 'size', but parameters has none"),
    (HEAD.replace("convnet", "nets.py:no_shape") + P, 2, 10, "must take (input_shape, num_classes, **options)"),
    (
        HEAD.replace("convnet", "nets.py:build") + P + "  size: {choices: [1], when: {depth: 1}}\n",
        5,
        3,
        "always needs 'size', so it can have no when",
    ),
    (HEAD + P + "  num_classes: [10]\n", 5, 3, "'num_classes' comes from the data set"),
    (HEAD + P + "  widht: [8]\n", 5, 3, "takes no 'widht'. Did you mean 'width'?"),
    # parameters
    (HEAD + P + "  3: [8]\n", 5, 3, "Keys of parameters must be text, but got '3'"),
    (HEAD + P + "  depth: [8]\n", 5, 3, "Duplicate key 'depth' in parameters: it is already on line 4"),
    (HEAD + P + "  width: []\n", 5, 10, "The list of 'width' must hold at least one value"),
    (HEAD + P + "  width:\n", 5, 3, "The constant 'width' must be text, a number, true/false or null, but got nothing"),
    (HEAD + P + "  width: [8, 16, 8.0]\n", 5, 18, "Duplicate choice 8.0 of 'width'"),
    (HEAD + P + "  width: [1, true]\n", 5, 14, "'width' mixes 1 and true"),
    (HEAD + P + "  width: [8, [16]]\n", 5, 14, "A choice of 'width' must be text, a number, true/false or null"),
    (HEAD + P + "  width: [2020-01-01]\n", 5, 11, "but got '2020-01-01'; quote it"),
    (HEAD + P + "  width: [.nan]\n", 5, 11, "A choice of 'width' must be finite, but got .nan"),
    (HEAD + P + "  width: !!int abc\n", 5, 10, "a value of its tag !!int, but got 'abc'"),
    (HEAD + P + "  width: !what [1]\n", 5, 10, "but got the tag !what"),
    (HEAD + P + "  width: &a [*a]\n", 5, 10, "A choice of 'width' must be text"),
    (HEAD + P + "  width: {}\n", 5, 3, "'width' needs either range or choices, but got neither"),
    (HEAD + P + "  width: {range: [1, 2], choices: [1]}\n", 5, 3, "but got both"),
    (HEAD + P + "  width: {rnge: [1, 2]}\n", 5, 11, "Unknown key of parameter 'width' 'rnge'. Did you mean 'range'?"),
    (HEAD + P + "  width: {choices: 8}\n", 5, 20, "The choices of 'width' must be a list, but got '8'"),
    (HEAD + P + "  width: {choices: [8], step: 2}\n", 5, 25, "'step' belongs to a range, but 'width' has choices"),
    (HEAD + P + "  width: {range: [8]}\n", 5, 18, "must be two numbers, [low, high], but got [8]"),
    (HEAD + P + "  width: {range: 8}\n", 5, 18, "must be two numbers, [low, high], but got '8'"),
    (HEAD + P + "  width: {range: [1, true]}\n", 5, 18, "but got [1, true]"),
    (HEAD + P + "  width: {range: [8, 8]}\n", 5, 18, "low < high must hold for the range of 'width', but got [8, 8]"),
    (HEAD + P + "  width: {range: [9, 8]}\n", 5, 18, "but got [9, 8]"),
    (HEAD + P + "  width: {range: [0, 8], log: true}\n", 5, 18, "low > 0 must hold for the log range of 'width'"),
    (HEAD + P + "  width: {range: [1, 8], log: 1}\n", 5, 31, "The log of 'width' must be true or false, but got 1"),
    (HEAD + P + "  width: {range: [1, 8], log: true, step: 1}\n", 5, 26, "exclude each other"),
    (HEAD + P + "  width: {range: [1, 8], step: 2}\n", 5, 32, "must divide its range 1 to 8, but got step 2"),
    (HEAD + P + "  dropout: {range: [0.0, 0.5], step: 0.2}\n", 5, 38, "0.0 to 0.5, but got step 0.2"),
    (HEAD + P + "  width: {range: [1, 8], step: 0}\n", 5, 32, "must be a number > 0, but got 0"),
    (HEAD + P + "  width: {range: [1, 8], step: two}\n", 5, 32, "must be a number > 0, but got two"),
    (HEAD + P + "  width: {range: [0, 1], step: 0.1}\n", 5, 32, "must be an integer, as both ends are, but got 0.1"),
    (HEAD + P + "  width: {range: [1, 99999999999999999]}\n", 5, 18, "may be 2^53 at most"),
    (HEAD + P + "  dropout: {range: [0.0, 1.0], step: 1e-300}\n", 5, 38, "may have 2^53 steps at most"),
    # conditions
    (HEAD + P + "  width: {choices: [8], when: {dpth: 1}}\n", 5, 32, "'dpth'. Did you mean 'depth'?"),
    (HEAD + P + "  width: {choices: [8], when: {depth: 3}}\n", 5, 39, "'depth' is never 3. Its values: 1, 2"),
    (HEAD + P + "  width: {choices: [8], when: {depth: [1, true]}}\n", 5, 43, "'depth' is never true"),
    (HEAD + P + "  width: {choices: [8], when: {depth: []}}\n", 5, 39, "values of 'depth' in when must not be empty"),
    (HEAD + P + "  width: {choices: [8], when: {}}\n", 5, 31, "when of 'width' must name at least one parameter"),
    (HEAD + P + "  width: {choices: [8], when: depth}\n", 5, 31, "when of 'width' must be a mapping"),
    (HEAD + P + "  width: {choices: [8], when: {width: 8}}\n", 5, 32, "form a cycle, but got width → width"),
    (
        HEAD + "  width: {choices: [8], when: {depth: 1}}\n  depth: {choices: [1], when: {width: 8}}\n",
        5,
        32,
        "form a cycle, but got width → depth → width",
    ),
    (
        HEAD + "  dropout: {range: [0.0, 1.0]}\n  width: {choices: [8], when: {dropout: 0.5}}\n",
        5,
        32,
        "a finite parent, but 'dropout' is a continuous range",
    ),
    (
        HEAD + "  depth: {range: [1, 5000]}\n  width: {choices: [8], when: {depth: 5}}\n",
        5,
        32,
        "at most 1000 values, but 'depth' has 5000",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), MISTAKES)
def test_a_mistake_is_reported_once_where_it_is(tmp_path, text, line, column, message):
    (tmp_path / "nets.py").write_text(
        "def build(input_shape, num_classes, size, *, depth=1): ...\ndef no_shape(*, depth=1): ...\n"
    )
    (tmp_path / "broken.py").write_text("import not_there\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    with pytest.raises(NasproxyError) as caught:
        load(tmp_path, text)
    expected = f"{tmp_path / 'space.yaml'}:{line}:{column}: "
    lines = str(caught.value).splitlines()
    assert any(found.startswith(expected) and message.lower() in found.lower() for found in lines), lines
    others = [found for found in lines if "is missing" not in found and not found.startswith(expected)]
    assert not others
    assert not any(name.startswith("nasproxy_user_") and "broken" in str(m) for name, m in sys.modules.items())


def test_every_mistake_is_reported_at_once_in_order(tmp_path):
    text = (
        "nmae: s\nnetwork: convnet\nparameters:\n  depth: []\n  widht: [1]\n"
        "  norm: {choices: [batch, batch], when: {depht: 1}}\nlimits: {max_params: x}\n"
    )
    with pytest.raises(NasproxyError) as caught:
        load(tmp_path, text)
    where = re.findall(r"space\.yaml:(\d+:\d+): ", str(caught.value))
    assert where == ["1:1", "1:1", "4:10", "5:3", "6:27", "6:42", "7:22"]


def test_a_byte_that_is_not_utf_8_is_located(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: s\nnetwork: convnet # ü".encode("latin-1"))
    with pytest.raises(NasproxyError, match=r"latin\.yaml:2:20: .*byte 0xfc"):
        load_space(path)
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + P).encode())
    assert load_space(path).size() == 2


def test_deep_nesting_is_no_crash(tmp_path):
    with pytest.raises(NasproxyError, match=r"space\.yaml:\d+:\d+: "):
        load(tmp_path, "name: " + "[" * 1500)


# ------------------------------------------------------------------------------------------------------ user's networks

USER = """
import dataclasses
import torch
from torch import nn


@dataclasses.dataclass
class Options:
    hidden: int


class Net(torch.nn.Module):
    def __init__(self, shape, classes, options):
        super().__init__()
        self.layer = torch.nn.Linear(shape[0] * shape[1] * shape[2], options.hidden)
        self.head = torch.nn.Linear(options.hidden, classes)

    def forward(self, x):
        x = self.layer(x.flatten(1))
        if x.abs().sum().item() < 0:  # needs values: cannot run on the meta device
            raise ValueError
        return self.head(torch.relu(x))


def build(input_shape, num_classes, *, hidden, wrong=False, kind="net"):
    if kind == "number":
        return 3
    if kind == "raises":
        raise RuntimeError("not today\\nmore")
    return Net(input_shape, num_classes + int(wrong), Options(hidden))
"""


def test_a_network_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "my_nets.py").write_text(USER)
    text = (
        "name: mine\nnetwork: nets/my_nets.py:build\nparameters: {hidden: [4, 8], wrong: [true, false], "
        "kind: [net, number, raises]}\n"
    )
    space = load(tmp_path, text)
    monkeypatch.chdir("/")  # the path is relative to the YAML file, not to where the command runs
    result = inspect_space(space, (1, 2, 2), 3)
    assert {candidate.label for candidate in result.valid} == {
        "hidden=4 wrong=false kind=net",
        "hidden=8 wrong=false kind=net",
    }
    assert {reason: len(found) for reason, found in result.invalid.items()} == {
        "The output for 2 images must have the shape (2, 3), but got (2, 4).": 2,
        "The network 'nets/my_nets.py:build' must return an nn.Module, but got int.": 4,
        "RuntimeError: not today": 4,
    }
    assert result.counts(result.valid[0]).params == 4 * 4 + 4 + 4 * 3 + 3
    assert result.counts(result.valid[0]).flops == 2 * (4 * 4 + 4 * 3)
    assert space.source == str((tmp_path / "space.yaml").resolve())

    copy = pickle.loads(pickle.dumps(space))  # noqa: S301  # as a process of workers receives it
    assert copy.hash == space.hash
    built = seeded(lambda: copy.build({"hidden": 4, "wrong": False, "kind": "net"}, (1, 2, 2), 3), 0)
    assert num_params(built) == 35

    before, identity = space.hash, space.candidate({"hidden": 4, "wrong": False, "kind": "net"}).id
    (tmp_path / "nets" / "my_nets.py").write_text(USER.replace("relu", "tanh"))
    changed = load(tmp_path, text)
    assert changed.hash != before
    assert changed.candidate({"hidden": 4, "wrong": False, "kind": "net"}).id != identity
    from nasproxy.spaces.user_network import user_function

    user_function.cache_clear()
    with pytest.raises(NasproxyError, match=r"my_nets\.py' has changed since the space was read"):
        space.build({"hidden": 4, "wrong": False, "kind": "net"}, (1, 2, 2), 3)


BESIDE = "name: mine\nnetwork: my_nets.py:build\nparameters: {hidden: [4, 8]}\n"
MAIN = """
from blocks import head

def build(input_shape, num_classes, *, hidden):
    import torch
    from sizes import FACTOR
    c, h, w = input_shape
    hidden *= FACTOR
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(c * h * w, hidden), head(hidden, num_classes))
"""
BLOCKS = """
import torch

def head(inputs, outputs):
    return torch.nn.Linear(inputs, outputs)
"""


def with_files(folder, blocks=BLOCKS, factor=1):
    folder.mkdir(exist_ok=True)
    (folder / "my_nets.py").write_text(MAIN)
    (folder / "blocks.py").write_text(blocks)
    (folder / "sizes.py").write_text(f"FACTOR = {factor}\n")
    return load(folder, BESIDE)


def sizes_of(space):
    net = seeded(lambda: space.build({"hidden": 4}, (1, 2, 2), 3), 0)
    return num_params(net), space.hash, space.candidate({"hidden": 4}).id


def test_files_beside_the_network_are_part_of_it(tmp_path):
    """An edit of a file that the network's file imports gives other candidates, also within a second."""
    first = sizes_of(with_files(tmp_path / "a"))
    assert sizes_of(with_files(tmp_path / "a")) == first
    bias = sizes_of(with_files(tmp_path / "a", BLOCKS.replace("outputs)\n", "outputs, bias=False)\n")))
    wider = sizes_of(with_files(tmp_path / "a", factor=2))  # imported inside the function
    assert [size for size, _, _ in (first, bias, wider)] == [35, 32, 67]
    assert len({*first, *bias, *wider}) == 9
    assert sizes_of(with_files(tmp_path / "b", factor=3)) != first  # the same names in another folder
    assert sizes_of(with_files(tmp_path / "a")) == first


@pytest.mark.slow
def test_files_beside_the_network_are_found_by_the_console_script(tmp_path):
    """Its path does not begin with the working folder, as that of ``python -m`` does."""
    with_files(tmp_path / "a")
    code = "import sys; sys.path.remove(''); from nasproxy.__main__ import main; main()"
    command = [sys.executable, "-c", code, "check", "a/space.yaml", "--dataset", "digits"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 candidates, 2 can be used" in done.stdout


def test_data_may_be_taken_by_name_and_an_exit_is_a_reason(tmp_path):
    (tmp_path / "my_nets.py").write_text(
        "import sys, torch\n\ndef probe(x: int): pass\n\nassert probe.__annotations__['x'] is int\n\n"
        "def build(*, input_shape, num_classes, hidden):\n"
        "    if hidden == 8:\n        sys.exit(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(hidden, num_classes))\n"
    )
    result = inspect_space(load(tmp_path, BESIDE), (1, 2, 2), 3)
    assert [candidate.label for candidate in result.valid] == ["hidden=4"]
    assert list(result.invalid) == ["SystemExit: 0"]


# -------------------------------------------------------------------------------------------------- a part of a space


def test_parameters_and_constants_can_be_set_where_a_space_is_named(tmp_path):
    whole = load(tmp_path, CONDITIONAL)
    part = load_space(f"{tmp_path / 'space.yaml'}:depth=1")
    assert part.size() == sum(candidate.params["depth"] == 1 for candidate in whole.enumerate())
    assert part.hash != whole.hash
    assert load_space(part.source).hash == part.hash
    assert {candidate.id for candidate in part.enumerate()} < {candidate.id for candidate in whole.enumerate()}


def test_a_cheaper_skeleton_of_nasbench201():
    space = load_space("nasbench201_space:cells=1,channels=4,edge_01=none")
    assert space.constants == {"cells": 1, "channels": 4}
    assert space.size() == 5**5
    assert space.source == "nasbench201_space.yaml:cells=1,channels=4,edge_01=none"
    inspection = inspect_space(space, (3, 8, 8), 10, max_candidates=10, sample=3)
    assert len(inspection.valid) == 3


def test_a_condition_stays_when_its_parameter_is_set():
    space = load_space("resnet_space:expansion=4")
    whole = load_space("resnet_space")
    basic = sum("expansion" not in candidate.params for candidate in whole.enumerate())
    assert space.size() == basic + (whole.size() - basic) // 2


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("convnet_space:norm=btach", "'norm' of space 'convnet' is one of none, batch"),
        ("convnet_space:nrom=batch", "norm"),
        ("convnet_space:norm=", "name=value"),
        ("convnet_space:norm=batch,norm=none", "each once"),
        ("convnet_spaces:norm=batch", "convnet_space"),
    ],
)
def test_what_cannot_be_set_is_refused(spec, said):
    with pytest.raises(NasproxyError, match=said):
        load_space(spec)


# ------------------------------------------------------------------------------------------------------ shipped spaces


def test_shipped_spaces_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"convnet_small", "convnet_space", "nasbench201_space"} < set(shipped_spaces())
    for spec in ("convnet_space", "convnet_space.yaml", Path("convnet_space.yaml")):
        space = load_space(spec)
        assert (space.size(), space.source) == (720, "convnet_space.yaml")
    (tmp_path / "convnet_small").mkdir()
    assert load_space("convnet_small").name == "convnet_small"
    load(tmp_path, HEAD + P, "convnet_space.yaml")
    assert load_space("convnet_space.yaml").size() == 2, "the file in the working folder comes first"
    assert load_space("convnet_space").size() == 720


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("convnet_spaces.yaml", "No search space 'convnet_spaces.yaml'.*Did you mean 'convnet_space'.*convnet_small"),
        ("nowhere/x.yaml", "No search space 'nowhere/x.yaml'.*Shipped: convnet_small, convnet_space"),
        (".", "Cannot read the search space '.': Is a directory"),
    ],
)
def test_a_space_that_is_not_there(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasproxyError, match=message):
        load_space(spec)


def test_an_installed_wheel_has_the_spaces_inside_the_package(tmp_path):
    package = tmp_path / "site-packages" / "nasproxy"
    package.mkdir(parents=True)
    assert _shipped_folder(package) == tmp_path / "site-packages" / "search_spaces"
    (package / "search_spaces").mkdir()
    assert _shipped_folder(package) == package / "search_spaces"


def test_listing_spaces_needs_no_torch():
    code = (
        "import sys, nasproxy.spaces as s; s.shipped_spaces()\n"
        "heavy = {'torch', 'optuna', 'ruamel.yaml', 'scipy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------------------------------------- what can be built


@pytest.mark.slow
def test_nasbench201_has_all_cells_and_builds_those_drawn():
    space = load_space("nasbench201_space")
    assert space.size() == 15_625
    found = inspect_space(space, (3, 32, 32), 10, sample=10)
    assert found.invalid == {}
    # The benchmark's range: from cells without convolutions to cells of 3×3 ones only.
    few, most = found.params_range
    assert 73_306 <= few < most <= 1_531_546
    rng = np.random.default_rng(1)
    for _ in range(6):
        candidate = space.sample(rng)
        small = candidate.params | {"cells": 1, "channels": 4}
        net = seeded(lambda options=small: nasbench201((3, 16, 16), 10, **options), 0)
        net(torch.ones(2, 3, 16, 16)).sum().backward()
        again = space.candidate(candidate.params)
        assert (again.id, again.params) == (candidate.id, candidate.params)


@pytest.mark.parametrize("name", slow_but(shipped_spaces(), "convnet_small"))
def test_shipped_spaces_build_train_and_are_built_again(name):
    """A wide sample of each: forward, backward to every weight, and the same net from the parameters as text."""
    space = load_space(name)
    rng = np.random.default_rng(2)
    images = torch.randn((4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    for _ in range(8):
        candidate = space.sample(rng)
        if candidate.params.get("width", 0) == 256:
            continue  # the same code as narrower ones, and slow
        net = seeded(lambda params=candidate.params: space.build(params, (3, 32, 32), 10), 0)
        with torch.random.fork_rng():  # dropout
            output = net(images)
        assert output.shape == (4, 10)
        torch.nn.functional.cross_entropy(output, torch.arange(4)).backward()
        reached = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in reached)
        # A cell's "none" cuts the edges before it off.
        assert len(reached) == len(list(net.parameters())) or "none" in candidate.params.values(), candidate.label
        again = space.candidate(json.loads(json.dumps(candidate.params)))
        assert again == candidate
        texts = {name: text_of(value) for name, value in candidate.params.items()}
        assert space.parse_candidate(texts) == candidate
        rebuilt = seeded(lambda params=again.params: space.build(params, (3, 32, 32), 10), 0)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), rebuilt.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "num_valid", "num_invalid"),
    [
        ("convnet_space", (3, 32, 32), 720, 0),
        ("convnet_small", (1, 28, 28), 432, 0),
        ("convnet_small", (1, 8, 8), 360, 72),  # depth 4, two poolings: 3 widths × 3 activations × 4 norms × 2
    ],
)
def test_shipped_grids_on_the_sizes_of_the_data_sets(name, shape, num_valid, num_invalid):
    space = load_space(name)
    calls: list[tuple[int, int]] = []
    result = inspect_space(space, shape, 10, progress=lambda done, total, note: calls.append((done, total)))
    assert (result.complete, result.num_valid, result.num_invalid) == (True, num_valid, num_invalid)
    assert len({candidate.id for candidate in result.valid}) == num_valid
    assert calls == [(done, space.size()) for done in range(1, space.size() + 1)]
    assert f"{space.size()} candidates, {num_valid} can be used" in result.describe()[0]
    rng = np.random.default_rng(0)
    assert all(result.reason(result.sample(rng)) is None for _ in range(20))
    for reason, found in result.invalid.items():
        assert "4 poolings of a 8×8 input leave nothing" in reason
        assert all(c.params["depth"] == 4 and c.params["pooling"] != "none" for c in found)
        assert result.reason(found[0]) == reason
        assert any(f"{len(found)} cannot: {reason}" in line for line in result.describe())
        with pytest.raises(NasproxyError, match="4 poolings"):
            result.counts(found[0])


class Tokens(nn.Module):
    """A layer that works on ten tokens of 64 numbers."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, images):
        output = self.layer(images.flatten(1).unflatten(1, (10, 64)))
        return output[0] if isinstance(output, tuple) else output


ATTENTION = 2 * 10 * (64 * 192 + 64 * 64) + 2 * 2 * 10 * 10 * 64


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), ATTENTION + 2 * 10 * 2 * 64 * 128),
        (lambda: nn.LSTM(64, 32, batch_first=True), 2 * 10 * (64 * 128 + 32 * 128)),
        (lambda: nn.GRU(64, 32, batch_first=True), 2 * 10 * (64 * 96 + 32 * 96)),
    ],
)
def test_flops_of_attention_and_of_recurrent_layers_are_counted(layer, expected, device):
    """Their fused kernels are opaque for torch's counter."""
    with torch.device(device):
        net = seeded(lambda: Tokens(layer()), 0).eval()
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    assert num_flops(net, (10, 8, 8)) == expected
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled) == before


def test_sizes_against_arithmetic_and_a_real_net():
    space = load_space("convnet_space")
    params = {"width": 32, "depth": 2, "activation": "relu", "norm": "instance", "pooling": "avg"}
    net = seeded(lambda: space.build(params | {"norm": "batch"}, (3, 32, 32), 10), 0)
    flops = 2 * (32 * 27 * 32 * 32 + 32 * 32 * 9 * 16 * 16 + 32 * 8 * 8 * 10)
    assert num_flops(net, (3, 32, 32)) == flops
    with torch.device("meta"):
        assert num_flops(space.build(params, (3, 32, 32), 10), (3, 32, 32)) == flops
    result = inspect_space(space, (3, 32, 32), 10, max_candidates=10, sample=1)
    assert result.counts(space.candidate(params)).flops == flops
    assert result.counts(space.candidate(params)).params == num_params(net)


def test_limits_are_reasons(tmp_path):
    text = HEAD + "  width: [8, 16, 32]\n  pooling: [max, none]\n"
    free = inspect_space(load(tmp_path, text), (1, 8, 8), 10)
    middle = sorted(free.counts(candidate).params for candidate in free.valid)[2]
    low_flops = sorted(free.counts(candidate).flops for candidate in free.valid)[0]
    result = inspect_space(load(tmp_path, text + f"limits: {{max_params: {middle}}}\n"), (1, 8, 8), 10)
    assert {reason: len(found) for reason, found in result.invalid.items()} == {
        f"More than max_params={middle} trainable parameters.": 3
    }
    assert result.params_range[1] == middle
    result = inspect_space(load(tmp_path, text + f"limits: {{max_flops: {low_flops}}}\n"), (1, 8, 8), 10)
    assert (result.num_valid, result.flops_range) == (1, (low_flops, low_flops))
    assert list(result.invalid) == [f"More than max_flops={low_flops} FLOPs per image."]


def test_values_that_the_family_refuses_are_counted(tmp_path):
    result = inspect_space(load(tmp_path, HEAD + "  norm: [batch, btach]\n  width: [6, 8]\n"), (1, 8, 8), 10)
    assert result.num_valid == 2
    (reason,) = result.invalid
    assert "Unknown norm 'btach'. Did you mean 'batch'?" in reason
    result = inspect_space(load(tmp_path, HEAD + "  norm: [btach]\n"), (1, 8, 8), 10)
    assert (result.params_range, result.flops_range) == (None, None)
    with pytest.raises(NasproxyError, match="no candidate that can be used for these data: Unknown norm 'btach'"):
        result.sample(np.random.default_rng(0))


def test_large_and_infinite_spaces_are_sampled(tmp_path):
    space = load(tmp_path, HEAD + "  depth: [1, 4]\n  dropout: {range: [0.0, 0.9]}\n  width: 4\n")
    result = inspect_space(space, (1, 8, 8), 10, sample=30)
    assert (result.complete, result.num_valid) == (False, None)
    assert len(result.valid) + result.num_invalid == 30
    assert {candidate.params["depth"] for candidate in result.valid} == {1}
    assert "infinitely many candidates, of 30 random ones" in result.describe()[0]
    unseen = space.candidate({"depth": 4, "dropout": 0.125})
    assert "4 poolings" in result.reason(unseen)
    assert result.counts(space.candidate({"depth": 1, "dropout": 0.125})).params == 4 * 9 + 4 + 8 + 4 * 16 * 10 + 10
    rng = np.random.default_rng(1)
    assert all(result.sample(rng).params["depth"] == 1 for _ in range(10))
    capped = inspect_space(load_space("convnet_small"), (1, 8, 8), 10, max_candidates=431, sample=5)
    assert (capped.complete, len(capped.valid) + capped.num_invalid) == (False, 5)
