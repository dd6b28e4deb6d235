"""Writes facts of ParaRel as questions of a retriever: prompts, and statements true and false.

    python examples/pararel.py ../shared/data/pararel/fact_bags.json build/pararel.jsonl

A query is a prompt with [MASK], its positive the fact stated, and its hard negatives the same
sentence with objects of other facts of the relation: only knowledge tells them apart. Prompts of a
fact are paraphrases of each other, and none of them has the words of the statements.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

_PROMPTS = 4  # of a fact
_NEGATIVES = 4
_MASK = "[MASK]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bags", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--facts", type=int, default=500, help="(default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    bags = json.loads(args.bags.read_text())
    objects = defaultdict(set)
    for bag in bags:
        objects[bag[0][2]].add(bag[0][1])
    rng = random.Random(args.seed)
    rng.shuffle(bags)
    usable = [b for b in bags if len(b) > _PROMPTS and len(objects[b[0][2]]) > _NEGATIVES]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w") as file:
        for bag in usable[: args.facts]:
            said, right, relation = bag[0]
            wrong = rng.sample(sorted(objects[relation] - {right}), _NEGATIVES)
            for prompt, _, _ in bag[1 : 1 + _PROMPTS]:
                positive, *negatives = (said.replace(_MASK, word) for word in (right, *wrong))
                record = {"query": prompt, "pos": [positive], "neg": negatives}
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
