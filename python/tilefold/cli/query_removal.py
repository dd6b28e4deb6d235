"""The option --remove-query: documents that are the query itself are left out, and counted."""

from __future__ import annotations

import argparse
from typing import Any

from ..data import Collection, TrainingSet, own_documents
from ..data.self_retrieval import IDENTITIES, chosen_identity, relevant_documents, same_texts
from ..ragged_lists import Lists
from .terminal import count, fact

_NAMES = {
    "id": "the id of their query",
    "text": "the text of their query",
    "both": "the id or the text of their query",
}


def add_remove_query(
    parser: argparse.ArgumentParser, default: str, *, rules: tuple[str, ...] = IDENTITIES
) -> None:
    """Adds --remove-query.

    Args:
        parser: of a verb.
        default: what "auto" means for the verb, for the help.
        rules: besides "auto".
    """
    parser.add_argument(
        "--remove-query",
        choices=("auto", *rules),
        default="auto",
        metavar="RULE",
        help=f"leave out documents that are the query itself: auto, {', '.join(rules)} "
        f"(default: auto, which is {default})",
    )


def evaluated_own(collection: Collection, choice: str, source: Any) -> Lists:
    """Lists the documents that an evaluation leaves out, and prints how many there are.

    Args:
        collection: documents, queries and judgments.
        choice: of --remove-query.
        source: where the collection was read.
    """
    relevant = relevant_documents(collection.qrels)
    rule = chosen_identity(choice, source, collection, relevant, texts=False)
    own = own_documents(collection, rule)
    show_removed(own, rule)
    if choice == "auto" and rule == "none":
        _show_kept(collection)
    return own


def mined_own(data: TrainingSet, choice: str, source: Any) -> Lists:
    """Lists the documents that are no negatives as they are the query, and prints how many."""
    rule = chosen_identity(choice, source, data, data.positives, texts=True)
    own = own_documents(data, rule)
    show_removed(own, rule)
    return own


def _show_kept(collection: Collection) -> None:
    """Prints how many documents "auto" keeps though they have the text of a query."""
    kept = same_texts(collection.queries, collection.documents, collection.titles)
    if len(kept.indices):
        number = count(len(kept.indices), "document")
        fact("", f"{number} with {_NAMES['text']} kept (--remove-query none)")


def show_removed(own: Lists, rule: str) -> None:
    """Prints how many documents are left out, if any."""
    if len(own.indices):
        number = count(len(own.indices), "document")
        fact("left out", f"{number} with {_NAMES[rule]} (--remove-query {rule})")


def excluding(own: Lists) -> Lists | None:
    """Returns lists as `exclude` of a search; None where they are empty, which costs nothing."""
    return own if len(own.indices) else None
