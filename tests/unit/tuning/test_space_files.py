"""Spaces of a user's own, in Python and YAML, and what the command line shows of them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from textwrap import dedent, indent

import pytest
from click.testing import CliRunner, Result

from deeprelax.cli import main
from deeprelax.errors import ConfigError
from deeprelax.tuning.space import Constant, Float, ScheduleDimension, SearchSpace, find_space

PYTHON = '''
from deeprelax.tuning.space import Constant, Float, SearchSpace

def mine() -> SearchSpace:
    """A space."""
    dimensions = (Constant(field="method", value="lookahead"), Float(field="slow_lr", low=0.2, high=0.9))
    return SearchSpace(name="mine", dimensions=dimensions, summary="One number.", source="By hand.")

def with_argument(low: float) -> SearchSpace: ...

def number() -> int:
    return 3
'''
HEAD = "summary: One sentence.\nsource: By hand.\n"
GAMMA = """
gamma:
  schedule: [constant, exponential]
  measure: kappa_in
  start: [1e-3, 0.5]
  change: [1, 30]
  spans: {fraction: [0.3, 1]}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spaces.py").write_text(PYTHON)
    return tmp_path


def written(dimensions: str, head: str = HEAD) -> str:
    """Write a YAML space and return its path."""
    Path("mine.yaml").write_text(f"{head}dimensions:\n{indent(dedent(dimensions).strip(), '  ')}\n")
    return "mine.yaml"


def test_a_codec_and_an_overlap_are_searched_like_any_other_field() -> None:
    space = find_space(
        written(
            """
            method: diloco
            codec: {choice: [float32, int8, int4, topk(0.01)]}
            overlap: {choice: [0, 5]}
            """
        )
    )
    drawn = run("spaces", "sample", "mine.yaml", "-n", "20")
    assert drawn.exit_code == 0, drawn.output
    assert {"float32", "int8", "int4", "topk(0.01)"} == {
        text for text in ("float32", "int8", "int4", "topk(0.01)") if text in drawn.output
    }
    fields = space.at({"codec": "topk(0.01)", "overlap": 5})
    assert fields["coupling"] == {"codec": "topk(0.01)", "overlap": 5}


def test_function_in_a_file_makes_a_space() -> None:
    expected = (Constant(field="method", value="lookahead"), Float(field="slow_lr", low=0.2, high=0.9))
    assert find_space("spaces.py:mine").dimensions == expected


def test_yaml_makes_the_same_space_as_python() -> None:
    space = find_space(written("method: parle\nlr: 0.1\n" + GAMMA))
    gamma = ScheduleDimension(
        field="gamma",
        shapes=("constant", "exponential"),
        measure="kappa_in",
        start=(1e-3, 0.5),  # YAML reads 1e-3 as text
        change=(1.0, 30.0),
        spans=(("fraction", (0.3, 1.0)),),
    )
    same = SearchSpace(
        name="mine",
        dimensions=(Constant(field="method", value="parle"), Constant(field="lr", value=0.1), gamma),
        summary="another",
        source="another",
    )
    assert space == same
    assert space.describe() == same.describe()
    assert (space.summary, space.source) == ("One sentence.", "By hand.")


def test_lists_and_mappings_are_held_as_constants() -> None:
    space = find_space(
        written("""
        method: parle
        optimizer: adamw
        optimizer_options: {constant: {betas: [0.9, 0.95]}}
        lr: {float: [0.001, 0.01], log: true}
        """)
    )
    coupling = space.at({"lr": 0.002})["coupling"]
    assert coupling == {"optimizer": "adamw", "optimizer_options": {"betas": [0.9, 0.95]}, "lr": 0.002}


def test_example_of_the_help_is_a_space() -> None:
    text = run("spaces", "show", "--help").stdout
    example = dedent(text[text.index("  name: mine") : text.index("  Shapes:")])
    Path("example.yaml").write_text(example)
    space = find_space("example.yaml")
    assert space.at(space.published()[0]) == {
        "method": "diloco",
        "coupling": {"lr": "cos(0.1,0)", "outer_lr": 0.7},
        "trainable_config": {"channels": 16},
        "batch_size": 64,
    }
    assert "parle.gamma.kappa_in" in {parameter.name for parameter in space.parameters()}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("parl", ["Unknown space 'parl'", "Did you mean 'parle'?", "couplings"]),
        ("spaces.py:mien", ["Unknown function 'mien'", "Did you mean 'mine'?"]),
        ("spaces.py:with_argument", ["with_argument", "Must take nothing"]),
        ("spaces.py:number", ["a int", "Must be a SearchSpace"]),
        ("no_such.py:mine", ["no_such.py", "existing Python file"]),
        ("no.such.module:mine", ["Cannot import module"]),
        ("no_such.yaml", ["no_such.yaml", "existing YAML file"]),
    ],
)
def test_space_that_is_not_there_is_one_clear_error(text: str, parts: list[str]) -> None:
    shown = run("spaces", "show", text)
    assert shown.exit_code == 2
    for part in parts:
        assert part in shown.stderr


