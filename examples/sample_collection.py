"""Draws some queries of a BEIR folder with their passages, and other passages to tell them from.

    python examples/split_by_passage.py ../shared/data/wiki_mix/beir build/nq --split nq
    python examples/sample_collection.py build/nq build/nq_small --train 320 --test 300

The new folder has the splits of the old one, each with the drawn queries, and is small enough for
a retriever of 135 million weights without a GPU.
"""

import argparse
import json
import random
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="BEIR folder with the splits train and test")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--train", type=int, default=320, help="queries (%(default)s)")
    parser.add_argument("--test", type=int, default=300, help="queries (%(default)s)")
    parser.add_argument("--passages", type=int, default=2000, help="at least (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    (args.out / "qrels").mkdir(parents=True, exist_ok=True)
    relevant: set[str] = set()
    for split, size in (("train", args.train), ("test", args.test)):
        rows = drawn(args.folder / "qrels" / f"{split}.tsv", size, rng)
        relevant.update(row[1] for row in rows)
        lines = ["query-id\tcorpus-id\tscore\n", *("\t".join(row) + "\n" for row in rows)]
        (args.out / "qrels" / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
        print(f"{split}: {len({row[0] for row in rows}):,} queries")
    corpus = (args.folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    others = [place for place, line in enumerate(corpus) if json.loads(line)["_id"] not in relevant]
    rng.shuffle(others)
    left_out = set(others[max(0, args.passages - (len(corpus) - len(others))) :])
    kept = [f"{line}\n" for place, line in enumerate(corpus) if place not in left_out]
    (args.out / "corpus.jsonl").write_text("".join(kept), encoding="utf-8")
    queries = (args.folder / "queries.jsonl").read_text(encoding="utf-8")
    (args.out / "queries.jsonl").write_text(queries, encoding="utf-8")
    print(f"{args.out}: {len(kept):,} passages")


def drawn(path: Path, size: int, rng: random.Random) -> list[list[str]]:
    """Returns the judgments of some of the queries of a split."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    queries = sorted({row[0] for row in rows})
    kept = set(rng.sample(queries, min(size, len(queries))))
    return [row for row in rows if row[0] in kept]


if __name__ == "__main__":
    main()
