"""The study of layers: frozen weights stay, and measures are those of the retrievers."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.files.steps import Steps
from tilefold.models import BiEncoder
from tilefold.studies.fact_rankings import fact_measures
from tilefold.studies.layers import LAYERS, LayerSettings
from tilefold.studies.layers.layer_study import layer_choices
from tilefold.studies.study_file import read_result
from tilefold.world import make_world, world_models
from tilefold.world.retrieval_data import split_facts
from tilefold.world.world_retrievers import fine_tuned

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["mechanisms", "layers", "--world", "tiny", "--seeds", "0", "--retriever-epochs", "1"]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("layers") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        assert main([*WORDS, "--out", str(out)]) == 0
    return out


def weights(folder, **options) -> dict[str, torch.Tensor]:
    return BiEncoder.from_pretrained(folder, **options).query_encoder.model.state_dict()


def test_frozen_weights_stay_to_the_bit(small, tmp_path):
    world = make_world("tiny", seed=0)
    base = world_models.pretrained(world, seed=0)
    train, _ = split_facts(world, seed=0)
    folder = fine_tuned(world, base, train, epochs=1, layers=[1, 2], folder=tmp_path)
    before = weights(base, pooling="cls", normalize=False)
    for name, weight in weights(folder).items():
        if "pooler" in name:
            continue
        trained = bool(re.match(r"encoder\.layer\.[12]\.", name))
        assert torch.equal(weight, before[name]) != trained, name
    with pytest.raises(ValueError, match=r"layers must be 0 to 3, got \[4\]"):
        fine_tuned(world, base, train, epochs=1, layers=[4], folder=tmp_path)
    with pytest.raises(ValueError, match="layers must have one or more, or be None"):
        fine_tuned(world, base, train, epochs=1, layers=[], folder=tmp_path)


def test_measures_are_those_of_the_retrievers(small, studied):
    result = read_result(studied / "layers.json", LAYERS)
    two = [f"layers {n} and {n + 1}" for n in range(3)]
    names = ["none", *(f"layer {n}" for n in range(4)), *two, "all"]
    assert [row.name for row in result.retrievers] == names
    world = make_world("tiny", seed=0)
    base = world_models.pretrained(world, seed=0)
    train, test = split_facts(world, seed=0)
    root = Steps(studied / "steps").folder("retrievers", [])
    found = {row.name: row for row in result.retrievers}
    every = {}
    for name, layers in layer_choices(LayerSettings(world="tiny")).items():
        if layers == ():
            model = BiEncoder.from_pretrained(base, pooling="cls", normalize=False)
        else:
            kept = None if layers is None else root
            folder = fine_tuned(world, base, train, epochs=1, layers=layers, folder=kept)
            model = BiEncoder.from_pretrained(folder)
        every[name] = fact_measures(world, model)[test]
        assert found[name].value.mean == pytest.approx(every[name].mean(), abs=0.01)
    assert found["all"].comparison is None
    for name in names[:-1]:
        expected = (every[name] - every["all"]).mean()
        assert found[name].comparison.difference.mean == pytest.approx(expected, abs=0.02)
        assert found[name].comparison.n == result.facts == len(test)
    pairs = [f"layer {middle} minus layer {outer}" for middle in (1, 2) for outer in (0, 3)]
    pairs += [f"layers 1 and 2 minus layers {outer} and {outer + 1}" for outer in (0, 2)]
    assert [one.name for one in result.between] == pairs
    for one in result.between:
        middle, outer = one.name.split(" minus ")
        expected = (every[middle] - every[outer]).mean()
        assert one.difference.mean == pytest.approx(expected, abs=0.02)


def test_measures_of_facts_are_those_of_rankings_by_hand(small):
    world = make_world("tiny", seed=0)
    model = BiEncoder.from_pretrained(
        world_models.pretrained(world, seed=0), pooling="cls", normalize=False
    )
    found = fact_measures(world, model)
    assert found.shape == (len(world.facts),)
    passages = model.encode_documents(
        [p.text for p in world.passages], [p.title for p in world.passages], progress=False
    )
    for n in (0, 7, 100):
        ranks = []
        for question in world.questions(n):
            scores = passages @ model.encode_queries([question], progress=False)[0]
            ranks.append(min(1 + int((scores > scores[p]).sum()) for p in world.stating(n)))
        expected = np.mean([1 / rank if rank <= 10 else 0 for rank in ranks])
        assert found[n] == pytest.approx(expected, abs=1e-6)


def test_a_run_goes_on_and_writes_the_same_report(small, studied, capsys):
    before = read_result(studied / "layers.json", LAYERS)
    html = (studied / "report.html").read_text()
    assert main([*WORDS, "--out", str(studied)]) == 0
    assert "9 steps were kept from an earlier run" in capsys.readouterr().out
    assert read_result(studied / "layers.json", LAYERS) == before
    assert (studied / "report.html").read_text() == html
    assert ">Training with frozen layers</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)


def test_layers_can_be_left_out_one_by_one():
    chosen = layer_choices(LayerSettings(all_but_one=True))
    assert chosen["all but layer 2"] == (0, 1, 3)
    assert chosen["none"] == ()
    assert chosen["all"] is None
    assert len(chosen) == len(layer_choices(LayerSettings())) + 4


def test_wrong_settings_are_errors():
    with pytest.raises(ValueError, match="seeds: expected one or more different values"):
        LayerSettings(seeds=())
    with pytest.raises(ValueError, match="retriever_epochs: expected 1 or more, got 0"):
        LayerSettings(retriever_epochs=0)
