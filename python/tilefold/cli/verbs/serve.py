"""`tilefold serve`: answers queries over HTTP from an index, and compares two."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...data import Documents, read_documents
from ...files.printable import escaped
from ...files.secrets import redacted
from ..command_parser import CommandParser
from ..model_options import add_model_arguments, load_model
from ..option_types import positive
from ..sources import check_encoded, check_source
from ..terminal import count, fact, note, title

if TYPE_CHECKING:
    from ...service import HttpServer, IndexSlot, ServiceLimits
    from ...service.served_index import QueryEncoder

_DEFAULT_MODEL = "minilm"
_MIB = 1 << 20


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold serve`."""
    parser.add_input("folder", "a folder of 'tilefold encode', 'tilefold index' or FlatIndex.save")
    option = parser.add_argument
    option("--compare", metavar="FOLDER", help="a second index, shown beside the first")
    option("--compare-model", metavar="NAME", help="its model (default: that of --model)")
    option("--texts", metavar="DATA", help="a collection whose texts are shown with results")
    option(
        "--vectors-only",
        action="store_true",
        help="load no model: queries are vectors; the default for FlatIndex.save",
    )
    _add_address(parser)
    _add_limits(parser)
    add_model_arguments(parser, "query", default=None, searches=False)


def _add_address(parser: CommandParser) -> None:
    option = parser.add_argument_group("address").add_argument
    option("--host", default="127.0.0.1", metavar="NAME", help="default: 127.0.0.1")
    option("--port", type=_port, default=8000, metavar="N", help="0 for a free one (default: 8000)")
    option(
        "--token-file",
        metavar="FILE",
        help="a file with the token that clients send (default: the variable "
        "TILEFOLD_SERVE_TOKEN); none is possible on a loopback address alone",
    )


