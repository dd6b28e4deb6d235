"""Settings of studies are frozen, typed, and named in errors."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold import studies
from tilefold.mechanisms.probing.sweep import MODES, PROBES
from tilefold.studies.bound import BoundSettings
from tilefold.studies.edit import EditSettings
from tilefold.studies.findings import FindingsSettings
from tilefold.studies.layers import LayerSettings
from tilefold.studies.neurons import NeuronSettings
from tilefold.studies.presets import PRESETS
from tilefold.studies.probe import ProbeSettings
from tilefold.studies.probe.probe_settings import Mode, ProbeName
from tilefold.studies.settings import field_descriptions
from tilefold.studies.subject_settings import PresetName, SubjectSettings, WorldSize
from tilefold.studies.typed_values import to_type
from tilefold.world import SIZES

KINDS = [
    ProbeSettings,
    NeuronSettings,
    FindingsSettings,
    EditSettings,
    BoundSettings,
    LayerSettings,
]


def test_settings_are_frozen():
    settings = ProbeSettings(world="tiny")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.epochs = 3


@pytest.mark.parametrize(
    ("kind", "fields", "error", "message"),
    [
        (ProbeSettings, {"epochs": 0}, ValueError, "epochs: expected 1 or more, got 0"),
        (ProbeSettings, {"epochs": "3"}, TypeError, "epochs: expected int, got '3'"),
        (ProbeSettings, {"epochs": True}, TypeError, "epochs: expected int, got True"),
        (ProbeSettings, {"max_samples": 0}, ValueError, "max_samples: expected 1 or more, got 0"),
        (ProbeSettings, {"candidates": [6]}, ValueError, "candidates: expected 2 to 5, got 6"),
        (ProbeSettings, {"candidates": 3}, TypeError, "candidates: expected a sequence, got 3"),
        (ProbeSettings, {"candidates": []}, ValueError, "candidates: expected one or more"),
        (ProbeSettings, {"probes": ["cubic"]}, ValueError, "probes: expected one of concat.* got"),
        (ProbeSettings, {"mode": "both"}, ValueError, "mode: expected one of query, .* got 'both'"),
        (ProbeSettings, {"world": "huge"}, ValueError, "world: expected one of tiny, .* got 'huge"),
        (ProbeSettings, {"batch_size": 0}, ValueError, "batch_size: expected 1 or more, got 0"),
        (ProbeSettings, {"data": "x"}, ValueError, "expected world; .* got world and data"),
        (ProbeSettings, {"world": None}, ValueError, "expected world; .* got none of them"),
        (ProbeSettings, {"split": "dev"}, ValueError, "split: expected None with world, got 'dev'"),
        (ProbeSettings, {"document_model": "x"}, ValueError, "document_model: expected None with"),
        (ProbeSettings, {"preset": "dpr"}, ValueError, "world: expected None with preset"),
        (
            ProbeSettings,
            {"world": None, "preset": "dpr"},
            ValueError,
            "data: expected a path with preset, got None",
        ),
        (NeuronSettings, {"threshold": 1}, ValueError, "threshold: expected above 0 and .* 1.0"),
        (NeuronSettings, {"steps": 1}, ValueError, "steps: expected 2 or more, got 1"),
        (NeuronSettings, {"facts": 1}, ValueError, "facts: expected 2 or more, got 1"),
        (NeuronSettings, {"knock_out": [0]}, ValueError, "knock_out: expected 1 or more, got 0"),
        (
            NeuronSettings,
            {"world": None, "preset": "dpr", "data": "x", "facts": 3},
            ValueError,
            "facts: expected None without world, got 3",
        ),
    ],
)
def test_wrong_settings_are_refused(kind, fields, error, message):
    with pytest.raises(error, match=f"^{kind.__name__}: .*{message}"):
        kind(**{"world": "tiny", **fields})


def test_findings_need_runs():
    with pytest.raises(ValueError, match="FindingsSettings: runs: expected one or more folders"):
        FindingsSettings(runs=[])
    with pytest.raises(TypeError, match="FindingsSettings: runs: expected a sequence, got 'x'"):
        FindingsSettings(runs="x")
    assert FindingsSettings(runs=["x"]).runs == (Path("x"),)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="knock_out"):
        ProbeSettings(world="tiny", knock_out=(1,))


def test_values_that_mean_the_same_are_equal():
    """Findings compare settings of runs."""
    one = ProbeSettings(world="tiny", candidates=[3, 2, 3], probes=["bilinear", "bilinear"])
    assert one == ProbeSettings(world="tiny", candidates=(2, 3), probes=("bilinear",))
    assert NeuronSettings(world="tiny", knock_out=[8, 1, 8]).knock_out == (1, 8)


def test_a_threshold_is_the_presets_where_none_is_set():
    data = {"preset": "repllama", "data": "x"}
    assert NeuronSettings(**data).active_threshold == PRESETS["repllama"].threshold == 0.01
    assert NeuronSettings(**data, threshold=0.3).active_threshold == 0.3
    assert NeuronSettings(world="tiny").active_threshold == 0.1


def test_names_are_those_of_the_mechanisms():
    """Settings do not import them: help would take seconds."""
    assert get_args(ProbeName) == tuple(PROBES)
    assert get_args(Mode) == MODES
    assert get_args(WorldSize) == tuple(SIZES)
    assert get_args(PresetName) == tuple(PRESETS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_described(kind):
    described = field_descriptions(kind)
    assert list(described) == [field.name for field in dataclasses.fields(kind)]
    assert all(text and "\n" not in text for text in described.values())
    if issubclass(kind, SubjectSettings):
        assert described["seed"] == "seed of all random draws"


@pytest.mark.parametrize(
    ("value", "hint", "name"),
    [
        (1.5, int, "int"),
        ("1", float, "float"),
        (None, float, "float"),
        (True, float, "float"),
        (1, bool, "bool"),
        (3, str, "str"),
        ([1], dict[str, int], "a mapping"),
        ({"a": 1.5}, dict[str, int], "int"),
    ],
)
def test_no_value_is_converted_to_another_type(value, hint, name):
    with pytest.raises(TypeError, match=rf"x(\.a)?: expected {name}, got"):
        to_type(value, hint, "x")


def test_importing_settings_imports_nothing_heavy():
    code = (
        "import sys, json, tilefold.studies.probe, tilefold.studies.neurons, "
        "tilefold.studies.findings;"
        "print(json.dumps(sorted({'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(child.stdout) == []


def test_studies_parse_no_command_line_and_draw_no_bars():
    """They report to a `Reporter`; ruff refuses print."""
    for path in Path(studies.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"import (argparse|tqdm|logging)|from tqdm|\bsys\.std|Namespace", text)
