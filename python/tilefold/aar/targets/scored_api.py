"""Answers through an OpenAI-compatible completions endpoint: an LM of which only text is seen."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate.predictions import first_line
from ...files.done_once import digest_of
from ...integers import as_integer
from ...progress import show_progress
from ..prompt_templates import MMLU_GPT_SUFFIX, clipped
from .answer_cache import AnswerCache
from .completions_client import ApiError, CompletionsClient, CompletionsService, StoppedError
from .concatenated_target import joined_prompt
from .target_lm import checked_inputs

_VERSION = 1  # of answers; raised when equal inputs give other ones
MISSING_LOGPROB = -100.0  # of an option that is not among those that the service lists


class ScoredApi:
    """An LM behind a completions endpoint, which reads passages and prompt as one text.

    The defaults are those of AAR for InstructGPT (Yu et al., ACL 2023, and their code): passages
    and prompt joined by blank lines, greedy answers of 15 tokens of which the first line counts;
    choices by the log-probabilities of " A", " B", ... for one token after "Answer:", -100 for an
    option that the service does not list.

    With a cache, each response is on the disk as soon as it arrives, and no request is sent twice:
    a run that failed or was killed goes on where it stopped. A prompt that is longer than the model
    reads is an error of the service; give fewer or shorter passages.

    Args:
        service: address, model, time limits, retries, pace and concurrency.
        cache: file of an `AnswerCache`; None keeps nothing.
        name: for tables; the model's name by default.
        max_new_tokens: maximum length of an answer.
        first_line_only: whether the first line of the generated text alone is the answer.
        logprobs: number of tokens whose log-probabilities are listed for a choice. The authors
            request 100; most services list fewer, such as 5.
        passage_characters: of a passage that are read; None for all.
        choice_suffix: text after the prompt of a choice.
        option_prefix: text before an option, which with it must be one token.

    Raises:
        TypeError, ValueError: a number that is no integer, or below 1.

    Example:
        >>> service = CompletionsService("http://127.0.0.1:8000/v1", "flan-t5-base")
        >>> ScoredApi(service).name
        'flan-t5-base'
    """

    def __init__(
        self,
        service: CompletionsService,
        *,
        cache: str | os.PathLike[str] | None = None,
        name: str | None = None,
        max_new_tokens: int = 15,
        first_line_only: bool = True,
        logprobs: int = 5,
        passage_characters: int | None = None,
        choice_suffix: str = MMLU_GPT_SUFFIX,
        option_prefix: str = " ",
    ) -> None:
        as_integer(max_new_tokens, "ScoredApi", "max_new_tokens", at_least=1)
        as_integer(logprobs, "ScoredApi", "logprobs", at_least=1)
        clipped([], passage_characters, "ScoredApi")
        self.service = service
        self.name = service.model if name is None else name
        self._cache = None if cache is None else Path(cache)
        self._max_new_tokens = max_new_tokens
        self._first_line_only = first_line_only
        self._logprobs = logprobs
        self._passage_characters = passage_characters
        self._choice_suffix = choice_suffix
        self._option_prefix = option_prefix

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> list[str]:
        """Writes an answer to each question by greedy decoding; see `TargetLM.answer`.

        Raises:
            TypeError: texts that are no strings.
            ValueError: lengths differ.
            ApiError: the service refused a request, or failed until its attempts were used up.
                Responses until then are in the cache.
        """
        inputs = checked_inputs("ScoredApi.answer", questions, passages, demonstrations)
        prompts = self._prompts(questions, *inputs)
        requests = [self._request(prompt, max_tokens=self._max_new_tokens) for prompt in prompts]
        choices = self._complete(requests, progress, "answer")
        texts = [str(choice["text"]) for choice in choices]
        return [first_line(text) for text in texts] if self._first_line_only else texts

    def choose(
        self,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        passages: Sequence[Sequence[str]] | None = None,
        *,
        demonstrations: Sequence[str] | None = None,
        progress: bool | str = False,
    ) -> NDArray[np.int64]:
        """Chooses the option with the largest log-probability; see `TargetLM.choose`.

        Raises:
            TypeError: texts that are no strings.
            ValueError: lengths differ.
            ApiError: as of `answer`, or the service returns no log-probabilities.

        Warns:
            UserWarning: the service listed none of the options of some questions, whose choice is
                their first option.
        """
        op = "ScoredApi.choose"
        inputs = checked_inputs(op, questions, passages, demonstrations, options)
        complete = [question + self._choice_suffix for question in questions]
        prompts = self._prompts(complete, *inputs)
        requests = [
            self._request(prompt, max_tokens=1, logprobs=self._logprobs) for prompt in prompts
        ]
        choices = self._complete(requests, progress, "choose")
        scores = [self._scores(*pair) for pair in zip(choices, options, strict=True)]
        unlisted = sum(bool(np.isnan(own).all()) for own in scores)
        if unlisted:
            warnings.warn(
                f"{op}: the service listed none of the options of {unlisted} of {len(scores)} "
                f"questions; their first option counts as the choice",
                stacklevel=2,
            )
        filled = [np.where(np.isnan(own), MISSING_LOGPROB, own) for own in scores]
        return np.array([own.argmax() for own in filled], np.int64)

    def generator(self, max_new_tokens: int) -> ScoredApi:
        """Returns the same LM with longer answers of several lines; see `TargetLM.generator`."""
        found = copy.copy(self)
        found._max_new_tokens = as_integer(
            max_new_tokens, "ScoredApi.generator", "max_new_tokens", at_least=1
        )
        found._first_line_only = False
        return found

    def fingerprint(self) -> str:
        """Returns a digest of address, model and all options that answers depend on.

        The weights behind an address are not seen: a model that changes under its name keeps its
        fingerprint.
        """
        options = [
            self._max_new_tokens,
            self._first_line_only,
            self._logprobs,
            self._passage_characters,
            self._choice_suffix,
            self._option_prefix,
        ]
        return digest_of(["ScoredApi", _VERSION, self.service.url, self.service.model, options])

    def _prompts(
        self, questions: Sequence[str], passages: list[list[str]], demonstrations: list[str]
    ) -> list[str]:
        return [
            joined_prompt(question, clipped(own, self._passage_characters), examples)
            for question, own, examples in zip(questions, passages, demonstrations, strict=True)
        ]

    def _request(self, prompt: str, **fields: int) -> dict[str, Any]:
        return {"model": self.service.model, "prompt": prompt, "temperature": 0, **fields}

    def _scores(self, choice: Mapping[str, Any], options: Sequence[str]) -> NDArray[np.float64]:
        """Returns the log-probability of each option at the first new token, NaN if not listed."""
        listed = self._first_token(choice)
        found = (listed.get(self._option_prefix + option) for option in options)
        # JSON of a careless server may have null or a text.
        values = [value if isinstance(value, int | float) else math.nan for value in found]
        return np.array(values, np.float64)

    def _first_token(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the listed log-probabilities of the first new token."""
        logprobs = choice.get("logprobs")
        listed = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
        first = listed[0] if isinstance(listed, list) and listed else None
        if not isinstance(first, dict):
            raise ApiError(
                f"{self.service.url}: model {self.service.model!r} returned no top_logprobs, which "
                f"a choice needs; use a service that returns them, or `answer`"
            )
        return first

    def _complete(
        self, requests: Sequence[Mapping[str, Any]], progress: bool | str, label: str
    ) -> list[dict[str, Any]]:
        """Returns the response to each request; equal ones are sent once."""
        bodies = [json.dumps(request, sort_keys=True) for request in requests]
        names = dict.fromkeys(bodies)
        found: dict[str, dict[str, Any]] = {}
        with contextlib.ExitStack() as stack:
            cache = None if self._cache is None else stack.enter_context(AnswerCache(self._cache))
            if cache is not None:
                kept = {body: cache.get(self._identity, body) for body in names}
                found = {body: json.loads(text) for body, text in kept.items() if text is not None}
            missing = [body for body in names if body not in found]
            text = progress if isinstance(progress, str) else label
            display = stack.enter_context(show_progress(text, len(names), show=bool(progress)))
            display.advance(len(found))
            for body, choice in self._sent(missing, cache) if missing else ():
                found[body] = choice
                display.advance()
        return [found[body] for body in bodies]

    @property
    def _identity(self) -> str:
        """Identifies who answers, in the keys of the cache."""
        return f"{self.service.url} {self.service.model}"

    def _sent(
        self, bodies: Sequence[str], cache: AnswerCache | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Sends requests, several at a time, and yields each with its response."""
        with self.service.open() as client, _pool(self.service.concurrency, client) as pool:
            running: dict[Future[dict[str, Any]], str] = {
                pool.submit(self._one, client, body, cache): body for body in bodies
            }
            for done in as_completed(running):
                if isinstance(done.exception(), StoppedError):
                    continue  # the cause follows
                yield running[done], done.result()

    def _one(
        self, client: CompletionsClient, body: str, cache: AnswerCache | None
    ) -> dict[str, Any]:
        try:
            request = json.loads(body)
            choice = client.complete(request)
            if "logprobs" in request:
                self._first_token(choice)  # raises before all others are sent in vain
            if cache is not None:
                cache.add(self._identity, body, json.dumps(choice))
        except BaseException:
            client.stop()  # the others need not be sent; those under way are still kept
            raise
        return choice


@contextlib.contextmanager
def _pool(n_threads: int, client: CompletionsClient) -> Iterator[ThreadPoolExecutor]:
    """Runs threads until the block ends; after an exception, without what is still to be sent."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="tilefold-api")
    try:
        yield pool
    except BaseException:
        client.stop()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
