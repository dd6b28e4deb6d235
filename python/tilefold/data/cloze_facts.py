"""Facts with prompts: of ParaRel, LAMA, CounterFact and zsRE, to probe and to edit."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .heads import records
from .json_reader import starts_as_json
from .lines import Place, StrPath, chunks
from .records import Record, shown_value

MASK = "[MASK]"
_SUBJECT, _OBJECT = "[X]", "[Y]"
_WORD = re.compile(r"\[MASK\]|\w+|[^\w\s]")
_PATTERNS, _TRIPLES = ("pattern_data", "graphs_json"), "trex_lms_vocab"  # folders of ParaRel


class Neighbour(NamedTuple):
    """A prompt about another subject, whose object an edit is not to change."""

    prompt: str
    object: str


@dataclass(frozen=True)
class ClozeFact:
    """A fact, and prompts that state it with ``[MASK]`` for the object.

    Args:
        id: of the file, or its number.
        subject: in every prompt.
        relation: its name; "" where the file has none.
        object: of one word or several.
        prompts: paraphrases of each other.
        new_object: what a counterfactual edit states instead, if any.
        paraphrases: further prompts, by which a data set tests an edit.
        neighbours: prompts by which a data set tests what an edit leaves as it is.
    """

    id: str
    subject: str
    relation: str
    object: str
    prompts: tuple[str, ...]
    new_object: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


def read_facts(path: StrPath) -> list[ClozeFact]:
    """Reads facts of ParaRel, LAMA, CounterFact or zsRE; the content says which.

    - ParaRel: the folder with pattern_data/graphs_json and trex_lms_vocab; or the bags of the
      knowledge neurons' authors, a JSON list of facts, each a list of ``[prompt, object,
      relation]``. Bags name no subject: it is the longest sequence of words that all prompts of a
      fact share and most facts of the relation do not.
    - LAMA: a folder with relations.jsonl and files of triples, or such a file beside
      relations.jsonl; fields as in T-REx (sub_label, obj_label, predicate_id) or subject, object
      and relation.
    - CounterFact: as published (requested_rewrite), or with prompt, target_new, subject and
      ground_truth.
    - zsRE of MEND: src, pred, alt and subject. The question is the prompt.

    Args:
        path: a file, also packed with gzip, or a folder.

    Returns:
        Facts in the order of files; those of ParaRel and LAMA whose relation has no template that
        names the subject are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, missing fields, a prompt without its subject: with file and
            line.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "bags.json"
        >>> prompts = ["Ada lives in [MASK].", "[MASK] is home to Ada."]
        >>> _ = path.write_text(json.dumps([[[prompt, "Rome", "P1"] for prompt in prompts]]))
        >>> read_facts(path)[0].subject
        'Ada'
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"there is no file {source}")
    if source.is_dir():
        if source.joinpath(*_PATTERNS).is_dir() and (source / _TRIPLES).is_dir():
            found = _pararel(source)
        elif (source / "relations.jsonl").is_file():
            found = _lama_folder(source)
        else:
            raise ValueError(
                f"read_facts: {source} must have the folders {'/'.join(_PATTERNS)} and {_TRIPLES} "
                "of ParaRel, or relations.jsonl of LAMA"
            )
    else:
        found = _file(source)
    facts = list(found)
    if not facts:
        raise ValueError(f"read_facts: {source} has no facts")
    return facts


def _file(path: Path) -> Iterator[ClozeFact]:
    if re.match(r"\s*\[\s*\[", next(chunks(path), "")):
        return _bags(path)
    if not starts_as_json(path):
        raise ValueError(f"read_facts: {path} must be JSON")
    first = next(records(path), None)
    if first is None:
        raise ValueError(f"read_facts: {path} has no facts")
    for names, reader in _READERS.items():
        if set(names) <= set(first.fields):
            return reader(path)
    if _triple(first) is not None:
        return _lama_file(path)
    raise ValueError(
        f"{path}:{first.place.line}: expected the fields of CounterFact, zsRE or LAMA, got "
        f"{list(first.fields)}"
    )


