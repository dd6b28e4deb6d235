"""Parsers of the command and its verbs: options of a verb are made when the verb is used.

A verb may take ``--config FILE``, a YAML file of its options that the command line overrides, and
one argument without dashes, which the file may name as well.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from ..files.printable import escaped
from ..files.secrets import redacted
from ..files.yaml_settings import read_settings


class CommandParser(argparse.ArgumentParser):
    """A parser that adds its options on first use, reads ``--config``, and takes no abbreviation.

    Errors of usage are two lines: the error, with the most similar option where one is unknown, and
    the command that shows the options.

    Args:
        add_options: adds the options; importing a verb is left to it, so that the help of the whole
            command imports none.
        **options: of `argparse.ArgumentParser`.
    """

    def __init__(
        self, *, add_options: Callable[[CommandParser], None] | None = None, **options: Any
    ) -> None:
        options.setdefault("formatter_class", _HelpFormatter)
        # An abbreviation on the command line would not override the full name in a file.
        super().__init__(allow_abbrev=False, **options)
        self._add_options = add_options
        self._takes_config = False
        self._input: argparse.Action | None = None
        self._option_of_words: str | None = None
        self.keeps_unknown = False  # unknown options are the verb's own business

    def add_config(self) -> None:
        """Adds ``--config``."""
        self._takes_config = True
        self.add_argument(
            "--config", metavar="FILE", help="YAML file of options; the command line overrides it"
        )

    def add_input(self, name: str, description: str, *, rest: str | None = None) -> None:
        """Adds the argument without dashes, and ``--config``, whose file may name it.

        Args:
            name: of the argument.
            description: for the help.
            rest: an option, such as "--query TEXT", that further words may be meant for.
        """
        self._option_of_words = rest
        self._input = self.add_argument(name, nargs="?", help=description)
        self.add_argument(f"--{name}", dest=f"{name}_of_file", help=argparse.SUPPRESS)
        self.add_config()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words of a command line after those of its file.

        ``command`` of the namespace is the name of the innermost command: "tilefold mechanisms
        probe". A file that cannot be read, or a package that a verb lacks, exits with status 1.
        """
        words = self._prepared(list(sys.argv[1:] if args is None else args))
        namespace, unknown = super().parse_known_args(words, namespace)
        if not hasattr(namespace, "command"):
            namespace.command = self.prog
        if self._input is not None:
            self._resolve_input(namespace, self._input.dest)
        if unknown and not self.keeps_unknown:
            similar = did_you_mean(unknown[0].partition("=")[0], self._visible_options())
            if self._option_of_words and not unknown[0].startswith("-"):
                similar = f"; did you mean {self._option_of_words}?"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{similar}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Checks a value against the choices of its option, and names the most similar one."""
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            similar = did_you_mean(str(value), names)
            text = similar or f" (choose from {', '.join(names)})"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{text}")

    def error(self, message: str) -> NoReturn:
        """Prints an error of usage and exits with status 2."""
        text = redacted(escaped(message, lines=True))
        self.exit(2, f"{self.prog}: {text}\n'{self.prog} --help' shows its options.\n")

    def _prepared(self, words: list[str]) -> list[str]:
        """Adds the options, and returns the words of the file and of the command line."""
        try:
            if self._add_options is not None:
                add, self._add_options = self._add_options, None
                add(self)
            if not self._takes_config:
                return words
            actions = self._option_string_actions
            settings = file_settings(words, actions, self._visible_options())
            for name, value in settings:
                if value == []:  # argparse has no word for an empty list
                    self.set_defaults(**{actions[_option(name)].dest: []})
            return [*(word for one in settings for word in _option_words(*one)), *words]
        except (ValueError, OSError, ImportError) as error:
            self.exit(1, f"{self.prog}: {one_line(error)}\n")

    def _visible_options(self) -> list[str]:
        """Returns the options that the help shows and that a file may have."""
        actions = self._option_string_actions.items()
        shown = (name for name, action in actions if action.help is not argparse.SUPPRESS)
        return [name for name in shown if name != "--config"]

    def _resolve_input(self, namespace: argparse.Namespace, name: str) -> None:
        of_file = vars(namespace).pop(f"{name}_of_file")
        if getattr(namespace, name) is None:
            setattr(namespace, name, of_file)
        if getattr(namespace, name) is None:
            self.error(f"the following arguments are required: {name}")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows which options are required; argparse shows it in the usage alone.

    Descriptions of one line are wrapped to the terminal; others, such as examples, stay.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        return f"{text} (required)" if text and action.required and action.option_strings else text


def one_line(error: Exception) -> str:
    """Returns the message of an error as one line, with "PATH: reason" for errors of the system.

    Tokens are redacted, and characters that command a terminal are escaped.

    Example:
        >>> one_line(FileNotFoundError(2, "No such file or directory", "a.yaml"))
        'a.yaml: No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return redacted(escaped(f"{error.filename}: {error.strerror}"))
    return redacted(escaped(" ".join(str(error).split())))


def did_you_mean(option: str, known: Iterable[str]) -> str:
    """Returns "; did you mean ...?" for the known option most similar to `option`, "" for none.

    Example:
        >>> did_you_mean("--modle", ["--model", "--k"])
        '; did you mean --model?'
    """
    similar = difflib.get_close_matches(option, list(known), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


def file_settings(
    words: Sequence[str], known: Mapping[str, argparse.Action], shown: Iterable[str]
) -> list[tuple[str, bool | str | list[str]]]:
    """Returns the options of the ``--config`` file of a command line.

    Options that are on the command line are left out, where lists would grow.

    Args:
        words: of the command line.
        known: options that the file may have, such as "--k", with their actions.
        shown: options among which an unknown one may have been meant.

    Raises:
        ValueError: a file that has no settings, an option that is not known, or a list for an
            option with one value.
        OSError: no such file.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--config")
    try:
        path = reader.parse_known_args(list(words))[0].config
    except argparse.ArgumentError:  # --config without a file: the verb's own parser says so
        return []
    if path is None:
        return []
    given = {word.partition("=")[0] for word in words}
    given |= {f"--{option[5:]}" for option in given if option.startswith("--no-")}
    settings = _known_settings(path, known, shown)
    return [(name, value) for name, value in settings if _option(name) not in given]


def _known_settings(
    path: str, known: Mapping[str, argparse.Action], shown: Iterable[str]
) -> list[tuple[str, bool | str | list[str]]]:
    settings = read_settings(path)
    for name, value in settings.items():
        if name in ("config", "help") or _option(name) not in known:
            names = [option[2:].replace("-", "_") for option in shown]
            similar = did_you_mean(name.replace("-", "_"), names)
            raise ValueError(f"--config {path}: unknown option {name!r}{similar}")
        if isinstance(value, list) and known[_option(name)].nargs not in ("*", "+"):
            raise ValueError(f"--config {path}: {name}: expected one value, got {len(value)}")
    return list(settings.items())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option_words(name: str, value: Any) -> list[str]:
    option = _option(name)
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    values = value if isinstance(value, list) else [value]
    return [f"{option}={item}" for item in values]  # with "=", as a value may begin with "-"
