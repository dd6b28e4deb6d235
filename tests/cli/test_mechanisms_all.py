"""`tilefold mechanisms all`: the settings that its options give to every study."""

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.cli.main import main
from tilefold.cli.verbs import mechanisms
from tilefold.studies.every_mechanism import STUDIES


def test_all_runs_every_study_on_one_world(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(
        mechanisms, "run_study", lambda study, settings, out, _: ran.append((study, settings, out))
    )
    out = str(tmp_path)
    words = ["mechanisms", "all", "--world", "tiny", "--seeds", "3", "4", "--batch-size", "7"]
    assert main([*words, "--retriever-epochs", "2", "--out", out]) == 0
    assert [study for study, _, _ in ran] == list(STUDIES)
    for study, settings, folder in ran:
        assert isinstance(settings, study.settings)
        assert (settings.world, settings.batch_size, folder) == ("tiny", 7, out)
        assert getattr(settings, "seeds", (3, 4)) == (3, 4)
        assert getattr(settings, "seed", 3) == 3
        assert study.name == "edit" or settings.retriever_epochs == 2
    edited = {s.name: settings.n_facts for s, settings, _ in ran if "n_facts" in vars(settings)}
    assert edited == {"edit": 10, "bound": 10, "directions": 10}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1", "1"], "--seeds: expected one or more different values, got (1, 1)"),
        (["--retriever-epochs", "0"], "--retriever-epochs: expected 1 or more, got 0"),
    ],
)
def test_wrong_options_of_all_are_errors(words, message, capsys, tmp_path):
    assert main(["mechanisms", "all", "--out", str(tmp_path), *words]) == 1
    assert message in capsys.readouterr().err