# ---- CounterFact and zsRE ------------------------------------------------------------------------


def _counterfact(path: Path) -> Iterator[ClozeFact]:
    for record in records(path):
        rewrite = record.record("requested_rewrite")
        subject = rewrite.string("subject")
        relation = rewrite.optional("relation_id")
        old, new = (rewrite.record(name).string("str") for name in ("target_true", "target_new"))
        neighbours = [
            Neighbour(_open(prompt), old) for prompt in record.strings("neighborhood_prompts")
        ]
        yield _checked(
            record,
            ClozeFact(
                record.identifier("case_id"),
                subject,
                relation,
                old,
                (_open(rewrite.string("prompt").replace("{}", subject)),),
                new,
                tuple(map(_open, record.strings("paraphrase_prompts"))),
                tuple(neighbours),
            ),
        )


def _flat_counterfact(path: Path) -> Iterator[ClozeFact]:
    for record in records(path):
        neighbours: tuple[Neighbour, ...] = ()
        if record.has("locality_prompt"):
            prompt = _open(record.string("locality_prompt"))
            neighbours = (Neighbour(prompt, record.string("locality_ground_truth")),)
        rephrased = (record.string("rephrase_prompt"),) if record.has("rephrase_prompt") else ()
        yield _checked(
            record,
            ClozeFact(
                record.identifier("case_id"),
                record.string("subject"),
                record.optional("relation_id"),
                record.string("ground_truth"),
                (_open(record.string("prompt")),),
                record.string("target_new"),
                tuple(map(_open, rephrased)),
                neighbours,
            ),
        )


def _zsre(path: Path) -> Iterator[ClozeFact]:
    for number, record in enumerate(records(path)):
        neighbours: tuple[Neighbour, ...] = ()
        if record.has("loc"):
            neighbours = (Neighbour(_open(record.string("loc")), record.string("loc_ans")),)
        rephrased = (record.string("rephrase"),) if record.has("rephrase") else ()
        answers = record.strings("answers")
        yield _checked(
            record,
            ClozeFact(
                str(number),
                record.string("subject"),
                "",
                answers[0] if answers else record.string("pred"),
                (_open(record.string("src")),),
                record.string("alt"),
                tuple(map(_open, rephrased)),
                neighbours,
            ),
        )


_READERS: Mapping[tuple[str, ...], Callable[[Path], Iterator[ClozeFact]]] = {
    ("requested_rewrite", "case_id"): _counterfact,
    ("case_id", "prompt", "target_new", "subject", "ground_truth"): _flat_counterfact,
    ("subject", "src", "pred", "alt"): _zsre,
}


def _open(prompt: str) -> str:
    """Returns a prompt whose object comes at its end, with a mask for it."""
    return f"{prompt.rstrip()} {MASK}"


# ---- LAMA and ParaRel ----------------------------------------------------------------------------


def _lama_folder(folder: Path) -> Iterator[ClozeFact]:
    files = sorted(folder.rglob("*.jsonl"))
    for path in files:
        if path.name != "relations.jsonl":
            yield from _lama_file(path, folder / "relations.jsonl")


def _lama_file(path: Path, relations: Path | None = None) -> Iterator[ClozeFact]:
    relations = relations or path.parent / "relations.jsonl"
    if not relations.is_file():
        raise FileNotFoundError(f"{path} needs the templates of {relations}, which is not there")
    templates = {
        record.string("relation"): record.string("template") for record in records(relations)
    }
    for number, record in enumerate(records(path)):
        triple = _triple(record)
        if triple is None:
            record.fail(f"expected subject, object and relation, got {list(record.fields)}")
        subject, right, relation = triple
        template = templates.get(relation, "")
        if _SUBJECT in template and _OBJECT in template:
            name = record.first_identifier("_id", "uuid") or f"{path.stem}-{number}"
            prompts = (_filled(template, subject),)
            yield _checked(record, ClozeFact(name, subject, relation, right, prompts))


def _triple(record: Record) -> tuple[str, str, str] | None:
    for names in (("subject", "object", "relation"), ("sub_label", "obj_label", "predicate_id")):
        if all(record.has(name) for name in names):
            subject, right, relation = map(record.string, names)
            return subject, right, relation
    return None


