"""Answers questions by an average over passages, each of which is read alone: as REPLUG does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .answer_generator import AnswerGenerator, checked_answers, checked_passages

FloatArray = NDArray[np.float64]
Likelihood = Literal["sum", "mean"]


class EnsembledAnswers(NamedTuple):
    """Answers with the candidates that they were chosen from."""

    answers: list[str]
    candidates: list[list[str]]  # of each question, in the order of passages or as given
    log_probabilities: list[FloatArray]  # of each candidate: log p(y | q)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """int64 ``[n]``, the index of each answer among its candidates; of equal ones the first."""
        return np.array([own.argmax() for own in self.log_probabilities], np.int64)


class PassageEnsemble:
    """Averages the probabilities of answers over passages, by the scores of their retrieval.

    p(y | q) = Σ_d λ(d, q) p(y | d, q), with λ the softmax of scores over the passages of a question
    (Shi et al., REPLUG, NAACL 2024). REPLUG averages the distribution of each
    token; here whole answers are scored, so that each is a probability of the mixture itself.

    Args:
        generator: reads one passage at a time, and at most `n_passages` of a question.
        temperature: scores are divided by it.
        likelihood: p(y | d, q) is the product over the tokens of an answer ("sum" of logarithms),
            of which the end-of-sequence token is one, or their geometric "mean", which does not
            favour short answers.

    Raises:
        ValueError: a temperature that is not above 0, an unknown likelihood.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from tilefold.models import CausalLM, minilm
        >>> config = GPT2Config(vocab_size=30522, n_embd=8, n_layer=1, n_head=1)
        >>> model = CausalLM(GPT2LMHeadModel(config), minilm().tokenizer)  # random weights
        >>> ensemble = PassageEnsemble(AnswerGenerator(model, append_eos=False))
        >>> found = ensemble.choose(["who sleeps?"], [["cats", "hens"]], [["Cats."]], [[1.0]])
        >>> found.candidates
        [['cats', 'hens']]
    """

    def __init__(
        self,
        generator: AnswerGenerator,
        *,
        temperature: float = 1.0,
        likelihood: Likelihood = "sum",
    ) -> None:
        if not 0 < temperature < np.inf:
            raise ValueError(f"PassageEnsemble: temperature must be above 0, got {temperature}")
        if likelihood not in get_args(Likelihood):
            raise ValueError(
                f"PassageEnsemble: likelihood must be 'sum' or 'mean', got {likelihood!r}"
            )
        self.generator = generator
        self.temperature = temperature
        self.likelihood = likelihood

    def answer(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        scores: Sequence[Sequence[float]],
        *,
        progress: bool | str = False,
    ) -> EnsembledAnswers:
        """Chooses among the answers that are written from each passage alone.

        Empty answers are no candidates. Where all are empty, the answer is, with a log-probability
        of minus infinity.

        Args:
            questions: n texts.
            passages: of each question, best first; a question without any is answered closed book.
            scores: of the retrieval of each passage.
            progress: whether to show progress on stderr; a string labels it.

        Raises:
            TypeError: texts that are not strings.
            ValueError: lengths differ; a score that is not finite; a question that is too long even
                without passages.

        Warns:
            UserWarning: passages that do not fit alone were left out.
        """
        op = "PassageEnsemble.answer"
        lists = checked_passages(op, questions, passages)
        weights = self._weights(op, lists, scores)
        rows, alone = self._alone(lists)
        packed = self.generator.packed(op, [questions[row] for row in rows], alone, None)
        written = self.generator.written(packed.prompts, progress=progress)
        candidates: list[list[str]] = [[] for _ in questions]
        for row, text in zip(rows, written, strict=True):
            if text and text not in candidates[row]:
                candidates[row].append(text)
        read = [own if kept else [] for own, kept in zip(alone, packed.kept, strict=True)]
        return self._scored(op, questions, candidates, rows, read, weights, progress)

    def choose(
        self,
        questions: Sequence[str],
        options: Sequence[Sequence[str]],
        passages: Sequence[Sequence[str]],
        scores: Sequence[Sequence[float]],
        *,
        progress: bool | str = False,
    ) -> EnsembledAnswers:
        """Chooses one of the options of each question.

        Args:
            questions, passages, scores, progress: of `answer`.
            options: answers to choose from, of each question.

        Raises:
            TypeError, ValueError: as of `answer`, or a question without options.

        Warns:
            UserWarning: passages that do not fit alone were left out.
        """
        op = "PassageEnsemble.choose"
        lists = checked_passages(op, questions, passages)
        weights = self._weights(op, lists, scores)
        candidates = checked_answers(op, "options", questions, options)
        return self._scored(op, questions, candidates, *self._alone(lists), weights, progress)

    def _scored(
        self,
        op: str,
        questions: Sequence[str],
        candidates: list[list[str]],
        rows: list[int],
        alone: list[list[str]],
        weights: list[FloatArray],
        progress: bool | str,
    ) -> EnsembledAnswers:
        """Scores the candidates of each question after each of its passages."""
        generator = self.generator
        # An empty answer has no token to score: a question without any other is not scored.
        places = [place for place, row in enumerate(rows) if candidates[row]]
        asked = [questions[rows[place]] for place in places]
        written = [[generator.template.answer(x) for x in candidates[rows[p]]] for p in places]
        read = [alone[place] for place in places]
        found = generator.model.option_log_likelihoods(
            generator.packed(op, asked, read, written).prompts,
            written,
            append_eos=generator.append_eos,
            progress=progress,
            **generator.batches,
        )
        by_question: list[list[FloatArray]] = [[] for _ in questions]
        for place, own in zip(places, found, strict=True):
            by_question[rows[place]].append(getattr(own, self.likelihood).astype(np.float64))
        totals = [
            np.logaddexp.reduce(log_weights[:, None] + np.stack(own), axis=0) if own else None
            for log_weights, own in zip(weights, by_question, strict=True)
        ]
        return EnsembledAnswers(
            [
                "" if own is None else texts[int(own.argmax())]
                for texts, own in zip(candidates, totals, strict=True)
            ],
            [texts or [""] for texts in candidates],
            [np.full(1, -np.inf) if own is None else own for own in totals],
        )

    def _alone(self, passages: list[list[str]]) -> tuple[list[int], list[list[str]]]:
        """Returns the question of each prompt, and the one passage that it has, or none."""
        n = self.generator.n_passages
        parts = [[[passage] for passage in own[:n]] or [[]] for own in passages]
        rows = [row for row, own in enumerate(parts) for _ in own]
        return rows, [part for own in parts for part in own]

    def _weights(
        self, op: str, passages: list[list[str]], scores: Sequence[Sequence[float]]
    ) -> list[FloatArray]:
        """Returns the logarithm of the softmax of scores over the passages that are read."""
        if len(scores) != len(passages):
            raise ValueError(
                f"{op}: expected scores of {len(passages)} questions, got {len(scores)} lists"
            )
        found = []
        for row, (own, texts) in enumerate(zip(scores, passages, strict=True)):
            values = np.asarray(own, np.float64)
            if values.shape != (len(texts),) or not np.isfinite(values).all():
                raise ValueError(
                    f"{op}: scores of question {row} must be {len(texts)} finite numbers, one for "
                    f"each passage, got {own!r:.80}"
                )
            read = values[: self.generator.n_passages] / self.temperature
            if not len(read):
                read = np.zeros(1)
            found.append(read - np.logaddexp.reduce(read))
        return found
