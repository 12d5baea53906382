"""The JSON Schema says of a space what reading it says, as far as a schema can."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from nasproxy.core.errors import NasproxyError
from nasproxy.networks import NETWORKS
from nasproxy.spaces import load_space, schema_text, shipped_spaces

FILE = Path(__file__).parents[2] / "search_spaces" / "space.schema.json"
VALIDATOR = Draft202012Validator(json.loads(schema_text()))


def problems(text):
    return [error.message for error in VALIDATOR.iter_errors(YAML(typ="safe", pure=True).load(text))]


def test_the_published_file_is_this_schema():
    Draft202012Validator.check_schema(json.loads(schema_text()))
    assert FILE.read_text() == schema_text(), "write it again: nasproxy schema > search_spaces/space.schema.json"


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_shipped_spaces_keep_it_and_name_it(name):
    text = shipped_spaces()[name].read_text()
    assert problems(text) == []
    assert text.startswith("# yaml-language-server: $schema=space.schema.json\n")


def test_the_documented_space_keeps_it():
    readme = (FILE.parents[1] / "docs" / "spaces.md").read_text()
    assert problems(readme.split("```yaml\n")[1].split("```")[0]) == []


HEAD = "name: s\nnetwork: convnet\nparameters:\n"


@pytest.mark.parametrize(
    "text",
    [
        "network: convnet\nparameters:\n  width: 8\n",  # no name
        HEAD.replace("convnet", "convnett") + "  width: 8\n",
        HEAD + "  widht: [8, 16]\n",
        HEAD + "  width: [8.5]\n",
        HEAD + "  width: []\n",
        HEAD + "  width: [8, 8]\n",
        HEAD + "  width: {range: [8]}\n",
        HEAD + "  width: {range: [8, 16], steps: 8}\n",
        HEAD + "  width: {range: [8, 16], choices: [8]}\n",
        HEAD + "  norm: [btach]\n",
        HEAD + "  norm: {range: [1, 2]}\n",
        HEAD + "  width: 8\nlimits: {max_param: 5}\n",
        HEAD + "  width: 8\nlimits: {max_params: 0}\n",
    ],
)
def test_mistakes_that_reading_finds_are_found(text, tmp_path):
    assert problems(text)
    if "btach" not in text and "8.5" not in text and "norm: {range" not in text:  # those are found when it is built
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(NasproxyError):
            load_space(tmp_path / "s.yaml")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_spaces_that_can_be_read_keep_it(tmp_path, data):
    """Of every family, with random options as constants, lists, choices, ranges and conditions."""
    import inspect

    family = data.draw(st.sampled_from(sorted(NETWORKS)))
    options = [
        o for o in list(inspect.signature(NETWORKS[family]).parameters.values())[2:] if o.kind is not o.VAR_KEYWORD
    ]
    text = f"name: s\nnetwork: {family}\nparameters:\n"
    before = None
    for option in data.draw(st.lists(st.sampled_from(options), min_size=1, unique_by=lambda o: o.name)):
        value = json.dumps(option.default)
        forms = [value, f"[{value}]", f"{{choices: [{value}]}}"]
        if isinstance(option.default, int | float) and not isinstance(option.default, bool):
            forms.append(f"{{range: [{value}, {json.dumps(option.default + 2)}], step: 1}}")
        if before is not None:
            forms.append(f"{{choices: [{value}], when: {{{before[0]}: {before[1]}}}}}")
        text += f"  {option.name}: {data.draw(st.sampled_from(forms))}\n"
        before = option.name, value
    (tmp_path / "s.yaml").write_text(text)
    load_space(tmp_path / "s.yaml")
    assert problems(text) == []
