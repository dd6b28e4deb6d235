"""Data sets by their name in `ir_datasets`, such as "beir/scifact", as files in BEIR layout.

The files are written once, into the folder of ir_datasets (IR_DATASETS_HOME, or ~/.ir_datasets),
and are then read like any other collection; title and text stay separate. ir_datasets downloads
what it does not find there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..files.atomic import replacing_text

_NAME = re.compile(r"[a-z0-9][\w.-]*(/[\w.-]+)*")


def is_dataset_name(source: Any) -> bool:
    """Returns whether a source is the name of a data set of ir_datasets and not a path.

    An existing file or folder is a path, whatever its name; so is everything while ir_datasets is
    not installed.
    """
    if not isinstance(source, str) or not _NAME.fullmatch(source) or Path(source).exists():
        return False
    return _is_installed() and source in _registry()


def install_hint(source: Any) -> str:
    """Returns the end of an error message about a missing file that may be meant as a data set."""
    if isinstance(source, Path | str) and _NAME.fullmatch(str(source)) and not _is_installed():
        return '; data sets by name need ir_datasets: pip install "tilefold[data]"'
    return ""


def dataset_documents(name: str) -> Path:
    """Returns the file with the documents of a data set, written on the first call.

    Args:
        name: such as "beir/scifact" or "beir/scifact/test".

    Raises:
        ValueError: the data set has no documents, or they have no text.
        OSError: they cannot be downloaded.
    """
    dataset = _with(name, "docs", "documents")
    path = _folder(dataset.docs_namespace() or name) / "corpus.jsonl"  # shared by all splits
    if not path.exists():
        with _downloads(name):
            _write(path, (_document_fields(name, document) for document in dataset.docs_iter()))
    return path


def dataset_queries(name: str) -> Path:
    """Returns the file with the queries of a data set, judged or not, written on the first call.

    Raises:
        ValueError: the data set has no queries.
        OSError: they cannot be downloaded.
    """
    path = _folder(name) / "queries.jsonl"
    if not path.exists():
        dataset = _with(name, "queries", "queries")
        with _downloads(name):
            fields = ({"_id": q.query_id, "text": _text(name, q)} for q in dataset.queries_iter())
            _write(path, fields)
    return path


def dataset_split(name: str, split: str) -> tuple[Path, Path, Path]:
    """Returns the files with the documents, queries and judgments of a split.

    A split is the last part of a name of ir_datasets: "beir/scifact/test" is the split "test" of
    "beir/scifact". A data set with judgments of its own and no such parts has the split "test".

    Args:
        name: with or without the split.
        split: such as "train", "dev" or "test".

    Raises:
        ValueError: there are no judgments for this split; lists the splits that exist.
        OSError: they cannot be downloaded.
    """
    judged = _judged_name(name, split)
    qrels = _folder(judged) / "qrels.tsv"
    if not qrels.exists():
        with _downloads(name):
            _write_qrels(qrels, _with(judged, "qrels", "judgments").qrels_iter())
    return dataset_documents(name), dataset_queries(judged), qrels


# ---- names ---------------------------------------------------------------------------------------


def _judged_name(name: str, split: str) -> str:
    """Returns the name of the data set that has the judgments of a split."""
    names = _splits(name)
    if split not in names:
        listed = ", ".join(names) or "none"
        raise ValueError(f"{name} has no split {split!r} with judgments; it has: {listed}")
    return names[split]


def _splits(name: str) -> dict[str, str]:
    """Returns the data set with the judgments of each split."""
    prefix = f"{name}/"
    below = [other for other in _registry() if other.startswith(prefix)]
    found = {other.removeprefix(prefix): other for other in below if _has(other, "qrels")}
    if _has(name, "qrels"):
        last = name.rpartition("/")[2]
        is_split = name.rpartition("/")[0] in _registry() and last in ("train", "dev", "test")
        found.setdefault(last if is_split else "test", name)
    return found


def _is_installed() -> bool:
    return importlib.util.find_spec("ir_datasets") is not None


def _module() -> Any:
    return importlib.import_module("ir_datasets")


def _registry() -> list[str]:
    return list(_module().registry)


def _has(name: str, part: str) -> bool:
    return bool(getattr(_module().load(name), f"has_{part}")())


def _with(name: str, part: str, described: str) -> Any:
    """Loads a data set that has a part, such as "docs"."""
    if not _has(name, part):
        raise ValueError(f"{name}: this data set of ir_datasets has no {described}")
    return _module().load(name)


def _folder(name: str) -> Path:
    """Returns the folder for the files of a data set."""
    return Path(_module().util.home_path()) / "tilefold" / name


# ---- downloads -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _downloads(name: str) -> Iterator[None]:
    """Turns what ir_datasets raises and logs where it cannot download into one short error."""
    requests = importlib.import_module("requests")  # a dependency of ir_datasets
    logger = logging.getLogger("ir_datasets")
    logger.addFilter(_is_no_failure)
    try:
        yield
    except requests.RequestException as error:
        raise OSError(_not_downloaded(name, error)) from error
    except RuntimeError as error:  # several sources, each with its own error
        if len(error.args) != 2 or not isinstance(error.args[1], list):
            raise
        raise OSError(_not_downloaded(name, error.args[1][-1][-1])) from error
    finally:
        logger.removeFilter(_is_no_failure)


def _is_no_failure(record: logging.LogRecord) -> bool:
    """Returns False for messages about a download that failed, which the error repeats."""
    return not record.getMessage().lower().startswith(("download error", "download failed"))


def _not_downloaded(name: str, error: Exception) -> str:
    request, response = (getattr(error, part, None) for part in ("request", "response"))
    host = urlsplit(getattr(request, "url", None) or "").hostname or "its source"
    status = " (no network?)" if response is None else f" with status {response.status_code}"
    cause = f"{type(error).__name__} of {host}"
    return f"{name} could not be downloaded{status}: {cause}; pass a folder"


# ---- files ---------------------------------------------------------------------------------------


def _document_fields(name: str, document: Any) -> dict[str, str]:
    title = getattr(document, "title", "") or ""
    return {"_id": document.doc_id, "title": title, "text": _text(name, document)}


def _text(name: str, item: Any) -> str:
    """Returns the field `text`, or else all that ir_datasets regards as the text."""
    text = getattr(item, "text", None)
    text = item.default_text() if text is None else text
    if not isinstance(text, str):
        raise ValueError(f"{name}: expected texts, got {type(text).__name__}")
    return text


def _write(path: Path, records: Iterable[dict[str, str]]) -> None:
    """Writes JSON lines; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_text(path) as file:
        for record in records:
            if not record["_id"]:
                raise ValueError(
                    f"{path.parent.name}: a document or query of ir_datasets has no id"
                )
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_qrels(path: Path, judgments: Iterator[Any]) -> None:
    """Writes judgments as BEIR does; of a pair judged twice alike, one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_text(path) as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query, group in groupby(judgments, key=lambda judgment: judgment.query_id):
            gains = dict.fromkeys((judgment.doc_id, judgment.relevance) for judgment in group)
            for document, gain in gains:
                _check_cells(query, document)
                file.write(f"{query}\t{document}\t{gain}\n")


def _check_cells(*names: str) -> None:
    """Refuses ids that a row between tabs cannot hold."""
    for name in names:
        if not name or set(name) & set("\t\r\n"):
            raise ValueError(f"ir_datasets: id {name!r} is empty, or has a tab or a line break")
