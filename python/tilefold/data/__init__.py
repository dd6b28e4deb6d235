"""File formats: collections, training data, questions, facts, runs and judgments.

One reader for all formats of a kind, which detects them by their content. Every error names the
file and the line, files are streamed, and each is read once. Titles and prompts are columns: see
`prompts`.
"""

from .cloze_facts import ClozeFact, Neighbour, read_facts
from .collection import Collection, read_beir, read_collection, read_msmarco
from .documents import Documents
from .formats import FORMATS, detect
from .multiple_choice import MultipleChoice, read_choices
from .prompts import (
    PROMPT_FORMAT,
    TEXT_FORMAT,
    TITLE_FORMAT,
    TITLE_TEXT_FORMAT,
    document_texts,
    format_columns,
    query_texts,
)
from .qrels import Judgments, Qrels
from .qrels_reader import read_qrels
from .questions import Question, read_questions
from .ranked_passages import ranked_passages
from .reader import read
from .rewrites import read_rewrites, write_rewrites
from .runs import Run, check_run_names, read_run, write_run
from .self_retrieval import own_documents, same_texts, without_own
from .texts import read_documents, read_query_texts
from .training import read_training
from .training_set import TrainingSet
from .training_writer import write_training

__all__ = [
    "FORMATS",
    "PROMPT_FORMAT",
    "TEXT_FORMAT",
    "TITLE_FORMAT",
    "TITLE_TEXT_FORMAT",
    "ClozeFact",
    "Collection",
    "Documents",
    "Judgments",
    "MultipleChoice",
    "Neighbour",
    "Qrels",
    "Question",
    "Run",
    "TrainingSet",
    "check_run_names",
    "detect",
    "document_texts",
    "format_columns",
    "own_documents",
    "query_texts",
    "ranked_passages",
    "read",
    "read_beir",
    "read_choices",
    "read_collection",
    "read_documents",
    "read_facts",
    "read_msmarco",
    "read_qrels",
    "read_query_texts",
    "read_questions",
    "read_rewrites",
    "read_run",
    "read_training",
    "same_texts",
    "without_own",
    "write_rewrites",
    "write_run",
    "write_training",
]
