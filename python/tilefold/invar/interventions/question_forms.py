"""Forms of English questions: question words, endings, and questions within a sentence."""

from __future__ import annotations

import re

_MARKS = "?.! \t\n"
_AUXILIARY = (
    "is was are were am be do does did has have had can could will would shall should may might "
    "must"
)
_QUESTION_WORD = "who whom whose what which where when why how"
_DETERMINER = "the a an my your his her its our their this that these those"
# After these a noun phrase goes on, so that a verb behind it would be in the wrong place:
# "what is the film about", "what was the first continent called".
_DANGLING_WORD = (
    "about after as at before by for from in into of off on out over through to under up with "
    "born called known made written given used worn drawn sung built"
)
_AUXILIARIES, _QUESTION_WORDS, _DETERMINERS, _DANGLING = (
    frozenset(words.split()) for words in (_AUXILIARY, _QUESTION_WORD, _DETERMINER, _DANGLING_WORD)
)
_LONGEST_NAME = 3  # words that may stand without determiner and capital: "black holes", "it"
_WHO_VERB = re.compile(r"(who)\s+(\S+)\s+\S", re.IGNORECASE)
_COPULA = re.compile(r"(who|what)\s+(is|was|are|were)\s+(\S.*)", re.IGNORECASE | re.DOTALL)


def without_end(query: str) -> str:
    """Returns a query without white space around it and marks at its end.

    >>> without_end("Who is it ? ")
    'Who is it'
    """
    return query.strip().rstrip(_MARKS)


def ended(query: str) -> str:
    """Returns a query with a mark at its end, which is added where there is none.

    >>> ended("who is it"), ended("Heart failure in women"), ended("Really!")
    ('who is it?', 'Heart failure in women.', 'Really!')
    """
    text = query.strip()
    if without_end(text) != text:
        return text
    return text + ("?" if is_question(text) else ".")


def is_question(query: str) -> bool:
    """Returns whether a query is a question by its first word or its last character.

    >>> is_question("who is it"), is_question("It is he?"), is_question("heart failure in women.")
    (True, True, False)
    """
    first = query.split(maxsplit=1)[0].lower() if query.split() else ""
    asks = first.partition("'")[0] in _QUESTION_WORDS or first in _AUXILIARIES
    return asks or query.rstrip().endswith("?")


def lowered_start(query: str) -> str:
    """Returns a query with a small first letter where its first word is no name or acronym.

    >>> lowered_start("Who is it?"), lowered_start("NASA was founded when?")
    ('who is it?', 'NASA was founded when?')
    """
    first = query.split(maxsplit=1)[0] if query.split() else ""
    known = _QUESTION_WORDS | _AUXILIARIES | _DETERMINERS | {"in", "on", "at", "if", "by", "to"}
    return query[:1].lower() + query[1:] if first.lower().partition("'")[0] in known else query


def styled(text: str, *, like: str) -> str:
    """Returns a text with the first letter's case and the end of another one.

    Args:
        text: begins with a capital and ends with a mark.
        like: where it begins with a small letter, so does the result; where it has no mark at its
            end, the result has none.

    >>> styled("Tell me who he is.", like="who is he"), styled("Is it?", like="It is?")
    ('tell me who he is', 'Is it?')
    """
    start = like.strip()[:1]
    if start.islower():
        text = text[:1].lower() + text[1:]
    return text if like.strip() != without_end(like) else without_end(text)


def embedded(query: str) -> str | None:
    """Returns a question as it stands within a sentence, or None where its form is not known.

    The verb moves behind the noun phrase of "who is X" and "what is X"; "who wrote X" stays.

    >>> embedded("Who is the author of Emma?"), embedded("who wrote emma")
    ('who the author of Emma is', 'who wrote emma')
    >>> embedded("what is the film about"), embedded("When did it rain?")
    (None, None)
    """
    text = without_end(query)
    if match := _COPULA.fullmatch(text):
        word, verb, phrase = match.groups()
        return f"{word.lower()} {phrase} {verb.lower()}" if _is_noun_phrase(phrase) else None
    return f"who{text[3:]}" if asks_for_subject(text) else None


def inverted(query: str) -> str | None:
    """Returns a question of the form "who is X" as "X is who", or None for other forms.

    >>> inverted("Who is the author of Emma?"), inverted("what is the film about")
    ('the author of Emma is who', None)
    """
    match = _COPULA.fullmatch(without_end(query))
    if match is None or not _is_noun_phrase(match[3]):
        return None
    word, verb, phrase = match.groups()
    return " ".join(f"{phrase} {verb.lower()} {word.lower()}".split())


def asks_for_subject(query: str) -> bool:
    """Returns whether a question is of the form "who wrote X".

    >>> asks_for_subject("Who wrote Emma?"), asks_for_subject("Who did it?")
    (True, False)
    """
    match = _WHO_VERB.match(without_end(query))
    return match is not None and match[2].lower() not in _AUXILIARIES


def _is_noun_phrase(phrase: str) -> bool:
    """Returns whether words look like a noun phrase as a whole."""
    words = phrase.split()
    ends = {words[0].lower(), words[-1].lower()}
    if ends & _DANGLING or any(word.endswith(("ing", "ed")) for word in ends):
        return False
    named = words[0].lower() in _DETERMINERS or words[0][:1].isupper()
    return named or len(words) <= _LONGEST_NAME
