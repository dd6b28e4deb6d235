"""A small example of every format of data files."""

from typing import Any

from tilefold.data import Collection, Judgments, MultipleChoice, Question, Run, TrainingSet

PASSAGES = [{"docid": "1", "text": "p"}]
BEIR = {
    "corpus.jsonl": '{"_id": "1", "text": "one"}\n',
    "queries.jsonl": '{"_id": "q", "text": "?"}\n',
    "qrels/test.tsv": "q\t1\t1\n",
}
MSMARCO = {
    "collection.tsv": "1\tone\n2\ttwo\n",
    "queries.test.tsv": "7\t?\n",
    "qrels.test.tsv": "7 0 1 1\n",
}
# By format: the content of a file, or the files of a folder, and the class that reading gives.
EXAMPLES: dict[str, tuple[Any, type]] = {
    "beir": (BEIR, Collection),
    "msmarco": (MSMARCO, Collection),
    "dpr": ({"question": "?", "answers": [], "positive_ctxs": [{"text": "p"}]}, TrainingSet),
    "tevatron": ({"query_id": "1", "query": "?", "positive_passages": PASSAGES}, TrainingSet),
    "flagembedding": ({"query": "?", "pos": ["p"], "neg": []}, TrainingSet),
    "columns": ({"anchor": "?", "positive": "p"}, TrainingSet),
    "msmarco-triples": ("who?\tshe is\tit is\n", TrainingSet),
    "trec-run": ("q Q0 1 1 0.5 tag\n", Run),
    "dpr-run": ({"question": "?", "answers": [], "ctxs": [{"id": "1", "score": "2"}]}, Run),
    "trec-qrels": ("q 0 1 1\n", Judgments),
    "beir-qrels": ("query-id\tcorpus-id\tscore\nq\t1\t1\n", Judgments),
    "mteb-qrels": ({"query-id": "q", "corpus-id": "1", "score": 1}, Judgments),
    "nq-open": ({"question": "?", "answer": ["a"]}, Question),
    "popqa": ("id\tquestion\tpossible_answers\n1\t?\t[]".replace("[]", '"[""a""]"'), Question),
    "entityquestions": ({"question": "?", "answers": ["a"]}, Question),
    "answers": ({"_id": "?", "answers": ["a"]}, Question),
    "dpr-qa": ("who?\t['a']\n", Question),
    "mmlu": ("Which?,a,b,c,d,A\n", MultipleChoice),
    "arc": (
        {
            "id": "1",
            "question": {"stem": "?", "choices": [{"text": "a", "label": "A"}]},
            "answerKey": "A",
        },
        MultipleChoice,
    ),
    "instructions": (
        {
            "instruction": "Please choose the correct answer to the question: ?\n\nAnswer1: a\n\n"
            "Answer format: answer1",
            "answer": "answer1",
        },
        MultipleChoice,
    ),
}
