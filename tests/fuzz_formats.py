"""Fuzzes the readers of data files, settings and tensors, guided by the lines that inputs reach.

    python tests/fuzz_formats.py --seconds 120

libFuzzer, by way of Atheris, changes files of every format so that they reach other lines of the
readers. A reader returns what it read, or raises ValueError or OSError with the name of the file,
within ten seconds. Inputs that reach new lines are kept in build/fuzz_formats/corpus for later
runs, and one that fails in build/fuzz_formats; `--replay FILE` reads it again.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import re
import secrets
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "build" / "fuzz_formats"
PACKAGES = ("tilefold.data", "tilefold.files")
SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".txt", ".trec", "")
# One input may take so long, and so much memory.
SECONDS, MEGABYTES = 10, 3000


def readers() -> list[tuple[str, Callable[[Path], Any]]]:
    """Returns the names of readers and what they do with a file; imports them."""
    from tilefold import data
    from tilefold.data import dpr_output
    from tilefold.files import strict_json, tensors, yaml_settings

    return [
        ("read", data.read),
        ("read_training", data.read_training),
        ("read_documents", data.read_documents),
        ("read_query_texts", data.read_query_texts),
        ("read_qrels", data.read_qrels),
        ("read_run", data.read_run),
        ("read_questions", data.read_questions),
        ("read_choices", data.read_choices),
        ("read_facts", data.read_facts),
        ("read_rewrites", lambda path: data.read_rewrites(path, ["q", "?"])),
        ("retrieved", lambda path: list(dpr_output.retrieved(path))),
        ("read_settings", lambda path: yaml_settings.read_settings(path, expand=False)),
        ("read_strict", strict_json.read_strict),
        ("map_tensors", tensors.map_tensors),
    ]


def seeds(kinds: list[int]) -> list[bytes]:
    """Returns inputs for every reader: each example under three endings."""
    from format_examples import EXAMPLES

    contents = [
        text if isinstance(text, str) else json.dumps(text) + "\n"
        for example, _ in EXAMPLES.values()
        for text in (example.values() if is_folder(example) else [example])
    ]
    contents += [
        'dim: 8\nmodel:\n  name: "bert"\n  layers: [1, 2]\n',
        '[["[MASK] is in France.", "Paris", "capital"]]',
        '{"sub_label": "France", "obj_label": "Paris", "predicate_id": "P36"}\n',
        '{"query": "q", "rewrites": ["who?", {"text": "who is it", "family": "typo"}]}\n',
    ]
    tensors = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    binary = len(tensors).to_bytes(8, "little") + tensors + bytes(8)
    return [
        bytes([reader, ending]) + content
        for reader, ending, content in itertools.product(
            kinds, (0, 2, 4), [*(text.encode() for text in contents), binary]
        )
    ]


def is_folder(example: Any) -> bool:
    return isinstance(example, dict) and all("." in name for name in example)


def check(read: Callable[[Path], Any], path: Path) -> None:
    """Reads a file, which must end in a value or in an error that names it."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        if path.name not in str(error):
            raise AssertionError(f"the error does not name the file: {error}") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120, help="how long (default: 120)")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    parser.add_argument("--replay", type=Path, default=None, help="read this input alone")
    parser.add_argument("--reader", default="", help="those whose names match (default: all)")
    arguments = parser.parse_args()
    if arguments.seconds < 1:
        parser.error("--seconds must be at least 1")
    if importlib.util.find_spec("atheris") is None:
        print("fuzz_formats: left out; Atheris has no wheel for this Python and system")
        return 0
    import atheris

    named = readers()
    kinds = [i for i, (name, _) in enumerate(named) if re.search(arguments.reader, name)]
    if not kinds:
        parser.error(f"--reader must match one of {', '.join(name for name, _ in named)}")
    # The import hook of Atheris does not reach the modules of an editable install.
    for function in gc.get_objects():
        module = getattr(function, "__module__", None) or ""
        if isinstance(function, types.FunctionType) and module.startswith(PACKAGES):
            atheris.instrument_func(function)
    warnings.simplefilter("ignore")  # such as those of repeated ids
    files, corpus = FOLDER / "files", FOLDER / "corpus"
    for folder in (files, corpus):
        folder.mkdir(parents=True, exist_ok=True)

    def one_input(content: bytes) -> int:
        """Reads what follows two bytes, which choose the reader and the ending of the file."""
        number = content[0] % len(named) if len(content) >= 2 else -1
        if number not in kinds:
            return -1  # not for the corpus
        name, read = named[number]
        path = files / f"{name}{SUFFIXES[content[1] % len(SUFFIXES)]}"
        path.write_bytes(content[2:])
        check(read, path)
        return 0

    if arguments.replay is not None:
        read = one_input(arguments.replay.read_bytes()) == 0
        print("fuzz_formats: the input", "is read, or refused by name" if read else "has no reader")
        return 0
    seed = secrets.randbelow(2**31) + 1 if arguments.seed is None else arguments.seed
    for number, content in enumerate(seeds(kinds)):
        (corpus / f"seed-{number:04}").write_bytes(content)
    names = ", ".join(named[kind][0] for kind in kinds)
    print(f"fuzz_formats: seed {seed}, readers {names}", flush=True)
    settings = {
        "max_total_time": arguments.seconds,
        "seed": seed,
        "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES,
        "max_len": 4096,
        "artifact_prefix": f"{FOLDER}/",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in settings.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one_input)
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