@pytest.mark.parametrize(
    ("dimensions", "parts"),
    [
        ("method: parle\nlr: [0.1, 1]", ["'lr'", "Must say its kind", "{float: [0.1, 1]}"]),
        ("method: parle\nlr: {flaot: [0.1, 1]}", ["'lr'", "flaot", "Did you mean 'float'?"]),
        ("method: parle\nlr: {float: [0.1, 1], int: [1, 2]}", ["'lr'", "one of float, int"]),
        ("method: parle\nlr: {float: 0.1}", ["float=0.1", "[low, high]"]),
        ("method: parle\nlr: {float: [low, 1]}", ["'lr'", "low='low'", "valid number"]),
        ("method: parle\nlr: {float: [1, 0.1]}", ["'lr'", "low <= high"]),
        (
            "method: parle\nlr: {float: [0.1, 1], lgo: true}",
            ["Unknown key 'lgo' of dimension 'lr'", "Did you mean 'log'?"],
        ),
        ("method: parle\nperiod: {int: [1, 2.5]}", ["'period'", "high=2.5", "integer"]),
        ("method: parle\nlr: {schedule: [cosin], start: [1, 2]}", ["shapes.0='cosin'", "'cosine'"]),
        ("method: parle\nlr: {schedule: cosine, start: [1, 2]}", ["Missing change of lr"]),
        ("method: parle\ngama: {float: [1, 2]}", ["mine.yaml", "Unknown field 'gama'", "Did you mean 'gamma'?"]),
        ("method: parle\nlr: {schedule: cosine, start: [1, 2], change: 0, spans: [1]}", ["spans", "mapping"]),
        ("method: parle\ndata: {branch: [all]}", ["'data'", "Must be a mapping"]),
        ("method: parle\nlr: {float: [1, 2]}\n3: 4", ["dimensions in mine.yaml", "mapping of names"]),
        ("method: parle\nlr: 0.1", ["nothing varies"]),
        ("lr: {float: [0.1, 1]}", ["'lr' is set but no method", "parle"]),
        ("lr: {float: [0.1, 1}", ["mine.yaml", "Must be YAML", "line 4"]),
        ("lr: !!python/object/apply:os.getcwd []", ["Must be YAML", "python/object"]),
    ],
)
def test_wrong_yaml_names_the_key_the_value_and_what_is_right(dimensions: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        find_space(written(dimensions))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ("source: me\n", ["Missing key 'summary'"]),
        (HEAD + "publised: []\n", ["Unknown key 'publised'", "Did you mean 'published'?"]),
        (HEAD + "published: {lr: 1}\n", ["published=", "list of points"]),
        (HEAD + "published: [{lr: 7}]\n", ["mine.yaml", "lr=7", "[0.1, 1]"]),
        ("- 1\n", ["mine.yaml"]),
    ],
)
def test_wrong_head_of_a_file_is_one_clear_error(head: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        find_space(written("method: parle\nlr: {float: [0.1, 1]}", head))
    for part in parts:
        assert part in str(error.value)


# The command line.


def test_list_names_every_space_with_its_sentence() -> None:
    shown = run("spaces", "list").stdout
    for word in ("couplings", "diloco", "parle", "both springs by kappa_in and kappa_out"):
        assert word in shown


def test_show_has_bounds_conditions_sources_and_what_is_tried_first() -> None:
    shown = run("spaces", "show", "parle").stdout
    for part in (
        "0.0001 … 0.5 (log)",
        "gamma = lr·period/kappa_in",
        "if gamma.shape = exponential or linear",
        "arXiv:1707.00424",
        "Held: method=parle, optimizer=sgd",
        "Tried first:",
        "'gamma=exp(100,1)'",
    ):
        assert part in shown


def test_show_json_is_the_description() -> None:
    shown = json.loads(run("spaces", "show", "spaces.py:mine", "--json").stdout)
    assert shown == find_space("spaces.py:mine").describe()


def test_sample_prints_commands_that_train() -> None:
    space = written("method: sgd\nlr: {float: [0.01, 0.1], log: true}\ntrainable_config.hidden: {int: [4, 8]}")
    (command,) = run("spaces", "sample", space, "-n", "1").stdout.splitlines()
    small = ["-o", "model=mlp", "--steps", "2", "--local", "--run-dir", "run", "--json"]
    trained = run(*shlex.split(command)[1:], *small)
    assert trained.exit_code == 0, trained.output
    assert Path("run/center.safetensors").is_file()


def test_sample_says_what_is_unstable_and_repeats_itself() -> None:
    space = written("method: parle\nlr: 0.1\ngamma: {float: [0.01, 0.02]}")
    first, again, other = (run("spaces", "sample", space, "-n", "3", "--seed", seed) for seed in ("0", "0", "1"))
    assert first.stdout == again.stdout != other.stdout
    assert first.stdout.count("# not trained: Unstable gamma=0.01") == 3
    sampled = json.loads(run("spaces", "sample", space, "-n", "3", "--json").stdout)
    assert [sample["command"] for sample in sampled["samples"]] == first.stdout.splitlines()[::2]
    for sample in sampled["samples"]:
        assert sample["unstable"].startswith("Unstable gamma")
        assert find_space(space).at(sample["params"]) == sample["fields"]


def test_sample_of_a_field_the_trainable_has_not_is_refused() -> None:
    space = written("method: sgd\ntrainable_config.hiden: {int: [4, 8]}")
    shown = run("spaces", "sample", space)
    assert shown.exit_code == 2
    assert "Did you mean 'hidden'?" in shown.stderr
