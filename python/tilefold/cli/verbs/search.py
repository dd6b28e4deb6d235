"""`tilefold search`: searches an encoded corpus, and writes a TREC run."""

from __future__ import annotations

import argparse

from ...data import Documents, read_documents, read_query_texts, write_run
from ...data.runs import check_run_names
from ...data.self_retrieval import same_ids, searched_identity
from ...progress import show_progress
from ...ragged_lists import Lists
from ...retrieval.corpus import Corpus, open_corpus
from ...retrieval.encode_shards import plan_of
from ...retrieval.running_search import SearchResult
from ...scale import ShardedSearch, Workers
from ...scale.ray_cluster import import_ray
from ..command_parser import CommandParser
from ..destination import check_writable
from ..device_option import search_placement
from ..model_options import add_model_arguments, load_model
from ..option_types import positive
from ..query_removal import add_remove_query, excluding, show_removed
from ..ray_options import add_ray, workers_of
from ..saved_options import options_of, save_options
from ..sources import check_encoded, check_no_saved_index, check_source
from ..terminal import clip, fact, heading, note, say, shown, title, width

# Results per query.
_IN_A_RUN, _SHOWN = 100, 10
_INDENT = " " * 13


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold search`."""
    parser.add_input(
        "corpus", "a folder of 'tilefold encode' or 'tilefold index'", rest="--query TEXT"
    )
    option = parser.add_argument
    option("--queries", metavar="FILE", help="a file of queries, or a folder of a collection")
    option("--query", nargs="+", action="extend", metavar="TEXT", help="the queries")
    option("--k", type=positive, metavar="N", help="results per query (100 in a run, else 10)")
    option("--run", metavar="FILE", help="write a TREC run")
    option("--texts", metavar="DATA", help="a collection whose texts are shown with results")
    add_remove_query(parser, "id for queries of BEIR, else none", rules=("id", "none"))
    add_model_arguments(parser, "query")
    add_ray(parser)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold search`."""
    if bool(args.query) == bool(args.queries):
        both = ", not both" if args.query else ""
        raise ValueError(f"give --query TEXT or --queries FILE{both}")
    if any(not text.strip() for text in args.query or []):
        raise ValueError("--query: expected a text, got a blank one")
    if args.queries and not args.run:
        raise ValueError("--queries needs --run FILE for the results")
    if args.texts and args.run:
        raise ValueError("--texts shows results, and --run writes them to a file; give one of them")
    if args.k is None:
        args.k = _IN_A_RUN if args.run else _SHOWN
    # Whatever would make the results useless is found before the model is loaded.
    check_writable(args.run, "--run")
    if args.texts:
        check_source(args.texts)
    check_encoded(args.corpus)
    check_no_saved_index(args.corpus, "tilefold search")
    workers = workers_of(args)
    if workers is not None:
        import_ray("tilefold search --ray")
        plan_of(args.corpus)  # an index in one piece has none
    corpus = open_corpus(args.corpus, verify=workers is None)  # workers verify their own shards
    documents = _documents(args.texts, corpus) if args.texts else None
    typed = {f"q{i}": text for i, text in enumerate(args.query or [], 1)}
    queries = read_query_texts(args.queries) if args.queries else typed
    if args.run:
        check_run_names(list(queries), corpus.names)
        title(f"{args.queries or 'queries'} against {args.corpus}")
        fact("queries", f"{len(queries):,} on {len(corpus.names):,} documents, k = {args.k}")
    own = _own_documents(args, list(queries), corpus)
    found = _search(args, corpus, list(queries.values()), own, workers)
    if args.run:
        write_run(args.run, list(queries), corpus.names, found.scores, found.ids)
        save_options(options_of(args), f"{args.run}.yaml")
        note(f"Wrote {args.run}.")
    else:
        _show(corpus, list(queries.values()), found, documents)
    return 0


def _documents(source: str, corpus: Corpus) -> Documents:
    """Reads the texts of a corpus.

    Raises:
        ValueError: they lack a document.
    """
    documents = read_documents(source)
    known = documents.rows()
    missing = next((name for name in corpus.names if name not in known), None)
    if missing is not None:
        raise ValueError(f"--texts: {source} lacks document {missing!r} of {corpus.folder}")
    return documents


def _own_documents(args: argparse.Namespace, names: list[str], corpus: Corpus) -> Lists:
    """Lists the documents with the id of each query where they are left out."""
    rule = args.remove_query
    if rule == "auto":
        rule = searched_identity(args.queries)
    own = same_ids(names, corpus.names if rule == "id" else [])
    show_removed(own, rule)
    return own


def _search(
    args: argparse.Namespace,
    corpus: Corpus,
    texts: list[str],
    own: Lists,
    workers: Workers | None,
) -> SearchResult:
    from ...models.model_record import model_record

    model = load_model(args)
    corpus.check_model(model_record(model, args.model), model.dim)
    vectors = model.encode_queries(texts, batch_size=args.batch_size)
    if workers is not None:
        opened = ShardedSearch(corpus.folder, workers=workers)
        with show_progress("search shards") as display, opened as sharded:
            found = sharded.search(vectors, args.k, exclude=excluding(own), progress=display)
            return SearchResult(found.scores, found.ids)
    with show_progress("search"):
        return corpus.search(
            vectors, args.k, exclude=excluding(own), placement=search_placement(args, args.k)
        )


def _show(
    corpus: Corpus, texts: list[str], found: SearchResult, documents: Documents | None
) -> None:
    row_of = {} if documents is None else documents.rows()
    for text, best, rows in zip(texts, found.scores, found.ids, strict=True):
        heading(clip(text, width()))
        for score, row in zip(best, rows, strict=True):
            if row < 0:
                continue
            name = corpus.names[row]
            say(f"  {score:>9.4f}  {shown(name)}")
            if documents is not None:
                place = row_of[name]
                parts = documents.titles[place], documents.texts[place]
                say(_INDENT + clip(": ".join(filter(None, parts)), width() - len(_INDENT)))
