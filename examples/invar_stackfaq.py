"""Prepares Invar-RAG on StackFAQ: questions that ten people worded each, and answers to find.

    python examples/invar_stackfaq.py ../shared/data/stackfaq/beir build/stackfaq
    tilefold invar run --config examples/invar_stackfaq.yaml

Of the ten wordings of a question, the first three are for training (the question and two rewrites),
the next two for the split dev, on which settings are chosen, and the last five for the split test.
With --new-questions, training has one half of the questions, and dev and test have the other half.
Answers have no titles: a title is one more wording of the question.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

# Places of the wordings of each split: the question, then its rewrites.
SPLITS = {"train": (0, 1, 2), "dev": (3, 4), "test": (5, 6, 7, 8, 9)}
QUESTION = re.compile(r"q(\d+)-(\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="BEIR folder to read")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--new-questions", action="store_true", help="test on questions without training"
    )
    args = parser.parse_args()

    (args.out / "qrels").mkdir(parents=True, exist_ok=True)
    answers = [{**row, "title": ""} for row in rows(args.folder / "corpus.jsonl")]
    write(args.out / "corpus.jsonl", answers)
    queries = list(rows(args.folder / "queries.jsonl"))
    write(args.out / "queries.jsonl", queries)

    wordings: dict[int, dict[int, str]] = defaultdict(dict)
    for row in queries:
        match = QUESTION.fullmatch(row["_id"])
        assert match, row["_id"]
        wordings[int(match[1])][int(match[2])] = row["text"]
    relevant: dict[str, list[str]] = defaultdict(list)
    for line in (args.folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        relevant[query].append(document)
    for split, places in SPLITS.items():
        kept = [
            number
            for number in wordings
            if not args.new_questions or (number % 2 == 0) == (split == "train")
        ]
        write_split(args.out, split, places, {one: wordings[one] for one in kept}, relevant)


def write_split(
    out: Path,
    split: str,
    places: tuple[int, ...],
    wordings: dict[int, dict[int, str]],
    relevant: dict[str, list[str]],
) -> None:
    """Writes the judgments of the first wording of each question, and the others as rewrites."""
    lines, rewrites = ["query-id\tcorpus-id\tscore\n"], []
    for number, texts in wordings.items():
        query = f"q{number}-{places[0]}"
        lines += [f"{query}\t{document}\t1\n" for document in relevant[query]]
        own = [texts[place] for place in places[1:] if place in texts]
        rewrites.append({"_id": query, "rewrites": own})
    (out / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    write(out / f"{split}_rewrites.jsonl", rewrites)
    print(f"{split}: {len(rewrites):,} questions with {len(places) - 1} rewrites")


def rows(path: Path) -> list[dict[str, str]]:
    """Reads JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, records: list[dict[str, object]]) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")


if __name__ == "__main__":
    main()
