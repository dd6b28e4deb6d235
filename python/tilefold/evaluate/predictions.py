"""Compares generated answers with accepted ones: EM and F1 of SQuAD, PopQA's accuracy."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def evaluate_predictions(
    predictions: Sequence[str],
    golds: Sequence[Sequence[str]],
    measures: Sequence[str] = ("EM", "F1"),
) -> dict[str, FloatArray]:
    """Computes every measure for every question.

    Args:
        predictions: the answers written, one for each of n questions.
        golds: accepted answers of each question, at least one.
        measures: of "EM" (`exact_match`), "F1" (`f1`), "PopQA" (`alias_match`) and "PopQA-relaxed"
            (`relaxed_alias_match`).

    Returns:
        Name -> float64 [n], between 0 and 1, for `mean`, `bootstrap` and `paired_test`.

    Raises:
        ValueError: an unknown measure, a question without accepted answers, lists that differ in
            length.
        TypeError: the accepted answers of a question are a single string.

    >>> evaluate_predictions(["The Beatles", "1976"], [["Beatles"], ["in 1976", "76"]])
    {'EM': array([1., 0.]), 'F1': array([1.        , 0.66666667])}
    """
    if len(predictions) != len(golds):
        raise ValueError(
            f"evaluate_predictions: {len(predictions)} predictions but accepted answers of "
            f"{len(golds)} questions"
        )
    for name in measures:
        if name not in _MEASURES:
            raise ValueError(
                f"evaluate_predictions: unknown measure {name!r}; use some of {list(_MEASURES)}"
            )
    pairs = list(zip(predictions, golds, strict=True))
    return {
        name: np.array([_MEASURES[name](*pair) for pair in pairs], np.float64) for name in measures
    }


def exact_match(prediction: str, golds: Sequence[str]) -> bool:
    """Returns whether the prediction equals an accepted answer, both normalised.

    Source: Rajpurkar et al., "SQuAD", EMNLP 2016.

    >>> exact_match("the U.S.", ["US", "America"])
    True
    """
    wanted = normalise_answer(prediction)
    return any(normalise_answer(gold) == wanted for gold in _checked(golds, "exact_match"))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Computes the F1 of words: the harmonic mean of precision and recall of shared words.

    Words are counted as often as they occur, after normalisation; the best accepted answer counts.
    Where one side has no words, 1 if neither has and 0 otherwise, as in SQuAD 2.0.

    Source: Rajpurkar et al., EMNLP 2016; Rajpurkar et al., "SQuAD 2.0", ACL 2018.

    >>> f1("a red fox", ["the red hen", "wolf"])
    0.5
    """
    words = normalise_answer(prediction).split()
    return max(_overlap(words, normalise_answer(gold).split()) for gold in _checked(golds, "f1"))


def alias_match(prediction: str, aliases: Sequence[str]) -> bool:
    """Computes PopQA's accuracy: returns whether an alias is part of the prediction.

    An alias counts as it is, in lower case, or in lower case with a capital first letter; the
    prediction is taken as it is, and so are parts of words. Only its first line counts, after an
    empty one that it may begin with. An empty alias matches nothing.

    Source: Mallen et al., "When Not to Trust Language Models", ACL 2023.

    >>> alias_match("a Politician", ["politician"]), alias_match("POLITICIAN", ["politician"])
    (True, False)
    """
    line = first_line(prediction)
    return any(
        spelling in line
        for alias in _checked(aliases, "alias_match")
        for spelling in (alias, alias.lower(), alias.capitalize())
        if spelling
    )


def relaxed_alias_match(prediction: str, aliases: Sequence[str]) -> bool:
    """Returns whether an alias occurs in the prediction's first line, as words in any case.

    Unlike `alias_match` it finds "POLITICIAN", and does not find "art" in "artist".

    >>> relaxed_alias_match("POLITICIAN", ["politician"]), relaxed_alias_match("artist", ["art"])
    (True, False)
    """
    line = first_line(prediction).lower()
    return any(
        re.search(rf"(?<!\w){re.escape(alias.lower())}(?!\w)", line)
        for alias in _checked(aliases, "relaxed_alias_match")
        if alias
    )


def normalise_answer(text: str) -> str:
    """Normalises as SQuAD does: lower case, no ASCII punctuation, no articles, single blanks.

    >>> normalise_answer("  The Beatles' 2nd  album")
    'beatles 2nd album'
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


_MEASURES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "EM": exact_match,
    "F1": f1,
    "PopQA": alias_match,
    "PopQA-relaxed": relaxed_alias_match,
}


def _checked(golds: Sequence[str], op: str) -> Sequence[str]:
    if isinstance(golds, str):
        raise TypeError(f"{op}: accepted answers must be a list, got {golds!r}")
    if not golds:
        raise ValueError(f"{op}: a question needs at least one accepted answer")
    return golds


def _overlap(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    shared = (Counter(words) & Counter(gold)).total()
    return 2 * shared / (len(words) + len(gold))  # 2pr / (p + r) with p and r written out


def first_line(prediction: str) -> str:
    r"""Returns the first line of a generated text, after an empty one that it may begin with.

    Source: the evaluation code of Mallen et al., ACL 2023.

    >>> first_line("\n\nParis\nQ: who?")
    'Paris'
    """
    return prediction.removeprefix("\n\n").split("\n")[0]
