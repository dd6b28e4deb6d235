"""Data sets by the name that ir_datasets gives them, from a local mirror of its files."""

import importlib.util
import json
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilefold.data import (
    detect,
    ir_datasets_reader,
    read_collection,
    read_documents,
    read_query_texts,
    read_training,
)

DOCUMENTS = [
    {"_id": "d1", "title": "Hens", "text": "They run.\tFast.", "metadata": {}},
    {"_id": "d2", "title": "", "text": "Cats sleep — often.", "metadata": {}},
    {"_id": "d3", "title": "Rome", "text": "A city.", "metadata": {}},
]
QUERIES = [
    {"_id": "q1", "text": "who runs?", "metadata": {}},
    {"_id": "q2", "text": "who sleeps?", "metadata": {}},
    {"_id": "q3", "text": "which city?", "metadata": {}},
]
QRELS = {"train": [("q2", "d2", 1)], "test": [("q1", "d1", 1), ("q1", "d3", 0), ("q3", "d3", 1)]}
NAME = "beir/scifact"


pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ir_datasets") is None, reason='pip install "tilefold[data]"'
)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive of beir/scifact where ir_datasets looks before it downloads; no network.

    ir_datasets reads IR_DATASETS_HOME when it is imported, so it is imported anew.
    """
    home = tmp_path_factory.mktemp("ir_datasets")
    archive = home / "beir" / "scifact" / "source.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("scifact/corpus.jsonl", lines(DOCUMENTS))
        file.writestr("scifact/queries.jsonl", lines(QUERIES))
        for split, rows in QRELS.items():
            text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
            file.writestr(f"scifact/qrels/{split}.tsv", f"query-id\tcorpus-id\tscore\n{text}")
    with pytest.MonkeyPatch.context() as patch:
        for name in modules():
            patch.delitem(sys.modules, name)
        patch.setenv("IR_DATASETS_HOME", str(home))
        patch.setenv("IR_DATASETS_TMP", str(home / "tmp"))
        patch.setattr(socket.socket, "connect", no_network)
        yield home
        for name in modules():
            del sys.modules[name]


def modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "ir_datasets"]


def lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def no_network(*args: object, **options: object) -> None:
    raise AssertionError("this test must not use the network")


def test_a_split_is_read_by_name_as_from_a_folder_in_beir_layout(mirror, tmp_path):
    collection = read_collection(NAME, "test")
    assert collection.document_ids == ["d1", "d2", "d3"]
    assert collection.titles == ["Hens", "", "Rome"]
    assert collection.documents == ["They run.\tFast.", "Cats sleep — often.", "A city."]
    assert (collection.query_ids, collection.queries) == (
        ["q1", "q3"],
        ["who runs?", "which city?"],
    )
    assert collection.qrels.ids.tolist() == [0, 2, 2]
    assert collection.qrels.gains.tolist() == [1, 0, 1]
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(lines(DOCUMENTS))
    (tmp_path / "queries.jsonl").write_text(lines(QUERIES))
    rows = "".join("\t".join(map(str, row)) + "\n" for row in QRELS["test"])
    (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")
    folder = read_collection(tmp_path, "test")
    assert (folder.titles, folder.documents) == (collection.titles, collection.documents)
    assert folder.query_ids == collection.query_ids
    assert folder.qrels.ids.tolist() == collection.qrels.ids.tolist()


def test_titles_and_texts_are_columns(mirror):
    documents = read_documents(NAME)
    assert (documents.ids[2], documents.titles[2], documents.texts[2]) == ("d3", "Rome", "A city.")


def test_training_reads_the_train_split(mirror):
    data = read_training(NAME)
    assert data.queries == ["who sleeps?"]
    assert data.positives.indices.tolist() == [1]
    assert len(data.documents) == 3
    assert detect(NAME) == "beir"


def test_queries_are_those_of_the_name(mirror):
    assert list(read_query_texts(NAME)) == ["q1", "q2", "q3"]
    assert list(read_query_texts(f"{NAME}/test")) == ["q1", "q3"]


def test_a_name_with_its_split_shares_the_documents(mirror):
    assert read_collection(f"{NAME}/test", "test").query_ids == ["q1", "q3"]
    assert len(list(mirror.glob("tilefold/**/corpus.jsonl"))) == 1
    assert not list(mirror.glob("tilefold/**/*.partial"))


def test_a_split_that_does_not_exist_is_an_error_that_lists_them(mirror):
    with pytest.raises(ValueError, match="beir/scifact has no split 'dev' with judgments"):
        read_collection(NAME, "dev")
    with pytest.raises(ValueError, match="it has: test, train"):
        read_collection(NAME, "dev")
    with pytest.raises(ValueError, match="beir/scifact/test has no split 'train'"):
        read_collection(f"{NAME}/test", "train")


def test_files_are_written_once(mirror):
    read_collection(NAME, "train")
    before = {path: path.stat().st_mtime_ns for path in mirror.glob("tilefold/**/*")}
    read_collection(NAME, "train")
    assert {path: path.stat().st_mtime_ns for path in mirror.glob("tilefold/**/*")} == before


def test_a_path_is_never_taken_for_a_name(mirror, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "beir" / "scifact"
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no collection"):
        read_collection(NAME, "test")


def test_without_ir_datasets_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ir_datasets_reader, "_is_installed", lambda: False)
    for read in (read_collection, read_documents, read_training):
        with pytest.raises(FileNotFoundError, match=r'pip install "tilefold\[data\]"'):
            read(NAME)


def test_a_name_that_ir_datasets_does_not_know_is_a_missing_file(mirror):
    with pytest.raises(FileNotFoundError, match="there is no file beir/nothing"):
        read_documents("beir/nothing")