def _pararel(folder: Path) -> Iterator[ClozeFact]:
    for path in sorted((folder / _TRIPLES).glob("*.jsonl"), key=lambda path: path.name):
        patterns = folder.joinpath(*_PATTERNS, path.name)
        if not patterns.is_file():
            continue
        texts = [record.string("pattern") for record in records(patterns)]
        texts = [text for text in texts if _SUBJECT in text and _OBJECT in text]
        for number, record in enumerate(records(path) if texts else ()):
            subject, right = record.string("sub_label"), record.string("obj_label")
            prompts = tuple(dict.fromkeys(_filled(text, subject) for text in texts))
            name = record.first_identifier("uuid") or f"{path.stem}-{number}"
            yield _checked(record, ClozeFact(name, subject, path.stem, right, prompts))


def _filled(template: str, subject: str) -> str:
    return template.replace(_OBJECT, MASK).replace(_SUBJECT, subject)


def _bags(path: Path) -> Iterator[ClozeFact]:
    place = Place(path, 1)
    try:
        bags: Any = json.loads("".join(chunks(path)))
    except ValueError as error:
        place.fail(f"not JSON: {error}")
    read: list[tuple[tuple[str, ...], str, str]] = []
    for number, bag in enumerate(bags):
        rows = (
            [tuple(row) if isinstance(row, list) else () for row in bag]
            if isinstance(bag, list)
            else []
        )
        if not rows or not all(
            len(row) == 3 and all(isinstance(x, str) for x in row) for row in rows
        ):
            place.fail(
                f"fact {number}: expected a list of [prompt, object, relation], got "
                f"{shown_value(bag)}"
            )
        if any(row[0].count(MASK) != 1 for row in rows):
            place.fail(f"fact {number}: every prompt must have one {MASK}, got {shown_value(bag)}")
        if len({row[1:] for row in rows}) > 1:
            place.fail(f"fact {number}: its prompts have several objects or relations")
        read.append((tuple(dict.fromkeys(row[0] for row in rows)), rows[0][1], rows[0][2]))
    shared = [_common_spans(prompts) for prompts, _, _ in read]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    totals = Counter(relation for _, _, relation in read)
    for spans, (_, _, relation) in zip(shared, read, strict=True):
        counts[relation].update(spans)
    for number, (spans, (prompts, right, relation)) in enumerate(zip(shared, read, strict=True)):
        # Words of the templates are in most facts of the relation.
        most = max(1, totals[relation] // 2)
        own = [span for span in spans if counts[relation][span] <= most]
        subject = max(own, key=lambda span: (len(span), span), default="")
        # Without other facts of the relation, words of the template cannot be distinguished from
        # those of the subject.
        others = [span for span in own if span not in subject] if totals[relation] == 1 else []
        if not own or others:
            place.fail(
                f"fact {number}: the subject is not known: {len(own)} texts are in all of its "
                f"prompts and not in other facts of {relation!r}, such as {prompts[0]!r}"
            )
        yield ClozeFact(str(number), subject, relation, right, prompts)


def _common_spans(prompts: Sequence[str]) -> set[str]:
    """Returns the texts of whole words that all prompts share."""
    common: set[str] | None = None
    for prompt in prompts:
        words = [(match.start(), match.end()) for match in _WORD.finditer(prompt)]
        spans = {
            prompt[begin:end]
            for place, (begin, _) in enumerate(words)
            for _, end in words[place:]
            if prompt[begin].isalnum()
        }
        common = spans if common is None else common & spans
    return {span for span in common or () if MASK not in span}


def _checked(record: Record, fact: ClozeFact) -> ClozeFact:
    """Raises ValueError where a prompt lacks its subject or its mask."""
    for prompt in fact.prompts:
        if fact.subject not in prompt or prompt.count(MASK) != 1:
            record.fail(
                f"a prompt must have the subject {fact.subject!r} and one {MASK}, got {prompt!r}"
            )
    return fact
