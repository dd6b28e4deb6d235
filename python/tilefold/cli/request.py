"""What a verb was asked for: words, a YAML file of them, and the same beside the result."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files.atomic import replacing_text
from ..files.yaml_settings import as_yaml, read_settings

_INPUT = "input_name"  # of the attribute that holds what has no dash
_OF_FILE = "input_of_file"
_OWN = frozenset({"config", "run_verb", _INPUT, _OF_FILE})


def add_input(parser: argparse.ArgumentParser, name: str, meaning: str) -> None:
    """Adds the one argument without a dash, and --config FILE, which may name that, too."""
    parser.add_argument(name, nargs="?", help=meaning)
    parser.add_argument(f"--{name}", dest=_OF_FILE, help=argparse.SUPPRESS)
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file of options; the command line overrides it"
    )
    parser.set_defaults(**{_INPUT: name})


def with_file(verb: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The words of a command line after those of its --config FILE.

    Args:
        verb: its parser; one without `add_input` keeps its words.
        words: the verb, and what follows it.

    Raises:
        ValueError: a file that holds no settings.
        OSError: no such file.
    """
    if verb.get_default(_INPUT) is None:
        return list(words)
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config")
    config = reader.parse_known_args(words)[0].config
    if config is None:
        return list(words)
    said = {word.partition("=")[0] for word in words}
    return [*words[:1], *_words(read_settings(config), said), *words[1:]]


def _words(settings: dict[str, Any], said: set[str]) -> list[str]:
    """But for what is said on the command line, where lists would grow."""
    words: list[str] = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if option in said:
            continue
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        else:  # with "=", as a value may begin with "-"
            values = value if isinstance(value, list) else [value]
            words += [f"{option}={item}" for item in values]
    return words


def resolve(verb: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Takes from the file what has no dash, where the command line does not have it."""
    name = getattr(args, _INPUT, None)
    if name is None:
        return
    if getattr(args, name) is None:
        setattr(args, name, getattr(args, _OF_FILE))
    if getattr(args, name) is None:
        verb.error(f"the following arguments are required: {name}")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """All that is set, by default or not: what --config would have to hold."""
    return {
        name: [str(item) for item in value] if isinstance(value, list) else value
        for name, value in vars(args).items()
        if value is not None and name not in _OWN
    }


def save_request(args: argparse.Namespace, path: str | Path) -> None:
    """Writes what was asked for, to go with --config."""
    with replacing_text(path) as file:
        file.write(as_yaml(settings_of(args)))