def _add_limits(parser: CommandParser) -> None:
    option = parser.add_argument_group("limits").add_argument

    def number(name: str, default: int, text: str) -> None:
        text = f"{text} (default: {default})"
        option(name, type=positive, default=default, metavar="N", help=text)

    number("--max-batch", 256, "queries in one call of the kernel; 1 for a call per request")
    number("--max-queue", 4096, "queries that wait; beyond, requests get status 503")
    number("--max-queries", 256, "queries in a request")
    number("--max-k", 1000, "results per query")
    number("--max-query-chars", 8192, "characters of a query")
    number("--max-body-bytes", 4 * _MIB, "bytes of a request")
    number("--max-connections", 1024, "connections; beyond, requests get status 503")
    option(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="for an answer; beyond, a request gets status 504 (default: 30)",
    )
    option(
        "--max-wait",
        type=float,
        default=5.0,
        metavar="MILLISECONDS",
        help="that a call waits for the clients of the last one; never when idle (default: 5)",
    )
    option("--threads", type=positive, metavar="N", help="of search and model (default: all CPUs)")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold serve`."""
    folders = [folder for folder in (args.folder, args.compare) if folder is not None]
    _check(args, folders)
    from ...service import LOOPBACK, HttpServer, create_app
    from ...service.bearer_token import read_token

    limits, token = _limits(args), read_token(args.token_file)
    server = HttpServer(args.host, args.port)
    try:
        if token is None and not server.is_loopback:
            raise ValueError(
                f"--host {args.host} can be reached from other machines and needs a token: "
                "--token-file FILE, or the variable TILEFOLD_SERVE_TOKEN"
            )
        slots = _slots(args, folders)
        names = (*LOOPBACK, args.host.lower(), server.url.rpartition(":")[0].partition("//")[2])
        app = create_app(slots, limits=limits, token=token, hosts=names, num_threads=args.threads)
        _start_log()
        server.run(
            app,
            timeout=args.timeout,
            max_connections=args.max_connections,
            started=lambda: _show(server, slots, limits, token is not None),
        )
    finally:
        server.close()
    note("Stopped.")
    return 0


def _check(args: argparse.Namespace, folders: list[str]) -> None:
    """Finds what is wrong before anything is loaded."""
    for folder in folders:
        check_encoded(folder)
    if args.texts is not None:
        check_source(args.texts)
    if args.compare_model is not None and args.compare is None:
        raise ValueError("--compare-model is the model of --compare FOLDER, which is missing")
    if args.vectors_only and (args.model or args.compare_model):
        raise ValueError("--vectors-only loads no model; leave out --model and --compare-model")


def _limits(args: argparse.Namespace) -> ServiceLimits:
    from ...service import ServiceLimits

    return ServiceLimits(
        max_batch=args.max_batch,
        max_queue=args.max_queue,
        max_wait=args.max_wait / 1e3,
        max_queries=args.max_queries,
        max_k=args.max_k,
        max_query_chars=args.max_query_chars,
        max_body_bytes=args.max_body_bytes,
        timeout=args.timeout,
    )


def _slots(args: argparse.Namespace, folders: list[str]) -> list[IndexSlot]:
    from ...service import IndexSlot, open_served
    from ...service.served_index import served_fingerprint

    for folder in folders:
        served_fingerprint(folder)  # a folder of another kind is found before a model is loaded
    documents: Documents | None = read_documents(args.texts) if args.texts else None
    slots = []
    for folder, encoder in zip(folders, _encoders(args, folders), strict=True):
        open_index = partial(open_served, folder, encoder=encoder, documents=documents)
        slots.append(IndexSlot(open_index, partial(served_fingerprint, folder)))
    return slots


def _encoders(args: argparse.Namespace, folders: list[str]) -> list[QueryEncoder | None]:
    """Opens the model of each index, once where both have the same."""
    if args.vectors_only:
        return [None] * len(folders)
    opened: dict[tuple[str, bool], QueryEncoder] = {}
    encoders: list[QueryEncoder | None] = []
    for folder in folders:
        other = folder is args.compare and args.compare_model is not None
        name = args.compare_model if other else args.model or _default_model(folder)
        if name is None:
            encoders.append(None)
            continue
        if (name, other) not in opened:
            opened[name, other] = _open_encoder(args, name, has_settings=not other)
        encoders.append(opened[name, other])
    return encoders


def _default_model(folder: str) -> str | None:
    """Returns the default of all verbs; None for an index that has no record of a model."""
    return None if (Path(folder) / "manifest.json").is_file() else _DEFAULT_MODEL


def _open_encoder(args: argparse.Namespace, name: str, *, has_settings: bool) -> QueryEncoder:
    """Opens a model; --pooling and its like are settings of --model alone."""
    from ...models.model_record import model_record
    from ...service.served_index import QueryEncoder

    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    settings = vars(args) if has_settings else {"device": args.device}
    model = load_model(argparse.Namespace(**{**settings, "model": name}))
    encode = partial(model.encode_queries, batch_size=args.batch_size, progress=False)
    return QueryEncoder(encode, model.dim, model_record(model, name))


def _show(
    server: HttpServer, slots: list[IndexSlot], limits: ServiceLimits, has_token: bool
) -> None:
    title(f"serving {' and '.join(slot.current.name for slot in slots)} at {server.url}")
    for slot in slots:
        served = slot.current
        size = f"{count(len(served.index), 'document')}, {served.index.dim} dimensions"
        model = "vectors only" if served.encoder is None else served.encoder.record["name"]
        fact(served.name[:10], f"{size}, {model}")
    batches = f"up to {count(limits.max_batch, 'query')}" if limits.max_batch > 1 else "off"
    fact("batches", batches)
    fact("token", "required" if has_token else "none: this machine alone can reach it")
    note(f"Try queries at {server.url}/ ; the interface is at {server.url}/docs . Ctrl-C stops it.")


def _start_log() -> None:
    """Writes reloads, and warnings of the service and its server, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("tilefold.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


class _OneLine(logging.Formatter):
    """Escapes what would command a terminal, and redacts tokens."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as it is written."""
        return redacted(escaped(super().format(record), lines=True))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, got {text}")
    return int(text)
