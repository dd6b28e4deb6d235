"""Parsers of the command and its verbs: options of a verb are made when the verb is used.

A verb may take ``--config FILE``, a YAML file of its options that the command line overrides, and
one argument without dashes, which the file may name as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..files.yaml_settings import read_settings


class CommandParser(argparse.ArgumentParser):
    """A parser that adds its options on first use, reads ``--config``, and takes no abbreviation.

    Args:
        add_options: adds the options; importing a verb is left to it, so that the help of the whole
            command imports none.
        **options: of `argparse.ArgumentParser`.
    """

    def __init__(
        self, *, add_options: Callable[[CommandParser], None] | None = None, **options: Any
    ) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation on the command line would not override the full name in a file.
        super().__init__(allow_abbrev=False, **options)
        self._add_options = add_options
        self._takes_config = False
        self._input: argparse.Action | None = None
        self.keeps_unknown = False  # unknown options are the verb's own business

    def add_config(self) -> None:
        """Adds ``--config``."""
        self._takes_config = True
        self.add_argument(
            "--config", metavar="FILE", help="YAML file of options; the command line overrides it"
        )

    def add_input(self, name: str, description: str) -> None:
        """Adds the argument without dashes, and ``--config``, whose file may name it."""
        self._input = self.add_argument(name, nargs="?", help=description)
        self.add_argument(f"--{name}", dest=f"{name}_of_file", help=argparse.SUPPRESS)
        self.add_config()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words of a command line after those of its file.

        Raises:
            ValueError: a file that holds no settings.
            OSError: no such file.
        """
        words = list(sys.argv[1:] if args is None else args)
        if self._add_options is not None:
            add, self._add_options = self._add_options, None
            add(self)
        if self._takes_config:
            words = with_config(words)
        namespace, unknown = super().parse_known_args(words, namespace)
        if self._input is not None:
            self._resolve_input(namespace, self._input.dest)
        if unknown and not self.keeps_unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _resolve_input(self, namespace: argparse.Namespace, name: str) -> None:
        of_file = vars(namespace).pop(f"{name}_of_file")
        if getattr(namespace, name) is None:
            setattr(namespace, name, of_file)
        if getattr(namespace, name) is None:
            self.error(f"the following arguments are required: {name}")


def with_config(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line after those of its ``--config`` file.

    Options that are on the command line are left out of the file's, where lists would grow.

    Raises:
        ValueError: a file that holds no settings.
        OSError: no such file.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--config")
    try:
        path = reader.parse_known_args(list(words))[0].config
    except argparse.ArgumentError:  # --config without a file: the verb's own parser says so
        return list(words)
    if path is None:
        return list(words)
    given = {word.partition("=")[0] for word in words}
    given |= {f"--{option[5:]}" for option in given if option.startswith("--no-")}
    settings = read_settings(path).items()
    lists = [_option_words(name, value) for name, value in settings if _option(name) not in given]
    return [*(word for one in lists for word in one), *words]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option_words(name: str, value: Any) -> list[str]:
    option = _option(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    values = value if isinstance(value, list) else [value]
    return [f"{option}={item}" for item in values]  # with "=", as a value may begin with "-"
