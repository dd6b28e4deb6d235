"""The part of the demo that trains: what it learns from is not what it is asked."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[demo]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[demo]")

from tilefold.cli.demo import training_demo
from tilefold.cli.demo.comparison import embed
from tilefold.cli.demo.pydocs import read_pydocs
from tilefold.cli.demo.training_demo import show_training
from tilefold.models import BiEncoder

pytestmark = pytest.mark.usefixtures("one_thread")
PACKAGES = ["statistics", "heapq", "random", "queue", "textwrap", "shutil", "calendar", "csv"]


def test_no_module_is_on_both_sides():
    collection = read_pydocs(PACKAGES, standard_library=False)
    data, asked = training_demo._split(collection)
    trained = {name.partition(".")[0] for name in data.document_ids}
    offsets, ids, _ = collection.qrels
    wanted = [ids[offsets[row] : offsets[row + 1]] for row in asked]
    others = {collection.document_ids[i].partition(".")[0] for part in wanted for i in part}
    assert others
    assert trained
    assert not trained & others
    assert not set(data.queries) & {collection.queries[row] for row in asked}
    for row, name in enumerate(data.query_ids):
        begin, end = data.positives.offsets[row : row + 2]
        assert name in [data.document_ids[i] for i in data.positives.indices[begin:end]]


def test_it_shows_what_training_changed(tiny_bert: Path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(training_demo, "_STEPS", 3)
    monkeypatch.setattr(training_demo, "_BATCH", 4)
    model = BiEncoder.from_pretrained(tiny_bert, normalize=True)
    collection = read_pydocs(PACKAGES, standard_library=False)
    before = embed(collection, model)
    show_training(collection, model, before)
    out = capsys.readouterr().out
    assert "trained    3 steps of 4 queries" in out
    assert "MiniLM as it is" in out
    assert "paired" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not np.array_equal(model.encode_queries(["w1"]), before.queries[:1])
    assert model.document_encoder.max_length == 256
