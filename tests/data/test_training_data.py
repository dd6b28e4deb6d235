"""Training data: every format comes down to one shape, strictly, and is written for others."""

import csv
import dataclasses
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tilefold.data import Question, TrainingSet, read_training, write_training
from tilefold.ragged_lists import Lists

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file: a text, a list of JSON lines, or with `array` a JSON array."""

    def make(content: Any, name: str = "train.jsonl", *, array: bool = False) -> Path:
        if array:
            content = json.dumps(content, indent=1)
        elif not isinstance(content, str):
            content = "".join(
                f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in content
            )
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content, encoding="utf-8")
        return path

    return make


def texts(data: TrainingSet, lists: Lists) -> list[list[str]]:
    """The documents listed for each query."""
    bounds = zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
    return [[data.documents[row] for row in lists.indices[a:b]] for a, b in bounds]


# ---- DPR -----------------------------------------------------------------------------------------


def context(text: str, **fields: Any) -> dict[str, Any]:
    return {"title": "T", "text": text} | fields


DPR = {
    "dataset": "nq",
    "question": "who?",
    "answers": ["she", "her"],
    "positive_ctxs": [context("p", score=1000, title_score=1, passage_id="7")],
    "negative_ctxs": [context("n", score="3.5", psg_id="8")],
    "hard_negative_ctxs": [context("h", passage_id=9), context("g", id="10", has_answer=False)],
}


@pytest.mark.parametrize("array", [True, False])
def test_dpr_gives_positives_hard_negatives_and_answers(write: Write, array: bool):
    data = read_training(write([DPR], "nq-train.json", array=array))
    assert (data.query_ids, data.queries, data.answers) == (["0"], ["who?"], [("she", "her")])
    assert data.document_ids == ["7", "9", "10"]
    assert (data.titles, data.documents) == (["T"] * 3, ["p", "h", "g"])
    assert data.prompts == [""]
    assert [part.tolist() for part in (*data.positives, *data.negatives)] == [
        *([0, 1], [0]),
        *([0, 2], [1, 2]),
    ]
    assert data.positive_scores is data.negative_scores is None


def test_other_negatives_of_dpr_count_where_there_are_no_hard_ones(write: Write):
    data = read_training(write([DPR | {"hard_negative_ctxs": []}], array=True))
    assert texts(data, data.negatives) == [["n"]]


def test_a_passage_without_an_id_is_known_by_its_title_and_text(write: Write):
    first = DPR | {"positive_ctxs": [context("p")], "hard_negative_ctxs": [context("h")]}
    second = DPR | {"positive_ctxs": [context("h")], "hard_negative_ctxs": [context("p")]}
    third = DPR | {"positive_ctxs": [context("p", title="other")], "hard_negative_ctxs": []}
    data = read_training(write([first, second, third], array=True))
    assert (data.titles, data.documents) == (["T", "T", "other", "T"], ["p", "h", "p", "n"])
    assert data.positives.indices.tolist() == [0, 1, 2]
    assert len(data.document_ids[0]) == 32
    again = read_training(write([second], array=True))
    assert again.document_ids == data.document_ids[1::-1]


def test_an_array_that_breaks_off_or_goes_on_is_an_error_with_its_line(write: Write):
    whole = json.dumps([DPR, DPR], indent=1)
    last = whole.count("\n") + 1
    with pytest.raises(ValueError, match=rf":{last}: the array is cut off"):
        read_training(write(whole.removesuffix("]")))
    with pytest.raises(ValueError, match=rf":{last}: the array has ended, but the file goes on"):
        read_training(write(whole + "[]"))
    cut = whole[: whole.rindex("question") + 3]
    line = cut.count("\n") + 1
    with pytest.raises(ValueError, match=rf":{line}: not valid JSON: .*, in record 2 of the array"):
        read_training(write(cut))
    with pytest.raises(ValueError, match=rf":{last}: expected a JSON object, got 3"):
        read_training(write(whole.removesuffix("]") + ",3]"))
    with pytest.raises(ValueError, match=rf":{last}: expected ',' or '\]' after a record"):
        read_training(write(whole.removesuffix("]") + "3]"))


def test_the_line_of_a_record_is_known_far_into_an_array(write: Write):
    records = [DPR | {"question": f"who is {number}? \u00e9\u20ac"} for number in range(8000)]
    bad = 7777
    records[bad] = {"question": "?", "positive_ctxs": [], "odd": 1}
    content = "[\n" + ",\n".join(map(json.dumps, records)) + "\n]"
    assert len(content) > 2 << 20  # of several pieces
    with pytest.raises(ValueError, match=rf"train.jsonl:{bad + 2}: unknown fields \['odd'\]"):
        read_training(write(content))
    with pytest.raises(ValueError, match=rf"train.jsonl:{bad + 2}: not valid JSON"):
        read_training(write(content.replace('"odd": 1', '"odd": oops')))


def test_bytes_in_an_array_that_are_no_text_are_traced_to_their_line(write: Write):
    path = write([DPR, DPR], array=True)
    content = path.read_bytes()
    place = content.rindex(b"who?")
    path.write_bytes(content[:place] + b"\xff" + content[place:])
    line = content[:place].count(b"\n") + 1
    with pytest.raises(ValueError, match=rf"train.jsonl:{line}: not UTF-8: invalid start byte"):
        read_training(path, format="dpr")


def test_an_array_is_streamed(write: Write):
    contexts = [context("x" * 1000, passage_id=f"w{number}") for number in range(40)]
    record = json.dumps(DPR | {"hard_negative_ctxs": contexts})
    path = write("[" + ", ".join([record] * 500) + "]")
    size = path.stat().st_size
    assert size > 20_000_000
    tracemalloc.start()
    data = read_training(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(data), len(data.documents)) == (500, 41)
    assert peak < size / 3


def test_a_record_longer_than_a_piece_of_the_file_is_read(write: Write):
    long = context('"\u20ac]},' * 600_000, passage_id="1")
    data = read_training(write([DPR, DPR | {"positive_ctxs": [long]}], array=True))
    assert data.documents[3] == long["text"]


# ---- Tevatron ------------------------------------------------------------------------------------

TEVATRON = {
    "query_id": "q1",
    "query": "who?",
    "answers": ["she"],
    "positive_passages": [{"docid": "7", "title": "T", "text": "p"}],
    "negative_passages": [{"docid": "8", "text": "n"}, {"docid": 9, "title": "", "text": "m"}],
}


def test_tevatron_gives_ids_and_answers(write: Write):
    data = read_training(write([TEVATRON, TEVATRON | {"query_id": 2, "answers": None}]))
    assert (data.query_ids, data.answers) == (["q1", "2"], [("she",), ()])
    assert (data.document_ids, data.documents) == (["7", "8", "9"], ["p", "n", "m"])
    assert (data.titles, data.prompts) == (["T", "", ""], ["", ""])
    assert texts(data, data.negatives) == [["n", "m"]] * 2


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def training_sets(draw: st.DrawFn) -> TrainingSet:
    names = draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    documents = draw(st.lists(st.text(max_size=8), min_size=len(names), max_size=len(names)))
    queries = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    listed: list[list[int]] = []
    for _ in queries:
        order = draw(st.permutations(range(len(names))))
        n_positives = draw(st.integers(1, len(order)))
        listed += [order[:n_positives], order[n_positives : draw(st.integers(0, len(order)))]]
    sides = [
        Lists(
            np.cumsum([0, *map(len, side)]), np.array([row for rows in side for row in rows], int)
        )
        for side in (listed[::2], listed[1::2])
    ]
    scores = [
        draw(
            st.none()
            | st.lists(st.floats(-9, 9), min_size=len(side.indices), max_size=len(side.indices))
        )
        for side in sides
    ]
    answers = [tuple(draw(st.lists(st.text(max_size=3), max_size=2))) for _ in queries]
    given = [None if not values else np.array(values) for values in scores]
    titles, prompts = (
        draw(st.lists(st.text(max_size=4), min_size=n, max_size=n) | st.just([]))
        for n in (len(names), len(queries))
    )
    return TrainingSet(queries, draw(st.permutations(queries)), names, documents, *sides, answers,
                       *given, titles=titles, prompts=prompts)  # fmt: skip


def renumbered(data: TrainingSet) -> TrainingSet:
    """The same set without unlisted documents, the others in the order in which records list them.

    That is what a file of records can hold: the definition of what is read back.
    """
    listed = [
        int(row)
        for query in range(len(data))
        for lists in (data.positives, data.negatives)
        for row in lists.of(query)
    ]
    order = list(dict.fromkeys(listed))
    place = {row: number for number, row in enumerate(order)}
    moved = {
        side: Lists(lists.offsets, np.array([place[int(row)] for row in lists.indices], int))
        for side, lists in (("positives", data.positives), ("negatives", data.negatives))
    }
    columns = {
        name: [getattr(data, name)[row] for row in order]
        for name in ("document_ids", "documents", "titles")
    }
    return dataclasses.replace(data, **columns, **moved)


def assert_equal_sets(found: TrainingSet, expected: TrainingSet) -> None:
    """Every field is equal; arrays in values and order."""
    for field in dataclasses.fields(TrainingSet):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, Lists):
            ours, theirs = ([part.tolist() for part in lists] for lists in (ours, theirs))
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs, field.name


@given(training_sets())
def test_what_is_written_is_read_back(tmp_path: Path, data: TrainingSet):
    write_training(tmp_path / "mined.jsonl", data)
    back = read_training(tmp_path / "mined.jsonl")
    assert_equal_sets(back, renumbered(data))
    write_training(tmp_path / "again.jsonl", back)
    assert_equal_sets(read_training(tmp_path / "again.jsonl"), back)


def test_mined_negatives_of_dpr_are_written_with_title_and_text(write: Write, tmp_path: Path):
    data = read_training(write([DPR, DPR | {"question": "why?"}], "dpr.json", array=True))
    mined = data.with_negatives(Lists(np.array([0, 1, 2]), np.array([2, 1])))
    write_training(tmp_path / "mined.jsonl", mined)
    first = json.loads((tmp_path / "mined.jsonl").read_text().splitlines()[0])
    assert first["positive_passages"] == [{"docid": "7", "title": "T", "text": "p"}]
    assert first["negative_passages"] == [{"docid": "10", "title": "T", "text": "g"}]
    assert_equal_sets(read_training(tmp_path / "mined.jsonl"), renumbered(mined))


def test_prompts_are_written_as_a_field(write: Write, tmp_path: Path):
    data = read_training(write([FLAG, {"query": "why?", "pos": ["n"]}]))
    write_training(tmp_path / "written.jsonl", data)
    records = [json.loads(line) for line in (tmp_path / "written.jsonl").read_text().splitlines()]
    assert [(record["query"], record.get("prompt")) for record in records] == [
        ("who?", "Find it:"),
        ("why?", None),
    ]
    assert_equal_sets(read_training(tmp_path / "written.jsonl"), data)


def test_a_training_set_that_cannot_be_written_leaves_the_old_file(write: Write, monkeypatch):
    path = write([TEVATRON])
    before = path.read_text()
    broken = dataclasses.replace(read_training(path), answers=[(object(),)])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        write_training(path, broken)
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# ---- FlagEmbedding -------------------------------------------------------------------------------

FLAG = {
    "query": "who?",
    "pos": ["p", "q"],
    "neg": ["n", "n", "m"],
    "pos_scores": [2, 1.5],
    "neg_scores": [0.5, 0.1, 0.25],
    "prompt": "Find it:",
    "type": "normal",
}


def test_flagembedding_gives_prompts_and_scores(write: Write):
    data = read_training(write([FLAG, {"query": "why?", "pos": ["n"], "neg": []}]))
    assert (data.prompts, data.queries) == (["Find it:", ""], ["who?", "why?"])
    assert (data.documents, data.query_ids) == (["p", "q", "n", "m"], ["0", "1"])
    assert texts(data, data.positives) == [["p", "q"], ["n"]]
    assert texts(data, data.negatives) == [["n", "m"], []]
    np.testing.assert_array_equal(data.positive_scores, [2, 1.5, np.nan])
    np.testing.assert_array_equal(data.negative_scores, [0.5, 0.25])


def test_one_read_serves_every_template(write: Write):
    data = read_training(write([FLAG, {"query": "why?", "pos": ["n"]}]))
    joined = data.joined(query_format="Instruct: {prompt}\nQuery: {query}")
    assert joined.queries == ["Instruct: Find it:\nQuery: who?", "why?"]
    assert joined.prompts == ["", ""]
    assert data.joined(query_format="{query}").queries == ["who?", "why?"]
    titled = read_training(write([DPR], array=True))
    assert titled.joined("{title} [SEP] {text}").documents[0] == "T [SEP] p"
    assert titled.joined().titles == ["", "", ""]


def test_equal_texts_under_other_titles_or_prompts_are_other_rows():
    lists = Lists(np.array([0, 1, 2]), np.array([0, 1])), Lists(np.zeros(3, int), np.zeros(0, int))
    data = TrainingSet(
        *(["1", "2"], ["q", "q"], list("abc"), ["t", "t", "t"], *lists, [(), ()]),
        titles=["x", "", "x"],
        prompts=["", "p"],
    )
    assert data.document_groups().tolist() == [0, 1, 0]
    assert data.query_groups().tolist() == [0, 1]
    plain = dataclasses.replace(data, titles=[], prompts=[])
    assert (plain.titles, plain.prompts) == (["", "", ""], ["", ""])
    assert plain.document_groups().tolist() == [0, 0, 0]
    assert data.take([1]).prompts == ["p"]


# ---- columns -------------------------------------------------------------------------------------

TRIPLETS = [
    {"anchor": "a", "positive": "p", "negative_1": "n", "negative_2": "m"},
    {"anchor": "b", "positive": "q", "negative_1": "p", "negative_2": None},
    {"anchor": "a", "positive": "r", "negative_1": "m", "negative_2": ""},
]


def in_form(form: str, rows: list[dict[str, Any]], tmp_path: Path) -> Any:
    """Rows as a file, or as a dataset."""
    path = tmp_path / f"rows.{form}"
    if form in ("jsonl", "json"):
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]")
    elif form in ("csv", "tsv"):
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), delimiter="," if form == "csv" else "\t")
        table.writeheader()
        table.writerows(rows)
        path.write_text(text.getvalue())
    elif form == "parquet":
        parquet, arrow = (pytest.importorskip(name) for name in ("pyarrow.parquet", "pyarrow"))
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    else:
        return pytest.importorskip("datasets").Dataset.from_list(rows)
    return path


DATASET = pytest.param("dataset", marks=pytest.mark.slow)  # importing datasets takes seconds
FORMS = ("jsonl", "json", "csv", "tsv", "parquet", DATASET)


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_anchor_positive_and_negatives_and_rows_of_one_anchor_are_one_query(
    form: str, tmp_path: Path
):
    data = read_training(in_form(form, TRIPLETS, tmp_path))
    assert (data.queries, data.query_ids) == (["a", "b"], ["0", "1"])
    assert texts(data, data.positives) == [["p", "r"], ["q"]]
    assert texts(data, data.negatives) == [["n", "m"], ["p"]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("label", ["label", "score"])
def test_a_label_or_score_says_whether_a_pair_belongs_together(form, label, tmp_path: Path):
    rows = [("a", "p", 1), ("a", "n", 0), ("b", "n", 1), ("b", "m", 0)]
    if label == "score":
        rows = [(one, other, value * 0.5 + 0.25) for one, other, value in rows]
    dicts = [{"sentence1": one, "sentence2": other, label: value} for one, other, value in rows]
    threshold = 0.5 if label == "score" else None
    data = read_training(in_form(form, dicts, tmp_path), score_threshold=threshold)
    assert texts(data, data.positives) == [["p"], ["n"]]
    assert texts(data, data.negatives) == [["n"], ["m"]]
    if label == "score":
        assert data.positive_scores.tolist() == [0.75, 0.75]
        assert data.negative_scores.tolist() == [0.25, 0.25]
    else:
        assert data.positive_scores is data.negative_scores is None


def test_columns_of_any_name_are_read_when_they_are_asked_for(write: Write):
    path = write([{"frage": "wer?", "antwort": "sie", "negative": "es"}])
    with pytest.raises(ValueError, match=r"found JSON with the fields \['frage', 'antwort'"):
        read_training(path)
    data = read_training(path, format="columns")
    assert (texts(data, data.positives), texts(data, data.negatives)) == ([["sie"]], [["es"]])


@pytest.mark.slow
def test_a_dataset_may_hold_records_of_another_format(tmp_path: Path):
    data = read_training(in_form("dataset", [TEVATRON | {"negative_passages": []}], tmp_path))
    assert (data.query_ids, data.titles, data.documents) == (["q1"], ["T"], ["p"])


@pytest.mark.slow
def test_several_splits_of_a_dataset_are_refused(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict({"train": in_form("dataset", TRIPLETS, tmp_path)})
    with pytest.raises(TypeError, match=r"expected one split of a dataset, got several: \['train'"):
        read_training(both)


@pytest.mark.slow
def test_a_row_of_a_dataset_is_named_in_errors(tmp_path: Path):
    rows = [{"anchor": "a", "positive": "p"}, {"anchor": "b", "positive": None}]
    with pytest.raises(ValueError, match=r"<Dataset>:2: the query 'b' has no positive"):
        read_training(in_form("dataset", rows, tmp_path))


def test_a_broken_parquet_file_is_an_error_with_its_name(write: Write):
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"train.parquet:1: not valid Parquet"):
        read_training(write("PAR1 and no more", "train.parquet"))


# ---- triples of MS MARCO -------------------------------------------------------------------------


def test_triples_of_texts_with_the_same_query_are_one_query(write: Write):
    lines = ['who?\tshe "is\t it is', "why?\t it is\ta so", 'who?\tshe "is\tno one']
    data = read_training(write(lines, "triples.train.small.tsv"))
    assert (data.queries, data.document_ids[0]) != (["who?", "why?"], "")
    assert texts(data, data.positives) == [['she "is'], [" it is"]]
    assert texts(data, data.negatives) == [[" it is", "no one"], ["a so"]]


@pytest.fixture
def msmarco(write: Write) -> Path:
    write("7\tseven\n8\teight\n9\tnine\n", "m/collection.tsv")
    write("1\twho?\n2\twhy?\n", "m/queries.train.tsv")
    write("1\t0\t8\t1\n2\t0\t7\t1\n", "m/qrels.train.tsv")
    write("1\t8\t9\n2\t7\t8\n1\t8\t7\n", "m/qidpidtriples.train.full.2.tsv")
    return write("3\twhen?\n", "m/queries.dev.tsv").parent


def test_triples_of_ids_find_their_texts_beside_them(msmarco: Path):
    data = read_training(msmarco / "qidpidtriples.train.full.2.tsv")
    assert (data.query_ids, data.queries) == (["1", "2"], ["who?", "why?"])
    assert data.document_ids == ["7", "8", "9"]
    assert texts(data, data.positives) == [["eight"], ["seven"]]
    assert texts(data, data.negatives) == [["nine", "seven"], ["eight"]]


def test_a_folder_of_ms_marco_is_a_training_set(msmarco: Path):
    data = read_training(msmarco)
    assert texts(data, data.positives) == [["eight"], ["seven"]]
    assert texts(data, data.negatives) == [[], []]


def test_triples_of_ids_that_name_what_is_not_there_are_an_error_with_their_line(msmarco: Path):
    path = msmarco / "qidpidtriples.train.full.2.tsv"
    with pytest.raises(ValueError, match=r"full.2.tsv:1: query '1' is not among the queries"):
        read_training(path, split="dev")
    path.write_text("1\t8\t9\n1\t7\t5\n2\t5\t8\n")
    with pytest.raises(ValueError, match=r"full.2.tsv:2: document '5' is not in the collection"):
        read_training(path)
    data = read_training(path, on_missing_positive="drop")
    assert texts(data, data.positives) == [["eight", "seven"]]


# ---- folders of BEIR -----------------------------------------------------------------------------


@pytest.fixture
def beir(write: Write) -> Callable[..., Path]:
    def make(qrels: str) -> Path:
        corpus = [{"_id": f"d{n}", "title": "T" * (n == 1), "text": f"t{n}"} for n in range(4)]
        write(corpus, "b/corpus.jsonl")
        write([{"_id": f"q{n}", "text": f"q{n}?"} for n in range(3)], "b/queries.jsonl")
        return write(qrels, "b/qrels/train.tsv").parents[1]

    return make


def test_a_folder_of_beir_gives_positives_and_judged_negatives_on_the_whole_corpus(beir):
    root = beir("q2\td1\t2\nq2\td3\t0\nq2\td0\t1\nq0\td3\t1\nq0\td1\t-1\n")
    data = read_training(root)
    assert (data.query_ids, data.documents) == (["q0", "q2"], ["t0", "t1", "t2", "t3"])
    assert data.titles == ["", "T", "", ""]
    assert [part.tolist() for part in (*data.positives, *data.negatives)] == [
        *([0, 1, 3], [3, 1, 0]),
        *([0, 1, 2], [1, 3]),
    ]


def test_judgments_of_absent_documents_are_an_error_or_left_out(beir):
    root = beir("q0\td1\t1\nq1\tgone\t1\nq0\tgone\t0\n")
    complaint = r"train.tsv:2: document 'gone' is not in corpus.jsonl; on_missing_positive='drop'"
    with pytest.raises(ValueError, match=complaint):
        read_training(root)
    data = read_training(root, on_missing_positive="drop")
    assert (data.query_ids, data.positives.indices.tolist()) == (["q0"], [1])
    with pytest.raises(ValueError, match=r"train.tsv: no query has a positive"):
        read_training(beir("q1\tgone\t1\n"), on_missing_positive="drop")


def test_no_file_of_a_folder_is_opened_twice(beir, monkeypatch):
    opened = []
    plain = Path.open

    def counting(path: Path, *arguments, **keywords):
        opened.append(path.name)
        return plain(path, *arguments, **keywords)

    root = beir("q0\td1\t1\n")
    monkeypatch.setattr(Path, "open", counting)
    read_training(root)
    assert sorted(opened) == ["corpus.jsonl", "queries.jsonl", "train.tsv"]


def test_a_query_that_is_judged_without_a_positive_is_an_error_or_left_out(beir):
    root = beir("query-id\tcorpus-id\tscore\nq0\td1\t1\nq1\td1\t0\n")
    with pytest.raises(ValueError, match=r"train.tsv:3: the query 'q1\?' has no positive"):
        read_training(root)
    assert read_training(root, on_missing_positive="drop").query_ids == ["q0"]


def test_a_split_of_a_folder_is_taken_and_one_of_a_file_refused(beir, write: Write):
    root = beir("q0\td1\t1\n")
    with pytest.raises(FileNotFoundError, match=r"no split 'dev'; it has: train"):
        read_training(root, split="dev")
    with pytest.raises(ValueError, match="dpr has no splits, but split is 'dev'"):
        read_training(write([DPR]), split="dev")


# ---- bad input -----------------------------------------------------------------------------------

PASSAGE = TEVATRON["positive_passages"][0]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], r"train.jsonl: the file is empty"),
        (["", "  "], r"train.jsonl: the file is empty"),
        (["[]"], r"train.jsonl: the file is empty"),
        ([TEVATRON, "{"], r"train.jsonl:2: not valid JSON: .* at column 2"),
        ([TEVATRON, "", "[1]"], r"train.jsonl:3: expected a JSON object, got \[1\]"),
        ([TEVATRON, TEVATRON], r":2: query id 'q1' is already that of line 1"),
        ([TEVATRON | {"typo": 1}], r":1: unknown fields \['typo'\]; this format has \['query_id'"),
        ([TEVATRON | {"query_id": ""}], r":1: 'query_id' is empty"),
        ([TEVATRON | {"query": None}], r":1: 'query' must be a string, got null"),
        ([TEVATRON | {"positive_passages": []}], r":1: the query 'who\?' has no positive; on_mis"),
        ([TEVATRON | {"positive_passages": "p"}], r"'positive_passages' must be a list, got \"p\""),
        ([TEVATRON | {"positive_passages": ["p"]}], r"positive_passages\[0\]: expected a JSON obj"),
        (
            [TEVATRON | {"positive_passages": [{"docid": 1}]}],
            r"s\[0\]: the field 'text' is missing",
        ),
        (
            [TEVATRON | {"positive_passages": [{"text": "p"}]}],
            r"\[0\]: the field 'docid' is missing",
        ),
        ([TEVATRON | {"positive_passages": [PASSAGE | {"x": 1}]}], r"unknown fields \['x'\]"),
        ([TEVATRON | {"positive_passages": [PASSAGE | {"score": "no"}]}], r"must be a number"),
        (
            [TEVATRON | {"negative_passages": [PASSAGE]}],
            r":1: document '7' is both positive and ne",
        ),
        (
            [
                TEVATRON,
                TEVATRON | {"query_id": "2", "positive_passages": [PASSAGE | {"text": "x"}]},
            ],
            r":2: document '7' has another text than in line 1",
        ),
        (
            [
                TEVATRON,
                TEVATRON | {"query_id": "2", "positive_passages": [PASSAGE | {"title": "x"}]},
            ],
            r":2: document '7' has another title than in line 1",
        ),
        ([TEVATRON | {"answers": "she"}], r":1: 'answers' must be a list, got \"she\""),
        ([TEVATRON | {"answers": [1]}], r":1: 'answers\[0\]' must be a string, got 1"),
        ([DPR | {"positive_ctxs": [context("p", typo=1)]}], r"positive_ctxs\[0\]: unknown fields"),
        ([DPR, DPR | {"positive_ctxs": []}], r":2: the query 'who\?' has no positive"),
        ([FLAG | {"extra": 1}], r":1: unknown fields \['extra'\]"),
        ([FLAG | {"pos": "p"}], r":1: 'pos' must be a list"),
        ([FLAG | {"neg_scores": [1]}], r":1: 'neg_scores' has 1 numbers for 3 texts in 'neg'"),
        ([FLAG | {"pos_scores": [1, None]}], r":1: 'pos_scores\[1\]' must be a number, got null"),
        ([FLAG | {"neg": ["p"], "neg_scores": None}], r":1: document 'p' is both positive and neg"),
        (
            [{"positive": "p", "anchor": "a"}],
            r":1: columns count in their order, so 'anchor' must come first",
        ),
        ([{"anchor": "a", "x": "y", "positive": "p"}], r":1: .* so 'positive' must come second"),
        ([{"anchor": "a", "negative": "y", "positive": "p"}], r":1: columns count in their order"),
        ([{"anchor": "a", "positive": "p"}, {"anchor": "a", "text": "p"}], r":2: unknown .*'text'"),
        (
            [{"anchor": "a", "positive": "p"}, {"anchor": "b"}],
            r":2: the field 'positive' is missing",
        ),
        ([{"anchor": "a", "positive": "p", "label": 2}], r":1: 'label' must be 0 .* got 2"),
        ([{"anchor": "a", "positive": "p", "label": "x"}], r":1: 'label' must be a number"),
        (
            [{"anchor": "a", "positive": "p", "negative": "n", "score": 0.3}],
            r":1: 'score' must be a list, got 0.3",
        ),
        (
            [{"query": "a", "answer": "p", "label": 1}, {"query": "a", "answer": "p", "label": 0}],
            r":2: document 'p' is both positive and negative",
        ),
        (
            ["a\tb c"],
            r"found text whose first line is 'a\\tb c', which is none of:\s+beir: a folder",
        ),
        (
            ["who?\ta b\tc d", "who?\ta b"],
            r":2: expected query, positive and negative between tabs",
        ),
        ([{"foo": 1}], r"found JSON with the fields \['foo'\], which is none of:\s+beir: "),
    ],
)
def test_bad_input_is_an_error_with_file_and_line(write: Write, lines, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_training(write(lines))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("anchor,positive\na,b,c\n", r":2: expected 2 cells, as the header has, got 3"),
        ('anchor,positive\n"a\nb",c\n"open,d\n', r":4: not a table: unexpected end of data"),
        ("anchor,positive,positive\na,b,c\n", r":1: a column is named twice"),
        ("anchor,positive\n", r"train.csv: the file is empty"),
        ("anchor,positive,score\na,b,high\n", r":2: 'score' must be a number, got \"high\""),
    ],
)
def test_a_bad_row_of_a_table_is_an_error_with_file_and_line(write: Write, text, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        read_training(write(text, "train.csv"))


def test_queries_without_positives_are_dropped_when_asked(write: Write):
    lines = [FLAG | {"pos": [], "pos_scores": []}, FLAG | {"query": "why?"}]
    data = read_training(write(lines), on_missing_positive="drop")
    assert (data.query_ids, data.queries, data.prompts) == (["1"], ["why?"], ["Find it:"])
    pairs = [{"query": q, "answer": "p", "label": n} for n, q in enumerate("ab")]
    with pytest.raises(ValueError, match=r"train.jsonl:1: the query 'a' has no positive"):
        read_training(write(pairs))
    assert read_training(write(pairs), on_missing_positive="drop").queries == ["b"]
    with pytest.raises(ValueError, match="no query has a positive"):
        read_training(write(pairs[:1]), on_missing_positive="drop")


def test_an_unknown_choice_is_an_error_that_lists_the_known_ones(write: Write):
    with pytest.raises(ValueError, match=r"format to be one of \['beir', .*got 'trec-run'"):
        read_training(write([DPR]), format="trec-run")
    with pytest.raises(ValueError, match=r"on_missing_positive to be 'error' or 'drop', got 'no'"):
        read_training(write([DPR]), on_missing_positive="no")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_training(write([DPR]).with_name("none"))


def test_a_packed_file_is_read(write: Write):
    path = write([TEVATRON])
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_training(path).query_ids == ["q1"]


# ---- training sets -------------------------------------------------------------------------------


@pytest.fixture
def data(write: Write) -> TrainingSet:
    third = {"query": "third", "pos": ["q", "r"], "neg": ["p"]}
    return read_training(write([FLAG, {"query": "why?", "pos": ["n"]}, third]))


@pytest.mark.parametrize(
    ("rows", "chosen"), [([2, 0], [2, 0]), (slice(1, None), [1, 2]), ([], []),
                         (np.array([True, False, True]), [0, 2]), ([-1, -1], [2, 2])],
)  # fmt: skip
def test_some_queries_are_taken_with_all_documents(data: TrainingSet, rows, chosen: list[int]):
    some = data.take(rows)
    assert len(some) == len(chosen)
    assert some.documents == data.documents
    assert some.queries == [data.queries[row] for row in chosen]
    for side in ("positives", "negatives"):
        listed = texts(data, getattr(data, side))
        assert texts(some, getattr(some, side)) == [listed[row] for row in chosen]
    lengths = np.diff(data.positives.offsets)
    parts = np.split(data.positive_scores, np.cumsum(lengths)[:-1])
    expected = [score for row in chosen for score in parts[row]]
    np.testing.assert_array_equal(some.positive_scores, expected)


def test_other_negatives_replace_those_of_the_file(data: TrainingSet):
    mined = data.with_negatives(Lists(np.array([0, 1, 1, 3]), np.array([3, 3, 2])))
    assert texts(mined, mined.negatives) == [["m"], [], ["m", "n"]]
    assert mined.negative_scores is None
    assert mined.positives is data.positives


@pytest.mark.parametrize(
    ("offsets", "indices", "complaint"),
    [
        ([0, 1, 1], [3], "expected negatives of 3 queries, got 2"),
        ([0, 1, 1, 1], [9], "negatives must be indices of documents, 0 to 4, got 9 for query 0"),
        ([0, 0, 2, 2], [3, 3], "negatives of query 1 name document 3 twice"),
        ([0, 0, 1, 1], [2], "document .* is both positive and negative of query '1'"),
    ],
)
def test_negatives_that_do_not_fit_are_refused(data: TrainingSet, offsets, indices, complaint):
    with pytest.raises(ValueError, match=complaint):
        data.with_negatives(Lists(np.array(offsets), np.array(indices)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"query_ids": ["1"]}, "expected 3 query_ids, got 1"),
        ({"answers": []}, "expected 3 answers, got 0"),
        ({"titles": ["T"]}, "expected 5 titles, got 1"),
        ({"prompts": ["P"]}, "expected 3 prompts, got 1"),
        ({"document_ids": ["1"]}, "expected 5 document_ids, got 1"),
        ({"positive_scores": np.zeros(1)}, "expected 5 positive_scores, got 1"),
        ({"positives": Lists(np.array([0, 1, 1, 2]), np.array([0, 1]))}, "query '1' has no posit"),
    ],
)
def test_parts_of_a_training_set_that_do_not_fit_are_refused(data: TrainingSet, change, complaint):
    parts = {"positive_scores": None, "negative_scores": None} | change
    with pytest.raises(ValueError, match=f"TrainingSet: {complaint}"):
        dataclasses.replace(data, **parts)


@pytest.mark.parametrize("name", ["positives", "negatives"])
@pytest.mark.parametrize(
    ("lists", "complaint"),
    [
        ([[0], [1], [2]], "two arrays of integers such as .*got list"),
        (None, "got NoneType"),
        (
            Lists(np.arange(4), np.array([0.0, 1, 2])),
            "got offsets and indices of int64 and float64",
        ),
        (Lists([0, 1, 2, 3], [0, 1, 2]), "got offsets and indices of list and list"),  # type: ignore[arg-type]
        (Lists.pack([[0], [1], [7]]), "must be indices of documents, 0 to 4, got 7 for query 2"),
        (Lists.pack([[0], [-1], [2]]), "must be indices of documents, 0 to 4, got -1 for query 1"),
    ],
)
def test_lists_of_another_kind_or_beyond_the_documents_are_named(data, name, lists, complaint: str):
    parts = {name: lists, "positive_scores": None, "negative_scores": None}
    with pytest.raises(ValueError, match=f"TrainingSet: {name} .*{complaint}"):
        dataclasses.replace(data, **parts)


# ---- real files ----------------------------------------------------------------------------------


def test_format_examples_of_flagembedding_load(data_folder: Path):
    paths = sorted((data_folder / "train_pairs" / "orig").rglob("*.jsonl"))
    assert len(paths) == 9
    for path in paths:
        data = read_training(path)
        assert len(data) == (11 if path.name == "llara_toy_finetune_data.jsonl" else 10)
        assert (np.diff(data.negatives.offsets) > 0).all()


def test_triples_of_splade_load(data_folder: Path):
    data = read_training(data_folder / "train_pairs" / "orig" / "splade_toy_data/triplets/raw.tsv")
    assert len(data) == 100


@pytest.mark.parametrize(
    ("name", "split", "n", "n_positives", "n_negatives"),
    [
        ("scifact", "train", 809, 919, 0),
        ("trecqa", "train", 83, None, None),
        ("time", "test", 82, None, 0),
        pytest.param("lama_trex", "test", 22881, None, 0, marks=pytest.mark.slow),
        pytest.param("wiki_mix", "nq", 2655, None, 0, marks=pytest.mark.slow),
        pytest.param("xquad_r", "th", 1190, None, 0, marks=pytest.mark.slow),
    ],
)
def test_collections_become_training_sets(
    data_folder: Path, name, split, n, n_positives, n_negatives
):
    root = data_folder / name / "beir"
    data = read_training(root, split=split, on_missing_positive="drop")
    known = set(data.document_ids)
    rows = (root / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]
    gains = [int(gain) for _, name, gain in map(str.split, rows) if name in known]
    if n_positives is None:
        n_positives = sum(gain > 0 for gain in gains)
    if n_negatives is None:
        n_negatives = sum(gain < 1 for gain in gains)
    assert len(data) == n
    assert (len(data.positives.indices), len(data.negatives.indices)) == (n_positives, n_negatives)


def test_answers_of_another_file_go_to_the_queries_with_their_ids():
    lists = Lists.pack([[0], [0]]), Lists.pack([[], []])
    data = TrainingSet(["q1", "q2"], ["who?", "what?"], ["d"], ["she"], *lists, [("he",), ("it",)])
    found = data.with_answers([Question("q2", "", ("a", "b")), Question("q3", "", ("c",))])
    assert found.answers == [(), ("a", "b")]
    assert data.answers == [("he",), ("it",)]
    with pytest.raises(ValueError, match="with_answers: expected ids of queries such as 'q1'"):
        data.with_answers([Question("x", "", ("a",))])
