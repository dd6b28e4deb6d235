"""`tilefold encode`: encodes a corpus into shards of embeddings."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data import read_documents
from ...progress import track
from ...retrieval.encode_shards import DTYPES, encode_shards
from ...scale import Workers, encode_on_workers
from ...scale.ray_cluster import import_ray
from ...scale.shard_encoding import open_document_encoder
from ..command_parser import CommandParser
from ..destination import check_folder
from ..device_option import DEVICE
from ..model_options import add_model_arguments, load_model, model_settings
from ..option_types import positive
from ..ray_options import add_ray, workers_of
from ..saved_options import options_of, save_options
from ..sources import check_source
from ..terminal import count, fact, note, title

if TYPE_CHECKING:
    from ...data.documents import Documents
    from ...models import BiEncoder


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold encode`."""
    parser.add_input(
        "data", "a folder of a collection, a file with its documents, or a name of ir_datasets"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the shards")
    option = parser.add_argument
    shards = "number of shards (default: 1)"
    option("--num-shards", type=positive, default=1, metavar="N", help=shards)
    option("--shard", type=int, metavar="I", help="write this shard alone, from 0 (default: all)")
    option(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type of vectors on disk (default: float32)",
    )
    add_model_arguments(parser, "document")
    add_ray(parser)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold encode`."""
    check_source(args.data)
    check_folder(args.out, "--out")
    if args.shard is not None and not 0 <= args.shard < args.num_shards:
        raise ValueError(f"--shard must be 0 to {args.num_shards - 1}, got {args.shard}")
    workers = _workers(args)
    if workers is not None:
        import_ray("tilefold encode --ray")
    from ...models.model_record import model_record

    # Workers open the model on their devices; here it is opened to know which one it is.
    model = load_model(args, device=None if workers is None else DEVICE)
    corpus = read_documents(args.data)
    title(f"{args.data} encoded by {args.model}")
    fact("documents", f"{len(corpus):,}, {model.dim} dimensions, {args.dtype}")
    begin, n_finished = time.perf_counter(), 0
    written = {path.name: _written(path) for path in Path(args.out).glob("*.safetensors")}
    shards = _shards(args, corpus, model, model_record(model, args.model), workers)
    total = args.num_shards if args.shard is None else 1
    for path in track(shards, "encode shards", total=total, show=workers is not None):
        n_finished += 1
        how = (
            "kept"
            if written.get(path.name) == _written(path)
            else f"{time.perf_counter() - begin:,.0f} s"
        )
        fact("shard", f"{path.name}, {how}")
    suffix = "" if args.shard is None else f"-{args.shard:05}"
    save_options(options_of(args), Path(args.out) / f"encode{suffix}.yaml")
    note(f"{count(n_finished, 'shard')} of {args.num_shards} in {args.out}.")
    return 0


def _workers(args: argparse.Namespace) -> Workers | None:
    on_gpu = args.ray is not None and args.device != DEVICE
    if on_gpu and args.device != "cuda":
        raise ValueError(
            f"--device with --ray: expected cpu or cuda (each worker gets a GPU of its own), got "
            f"{args.device!r}"
        )
    workers = workers_of(args, gpus=int(on_gpu))
    if workers is not None and args.shard is not None:
        raise ValueError("--shard encodes one shard in this process; leave it out with --ray")
    return workers


def _shards(
    args: argparse.Namespace,
    corpus: Documents,
    model: BiEncoder,
    record: Mapping[str, Any],
    workers: Workers | None,
) -> Iterator[Path]:
    plan: dict[str, Any] = {
        "titles": corpus.titles,
        "num_shards": args.num_shards,
        "dtype": args.dtype,
        "model": record,
    }
    if workers is None:
        encode = partial(model.encode_documents, batch_size=args.batch_size)
        return encode_shards(encode, corpus.texts, corpus.ids, args.out, shard=args.shard, **plan)
    open_encoder = partial(
        open_document_encoder,
        args.model,
        model_settings(args),
        record,
        device=args.device,
        batch_size=args.batch_size,
        threads=workers.threads,
    )
    return encode_on_workers(
        open_encoder, corpus.texts, corpus.ids, args.out, workers=workers, **plan
    )


def _written(path: Path) -> int:
    """Returns when a file was written, in nanoseconds."""
    return path.stat().st_mtime_ns
