"""Splits the judged queries of a BEIR folder in two; no passage is relevant to queries of both.

    python examples/split_by_passage.py wiki_mix/beir build/wiki_mix --split nq

The new folder has the splits "train" and "test"; corpus and queries are links to the old ones.
"""

import argparse
import random
from itertools import pairwise
from pathlib import Path

from tilefold.data import read_collection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="BEIR folder to read")
    parser.add_argument("out", type=Path, help="folder to write, without a split yet")
    parser.add_argument("--split", default="test", help="split of the folder (%(default)s)")
    parser.add_argument(
        "--test-share", type=float, default=0.3, help="share of queries for testing (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (%(default)s)")
    args = parser.parse_args()

    collection = read_collection(args.folder, args.split)
    offsets, ids, gains = collection.qrels
    relevant = [
        [int(i) for i, gain in zip(ids[a:b], gains[a:b], strict=True) if gain >= 1]
        for a, b in pairwise(offsets)
    ]
    groups = grouped(relevant)
    random.Random(args.seed).shuffle(groups)
    wanted = args.test_share * len(relevant)
    sides: dict[str, list[int]] = {"test": [], "train": []}
    for group in groups:
        sides["test" if len(sides["test"]) < wanted else "train"] += group

    (args.out / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (args.out / name).symlink_to((args.folder / name).resolve())
    for side, rows in sides.items():
        lines = [
            f"{collection.query_ids[row]}\t{collection.document_ids[i]}\t1\n"
            for row in sorted(rows)
            for i in relevant[row]
        ]
        path = args.out / "qrels" / f"{side}.tsv"
        path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
        print(f"{side}: {len(rows):,} queries in {path}")


def grouped(relevant: list[list[int]]) -> list[list[int]]:
    """Groups queries that share a passage, directly or through other queries."""
    leader = list(range(len(relevant)))

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    first: dict[int, int] = {}
    for row, passages in enumerate(relevant):
        for passage in passages:
            leader[find(row)] = find(first.setdefault(passage, row))
    groups: dict[int, list[int]] = {}
    for row in range(len(relevant)):
        groups.setdefault(find(row), []).append(row)
    return list(groups.values())


if __name__ == "__main__":
    main()
