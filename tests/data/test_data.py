"""Collections: folders of BEIR and of MS MARCO are read strictly, and once."""

import dataclasses
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tilefold.data import (
    Collection,
    Documents,
    Qrels,
    read_beir,
    read_collection,
    read_documents,
    read_msmarco,
)

Folder = Callable[..., Path]

CORPUS = [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "text": "second"}]
QUERIES = [{"_id": "q1", "text": "who?"}, {"_id": "q2", "text": "why?"}, {"_id": "q3", "text": "x"}]
QRELS = ["query-id\tcorpus-id\tscore", "q2\td2\t2", "q1\td1\t1", "q1\td2\t0"]
# {name: (documents, {split: judged queries})}
SMALL = {
    "adi": (82, {"test": 35}),
    "cacm": (3204, {"test": 52}),
    "cisi": (1460, {"test": 76}),
    "codebase_chunks": (737, {"test": 248}),
    "cranfield": (1400, {"test": 225}),
    "lisa": (5999, {"test": 35}),
    "medline": (1033, {"test": 30}),
    "npl_vaswani": (11429, {"test": 93}),
    "scifact": (5183, {"test": 300, "train": 809}),
    "stackfaq": (719, {"test": 1249}),
    "time": (423, {"test": 83}),
    "trecqa": (7053, {"train": 83, "dev": 78, "test": 89}),
}
WIKI_MIX = {"nq": 2655, "popqa": 1000, "squad": 2910, "hotpot100": 100, "musique100": 100}
LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
LARGE = {
    "lama_trex": (89299, {"test": 22881}),
    "wiki_mix": (21935, WIKI_MIX),
    "xquad_r": (13014, dict.fromkeys(LANGUAGES, 1190)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes a BEIR folder; a file is a list of lines, JSON objects among them."""

    def make(
        corpus: Sequence = CORPUS, queries: Sequence = QUERIES, qrels: Sequence = QRELS
    ) -> Path:
        (tmp_path / "qrels").mkdir()
        for name, lines in (
            ("corpus.jsonl", corpus),
            ("queries.jsonl", queries),
            ("qrels/test.tsv", qrels),
        ):
            texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            (tmp_path / name).write_text("".join(f"{text}\n" for text in texts))
        return tmp_path

    return make


def test_a_folder_becomes_numbered_documents_and_judged_queries(folder: Folder):
    collection = read_beir(folder())
    assert collection.document_ids == ["d1", "d2"]
    assert (collection.titles, collection.documents) == (["One", ""], ["first", "second"])
    assert collection.prompts == ["", ""]
    assert (collection.query_ids, collection.queries) == (["q1", "q2"], ["who?", "why?"])
    assert [part.tolist() for part in collection.qrels] == [[0, 2, 3], [0, 1, 1], [1, 0, 2]]
    assert [part.dtype.kind for part in collection.qrels] == ["i", "i", "f"]
    assert collection.absent == ()


def test_judged_documents_that_the_corpus_lacks_are_numbered_beyond_it(folder: Folder):
    collection = read_beir(folder(qrels=[*QRELS, "q2\tgone\t1", "q1\tlost\t1", "q1\tgone\t1"]))
    assert collection.absent == ("gone", "lost")
    assert collection.qrels.ids.tolist() == [0, 1, 3, 2, 1, 2]


def test_the_header_of_qrels_blank_lines_crlf_and_a_byte_order_mark_are_accepted(folder: Folder):
    root = folder(qrels=["q1\td1\t1\r", "", "q2\td2\t-1"])
    corpus = root / "corpus.jsonl"
    corpus.write_bytes(b"\xef\xbb\xbf" + corpus.read_bytes() + b"\n  \n")
    assert read_beir(root).qrels.gains.tolist() == [1, -1]


def test_integer_ids_are_their_digits_and_a_missing_title_is_none(folder: Folder):
    corpus = [{"_id": 7, "title": None, "text": "seven"}, {"_id": 8, "title": "T", "text": ""}]
    collection = read_beir(folder(corpus=corpus, qrels=["q1\t7\t1"]))
    assert collection.document_ids == ["7", "8"]
    assert (collection.titles, collection.documents) == (["", "T"], ["seven", ""])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"corpus": [CORPUS[0], "{not json"]}, r"corpus.jsonl:2: not valid JSON"),
        ({"corpus": ["[1]"]}, r"corpus.jsonl:1: expected a JSON object"),
        ({"corpus": [{"_id": "d1"}]}, r"corpus.jsonl:1: the field 'text' is missing; .*\['_id'\]"),
        (
            {"corpus": [{"_id": "d1", "titel": "T", "text": ""}]},
            r"corpus.jsonl:1: unknown fields \['titel'\]; this format has",
        ),
        ({"queries": [{"_id": "q", "text": "", "title": ""}]}, r"queries.jsonl:1: unknown fields"),
        ({"corpus": [{"text": "x"}]}, r"corpus.jsonl:1: the field '_id' is missing"),
        ({"corpus": [{"_id": "", "text": "x"}]}, r"corpus.jsonl:1: '_id' is empty"),
        ({"corpus": [{"_id": None, "text": "x"}]}, r"'_id' must be a string, got null"),
        ({"corpus": [{"_id": "d1", "text": 5}]}, r"'text' must be a string, got 5"),
        ({"corpus": [{"_id": "d", "title": 5, "text": ""}]}, r"'title' must be a string, got 5"),
        ({"corpus": ['{"_id": "d1", "text": "\\ud800"}']}, r"corpus.jsonl:1: .*surrogate"),
        ({"corpus": [*CORPUS, CORPUS[0]]}, r"corpus.jsonl:3: '_id' 'd1' is already that of line 1"),
        ({"corpus": []}, r"corpus.jsonl: the file is empty"),
        ({"queries": []}, r"queries.jsonl: the file is empty"),
        ({"queries": [*QUERIES, QUERIES[1]]}, r"queries.jsonl:4: .*already that of line 2"),
        ({"qrels": []}, r"test.tsv: no judgments"),
        ({"qrels": QRELS[:1]}, r"test.tsv: no judgments"),
        ({"qrels": [*QRELS, "q9\td1\t1"]}, r"test.tsv:5: query 'q9' is not in queries.jsonl"),
        ({"qrels": [*QRELS, "q1\td1\t0"]}, r"test.tsv:5: document 'd1' is judged twice for .*'q1'"),
        (
            {"qrels": [*QRELS, "q1\td1\tyes"]},
            r"test.tsv:5: the score must be an integer, got 'yes'",
        ),
        ({"qrels": ["q1 0 d1 1"]}, r"test.tsv:1: expected query-id, corpus-id and score"),
    ],
)
def test_a_bad_line_is_an_error_with_its_file_and_number(folder: Folder, change, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_beir(folder(**change))


def test_bytes_that_are_no_text_are_traced_to_their_line(folder: Folder):
    root = folder()
    with (root / "corpus.jsonl").open("ab") as file:
        file.write(b'{"_id": "d3", "text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:3: not UTF-8: .* at byte 24"):
        read_beir(root)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named_with_the_layout(folder: Folder, name: str):
    root = folder()
    (root / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"is no BEIR folder: {name} is missing \(expected"
    ):
        read_beir(root)


def test_the_folder_above_is_an_error_that_points_inside(folder: Folder, tmp_path: Path):
    root = folder()
    inside = tmp_path / "outer" / "beir"
    inside.mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        (root / name).rename(inside / name)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*beir\?"):
        read_beir(inside.parent)


def test_a_wrong_split_is_an_error_that_lists_the_others(folder: Folder):
    root = folder()
    (root / "qrels" / "dev.tsv").write_text("q1\td1\t1\n")
    with pytest.raises(FileNotFoundError, match=r"has no split 'train'; it has: dev, test"):
        read_beir(root, "train")


def test_packed_judgments_keep_queries_without_any():
    qrels = Qrels.pack([{3: 1}, {}, {1: 2, 0: 1}])
    assert [part.tolist() for part in qrels] == [[0, 1, 1, 3], [3, 1, 0], [1, 2, 1]]


def test_readers_have_no_template_of_titles(folder: Folder):
    with pytest.raises(TypeError, match="title_format"):
        read_beir(folder(), title_format="{title} {text}")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"titles": ["T"]}, "expected 2 titles, got 1"),
        ({"prompts": ["P"] * 3}, "expected 2 prompts, got 3"),
    ],
)
def test_columns_of_a_collection_have_one_length(folder: Folder, change, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(read_beir(folder()), **change)


def test_documents_are_read_without_judgments(folder: Folder):
    documents = read_documents(folder())
    assert documents == Documents(["d1", "d2"], ["first", "second"], ["One", ""])
    assert (len(documents), documents.rows()) == (2, {"d1": 0, "d2": 1})
    with pytest.raises(ValueError, match="Documents: expected 1 ids, got 2"):
        Documents(["d1", "d2"], ["first"])


def test_equal_titles_that_follow_one_another_are_one_string(folder: Folder):
    corpus = [{"_id": n, "title": f"One {n // 2}", "text": "x"} for n in range(4)]
    titles = read_beir(folder(corpus=corpus, qrels=["q1\t1\t1"])).titles
    assert titles == ["One 0", "One 0", "One 1", "One 1"]
    assert titles[0] is titles[1]
    assert titles[2] is titles[3]


def test_packed_files_are_read_like_plain_ones(folder: Folder):
    root = folder()
    plain = read_beir(root)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (root / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))
        (root / name).unlink()
    packed = read_beir(root)
    assert packed.documents == plain.documents
    assert packed.queries == plain.queries
    assert packed.qrels.ids.tolist() == plain.qrels.ids.tolist()


def test_a_packed_file_that_is_cut_off_is_an_error_with_its_line(folder: Folder):
    root = folder()
    whole = gzip.compress((root / "corpus.jsonl").read_bytes())
    (root / "corpus.jsonl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"corpus.jsonl:1: the gzip file is broken"):
        read_beir(root)


def test_no_file_of_a_collection_is_opened_twice(folder: Folder, monkeypatch):
    opened = []
    plain = Path.open

    def counting(path: Path, *arguments, **keywords):
        opened.append(path.name)
        return plain(path, *arguments, **keywords)

    root = folder()
    monkeypatch.setattr(Path, "open", counting)
    read_collection(root)
    assert sorted(opened) == ["corpus.jsonl", "queries.jsonl", "test.tsv"]


# ---- MS MARCO ------------------------------------------------------------------------------------


@pytest.fixture
def msmarco(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of MS MARCO out of lines."""

    def make(
        collection: Sequence[str] = ("7\tseven", '8\t"eight'),
        queries: Sequence[str] = ("q1\twho?", "q2\twhy?", "q3\tx"),
        qrels: Sequence[str] = ("q2\t0\t8\t1", "q1 0 7 1"),
    ) -> Path:
        files = {"collection": collection, "queries.dev.small": queries, "qrels.dev.small": qrels}
        for name, lines in files.items():
            (tmp_path / f"{name}.tsv").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path

    return make


def test_a_folder_of_ms_marco_is_a_collection_too(msmarco):
    collection = read_collection(msmarco(), "dev.small")
    assert collection.document_ids == ["7", "8"]
    assert collection.documents == ["seven", '"eight']
    assert (collection.query_ids, collection.queries) == (["q1", "q2"], ["who?", "why?"])
    assert [part.tolist() for part in collection.qrels] == [[0, 1, 2], [0, 1], [1, 1]]


def test_documents_of_ms_marco_may_have_titles(msmarco):
    root = msmarco(collection=("7\tT\tseven", "8\t\teight"))
    collection = read_msmarco(root, "dev.small")
    assert (collection.titles, collection.documents) == (["T", ""], ["seven", "eight"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"collection": ["7"]}, r"collection.tsv:1: expected an id, a tab and a text, got '7'"),
        ({"collection": ["7\ta\tb\tc"]}, r"collection.tsv:1: expected an id, a tab and a text"),
        ({"collection": ["7\ta", "7\tb"]}, r"collection.tsv:2: the id '7' is already .* line 1"),
        ({"collection": []}, r"collection.tsv: the file is empty"),
        ({"queries": ["q1\twho\tare you"]}, r"queries.dev.small.tsv:1: expected an id"),
        ({"qrels": ["q1\t7\t1"]}, r"qrels.dev.small.tsv:1: expected query, iteration, document"),
        ({"qrels": ["q1 0 7 yes"]}, r"qrels.dev.small.tsv:1: the gain must be an integer"),
        ({"qrels": ["q9 0 7 1"]}, r"small.tsv:1: query 'q9' is not in queries.dev.small.tsv"),
    ],
)
def test_a_bad_line_of_ms_marco_is_an_error_with_its_file_and_number(msmarco, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_collection(msmarco(**change), "dev.small")


def test_a_split_of_ms_marco_that_is_not_there_is_an_error_that_lists_the_others(msmarco):
    root = msmarco()
    with pytest.raises(FileNotFoundError, match=r"has no split 'train'; it has: dev.small"):
        read_collection(root, "train")
    (root / "queries.dev.small.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"without queries.dev.small.tsv, which the split"):
        read_collection(root, "dev.small")


def test_a_folder_without_a_collection_is_an_error_with_both_layouts(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no collection: expected corpus.jsonl.* or collection.tsv"
    ):
        read_collection(tmp_path)


# ---- real collections ----------------------------------------------------------------------------


def consistent(collection: Collection) -> bool:
    offsets, ids, gains = collection.qrels
    known = len(collection.documents) + len(collection.absent)
    return (
        len(collection.document_ids) == len(collection.documents)
        and len(collection.query_ids) == len(collection.queries) == len(offsets) - 1
        and (np.diff(offsets) > 0).all()
        and 0 <= ids.min() <= ids.max() < known
        and len(ids) == len(gains) == offsets[-1]
    )


@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
def test_every_collection_loads_with_every_split(data_folder: Path, name: str):
    n_documents, splits = (SMALL | LARGE)[name]
    root = data_folder / name / "beir"
    assert {path.stem for path in (root / "qrels").glob("*.tsv")} == set(splits)
    for split, n_queries in splits.items():
        collection = read_collection(root, split)
        assert consistent(collection)
        assert (len(collection.documents), len(collection.queries)) == (n_documents, n_queries)
        assert len(collection.absent) == (2 if name == "time" else 0)
