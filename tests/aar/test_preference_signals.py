"""Preference signals against loops that score one passage at a time with transformers alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import tiny_source_models
import torch

from tilefold.aar.preferences import (
    AnswerLikelihood,
    CausalAttention,
    FusedAttention,
    GradedPerplexityReduction,
    LeaveOneOut,
    PerplexityDistillation,
)
from tilefold.models import CausalLM, FusionInDecoder

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = ["who runs", "where sleeps the fox", "who sleeps over the barn"]
PASSAGES = [
    ["the red hen runs over the barn", "a blue fox sleeps", "the barn"],
    ["the fox sleeps under the red barn and runs", "hen"],
    ["a hen sleeps", "the blue hen", "the fox runs", "under the barn the red hen runs"],
]
ANSWERS = [["the hen", "red hen"], ["under"], ["a hen", "the fox", "fox"]]
TEMPLATE = "{passage} question {question} answer"


@pytest.fixture(scope="module")
def fused(tmp_path_factory) -> FusionInDecoder:
    folder = tmp_path_factory.mktemp("t5")
    return FusionInDecoder.from_pretrained(
        tiny_source_models.save("T5ForConditionalGeneration", folder)
    )


@pytest.fixture(scope="module", params=["GPT2LMHeadModel", "LlamaForCausalLM"])
def causal(request, tmp_path_factory) -> CausalLM:
    return CausalLM.from_pretrained(load(request.param, tmp_path_factory))


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> CausalLM:
    return CausalLM.from_pretrained(load("LlamaForCausalLM", tmp_path_factory))


def load(name: str, tmp_path_factory: Any) -> Path:
    return tiny_source_models.save(name, tmp_path_factory.mktemp(name))


def inputs(row: int, characters: int | None = None) -> list[str]:
    return [
        TEMPLATE.format(passage=passage[:characters], question=QUESTIONS[row])
        for passage in PASSAGES[row]
    ]


def assert_scores(found: Any, row_of: Any) -> None:
    """Compares every row with a loop, and checks what stands behind its passages."""
    assert found.dtype == np.float32
    assert found.shape == (3, 4)
    for row, passages in enumerate(PASSAGES):
        expected = np.array(row_of(row), np.float64)
        np.testing.assert_allclose(found[row, : len(passages)], expected, rtol=5e-5, atol=2e-5)
        assert np.isneginf(found[row, len(passages) :]).all()


def t5_log_probabilities(model: FusionInDecoder, texts: list[str], answer: str) -> list[float]:
    """Log-probabilities of an answer's tokens; the decoder reads the states of all texts."""
    from transformers.modeling_outputs import BaseModelOutput

    whole = model.model
    with torch.no_grad():
        states = [
            whole.encoder(**model.tokenizer([text], return_tensors="pt")).last_hidden_state
            for text in texts
        ]
        ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        logits = whole(
            encoder_outputs=BaseModelOutput(last_hidden_state=torch.cat(states, 1)),
            decoder_input_ids=torch.tensor([[0, *ids[:-1]]]),
        ).logits[0]
    table = logits.double().log_softmax(-1)
    return [table[place, number].item() for place, number in enumerate(ids)]


def causal_log_probabilities(model: CausalLM, prompt: str, answer: str) -> list[float]:
    start = model.tokenizer(prompt)["input_ids"]
    ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model.model(torch.tensor([start + ids])).logits[0]
    table = logits.double().log_softmax(-1)
    return [table[len(start) - 1 + k, number].item() for k, number in enumerate(ids)]


# ---- attention of fusion in decoder: eq. (4) -----------------------------------------------------


def stored_logits(model: FusionInDecoder, texts: list[str]) -> list[float]:
    """Eq. (4) with every logit kept: a loop over layers, heads, inputs and tokens."""
    whole = model.model
    states = [
        whole.encoder(**model.tokenizer([text], return_tensors="pt")).last_hidden_state
        for text in texts
    ]
    queries: list[Any] = []
    layers = [block.layer[1].EncDecAttention for block in whole.decoder.block]
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: queries.append(args[0][0, 0]))
        for layer in layers
    ]
    whole.decoder(
        input_ids=torch.tensor([[0]]),
        encoder_hidden_states=torch.cat(states, 1),
        use_cache=False,
    )
    for hook in hooks:
        hook.remove()
    found = []
    for own in states:
        kept = []
        for layer, query in zip(layers, queries, strict=True):
            q = layer.q(query).view(layer.n_heads, -1)
            for token in own[0]:
                k = layer.k(token).view(layer.n_heads, -1)
                kept.extend(float(q[head] @ k[head]) for head in range(layer.n_heads))
        found.append(sum(kept) / len(kept))
    return found


@pytest.mark.parametrize("characters", [None, 9])
def test_fidatt_is_the_mean_of_all_stored_logits_of_passage_and_question(fused, characters):
    signal = FusedAttention(fused, template=TEMPLATE, max_characters=characters, batch_size=2)
    with torch.no_grad():
        assert_scores(
            signal.scores(QUESTIONS, PASSAGES),
            lambda row: stored_logits(fused, inputs(row, characters)),
        )


@pytest.mark.parametrize("kind", ["mass", "value norm"])
def test_other_kinds_of_attention_are_those_of_the_model_and_marked(fused, kind):
    signal = FusedAttention(fused, template=TEMPLATE, kind=kind)
    expected = fused.attention_scores([inputs(row) for row in range(3)], kind=kind)
    np.testing.assert_array_equal(signal.scores(QUESTIONS, PASSAGES), expected)
    assert signal.is_extension
    assert signal.name == f"attention {kind}"
    assert not FusedAttention(fused, template=TEMPLATE).is_extension


def test_passages_are_cut_to_five_hundred_characters(fused):
    signal = FusedAttention(fused, template=TEMPLATE)
    whole, beyond = "hen" + " " * 494 + "fox", "hen" + " " * 497 + "red fox"
    assert len(whole) == 500
    found = signal.scores(["who"], [[whole, beyond]])
    np.testing.assert_allclose(found, signal.scores(["who"], [["hen fox", "hen"]]), rtol=1e-6)


# ---- likelihoods ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gold", ["max", "logsumexp"])
def test_answer_likelihood_of_an_encoder_decoder_reads_each_passage_by_itself(fused, gold):
    signal = AnswerLikelihood(fused, template=TEMPLATE, gold=gold, batch_size=3)

    def expected(row: int) -> list[float]:
        found = []
        for text in inputs(row):
            each = [sum(t5_log_probabilities(fused, [text], a)) for a in ANSWERS[row]]
            found.append(max(each) if gold == "max" else math.log(sum(map(math.exp, each))))
        return found

    assert_scores(signal.scores(QUESTIONS, PASSAGES, ANSWERS), expected)


@pytest.mark.parametrize("normalized", [False, True])
def test_answer_likelihood_of_a_decoder_only_lm(causal, normalized):
    signal = AnswerLikelihood(
        causal,
        template=TEMPLATE,
        answer_template=" {answer}",
        length_normalized=normalized,
        batch_size=4,
    )

    def expected(row: int) -> list[float]:
        found = []
        for text in inputs(row):
            each = [causal_log_probabilities(causal, text, answer) for answer in ANSWERS[row]]
            found.append(max(sum(p) / (len(p) if normalized else 1) for p in each))
        return found

    assert_scores(signal.scores(QUESTIONS, PASSAGES, ANSWERS), expected)


def test_the_end_of_sequence_token_counts_with_append_eos(fused):
    with_end = AnswerLikelihood(fused, template=TEMPLATE, append_eos=True)
    found = with_end.scores(QUESTIONS[1:2], PASSAGES[1:2], ANSWERS[1:2])
    expected = [sum(t5_log_probabilities(fused, [text], "under [EOS]")) for text in inputs(1)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_perplexity_distillation_is_a_softmax_over_mean_log_likelihoods(fused, temperature):
    signal = PerplexityDistillation(fused, template=TEMPLATE, temperature=temperature)

    def expected(row: int) -> list[float]:
        means = []
        for text in inputs(row):
            each = [t5_log_probabilities(fused, [text], answer) for answer in ANSWERS[row]]
            means.append(max(sum(p) / len(p) for p in each) / temperature)
        total = sum(map(math.exp, means))
        return [mean - math.log(total) for mean in means]

    found = signal.scores(QUESTIONS, PASSAGES, ANSWERS)
    assert_scores(found, expected)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("normalized", [True, False])
def test_leave_one_out_reads_the_other_passages_alone(fused, normalized):
    signal = LeaveOneOut(fused, template=TEMPLATE, length_normalized=normalized, batch_size=2)

    def likelihood(row: int, texts: list[str]) -> float:
        each = [t5_log_probabilities(fused, texts, answer) for answer in ANSWERS[row]]
        return max(sum(p) / (len(p) if normalized else 1) for p in each)

    def expected(row: int) -> list[float]:
        texts = inputs(row)
        with_all = likelihood(row, texts)
        return [
            with_all - likelihood(row, texts[:left_out] + texts[left_out + 1 :])
            for left_out in range(len(texts))
        ]

    assert_scores(signal.scores(QUESTIONS, PASSAGES, ANSWERS), expected)


@pytest.mark.parametrize("grades", [None, 3])
def test_perplexity_reduction_compares_with_closed_book(causal, grades):
    signal = GradedPerplexityReduction(
        causal,
        template=TEMPLATE,
        closed_book_template="question {question} answer",
        answer_template=" {answer}",
        grades=grades,
    )

    def perplexity(row: int, prompt: str) -> float:
        each = [causal_log_probabilities(causal, prompt, answer) for answer in ANSWERS[row]]
        return min(math.exp(-sum(p) / len(p)) for p in each)

    def expected(row: int) -> list[float]:
        closed = perplexity(row, f"question {QUESTIONS[row]} answer")
        found = [1 - perplexity(row, text) / closed for text in inputs(row)]
        if grades is None:
            return found
        return [max(0.0, float(math.floor(grades * reduction))) for reduction in found]

    found = signal.scores(QUESTIONS, PASSAGES, ANSWERS)
    assert_scores(found, expected)
    if grades:
        assert set(found[np.isfinite(found)].tolist()) <= {0.0, 1.0, 2.0}


# ---- attention of a decoder-only LM --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mass", "mean"])
def test_causal_attention_is_that_of_the_last_token_to_each_span(causal, kind):
    """Against whole matrices of attention, one prompt at a time without padding."""
    template = "{passages} question {question} answer"
    before = causal.model.config._attn_implementation
    signal = CausalAttention(causal, template=template, separator=" and ", kind=kind, batch_size=2)
    found = signal.scores(QUESTIONS, PASSAGES)
    assert causal.model.config._attn_implementation == before
    causal.model.set_attn_implementation("eager")

    def expected(row: int) -> list[float]:
        pieces = [["[BOS]"]]
        for number, passage in enumerate(PASSAGES[row]):
            pieces += [["and"]] if number else []
            pieces.append(passage.split())
        pieces.append(f"question {QUESTIONS[row]} answer".split())
        ids = causal.tokenizer.convert_tokens_to_ids([word for own in pieces for word in own])
        with torch.no_grad():
            attentions = causal.model(torch.tensor([ids]), output_attentions=True).attentions
        heads = [weights[0, head, -1] for weights in attentions for head in range(4)]
        scores, begin = [], 1
        for number, passage in enumerate(PASSAGES[row]):
            begin += 1 if number else 0
            end = begin + len(passage.split())
            total = sum(float(head[begin:end].double().sum()) for head in heads) / len(heads)
            scores.append(total / (end - begin) if kind == "mean" else total)
            begin = end
        return scores

    assert_scores(found, expected)
    causal.model.set_attn_implementation(before)


def test_the_order_of_fields_and_braces_of_the_template_are_kept(llama):
    """The passages may follow the question, and braces may be part of the text."""
    signal = CausalAttention(llama, template="question {question} the {passages}", separator=" a ")
    prompt = signal._prompt("who runs", ["red hen", "fox"])
    assert prompt.text == "question who runs the red hen a fox"
    assert [prompt.text[begin:end] for begin, end in prompt.spans] == ["red hen", "fox"]
    assert CausalAttention(llama, template="{{{passages}}} {question}")._prompt("{q}", ["{p}"]) == (
        "{{p}} {q}",
        [(1, 4)],
    )


def test_a_sliding_window_has_no_attention_to_all_passages(tmp_path_factory):
    model = CausalLM.from_pretrained(load("MistralForCausalLM", tmp_path_factory))
    signal = CausalAttention(model, template="{passages} question {question}")
    with pytest.raises(ValueError, match=r"expected attention weights of all \d+ tokens"):
        signal.scores(QUESTIONS, PASSAGES)


# ---- what all signals share ----------------------------------------------------------------------


def all_signals(fused: FusionInDecoder, llama: CausalLM) -> list[Any]:
    options = {"template": TEMPLATE}
    return [
        FusedAttention(fused, **options),
        AnswerLikelihood(fused, **options),
        PerplexityDistillation(llama, **options, answer_template=" {answer}"),
        GradedPerplexityReduction(fused, **options, closed_book_template="{question}"),
        LeaveOneOut(fused, **options),
        CausalAttention(llama, template="{passages} {question}"),
    ]


def test_only_the_signal_of_the_paper_is_no_extension(fused, llama):
    signals = all_signals(fused, llama)
    assert [signal.is_extension for signal in signals] == [False, True, True, True, True, True]
    assert len({signal.name for signal in signals}) == 6
    assert [s.needs_answers for s in signals] == [False, True, True, True, True, False]


def test_batches_change_no_score(fused, llama):
    for signal in all_signals(fused, llama):
        together = signal.scores(QUESTIONS, PASSAGES, ANSWERS)
        for row in range(3):
            own = slice(row, row + 1)
            alone = signal.scores(QUESTIONS[own], PASSAGES[own], ANSWERS[own])[0]
            np.testing.assert_allclose(
                together[row, : len(alone)], alone, rtol=2e-5, atol=2e-5, err_msg=signal.name
            )


def test_no_questions_give_no_scores(fused, llama):
    for signal in all_signals(fused, llama):
        assert signal.scores([], [], []).shape == (0, 0), signal.name


def test_fingerprints_differ_by_signal_model_and_option(fused, llama):
    signals = [
        *all_signals(fused, llama),
        FusedAttention(fused, template=TEMPLATE + " "),
        FusedAttention(fused, template=TEMPLATE, kind="mass"),
        FusedAttention(fused, template=TEMPLATE, max_characters=None),
        AnswerLikelihood(llama, template=TEMPLATE),
        AnswerLikelihood(fused, template=TEMPLATE, append_eos=True),
        PerplexityDistillation(llama, template=TEMPLATE, temperature=2.0),
        GradedPerplexityReduction(
            fused, template=TEMPLATE, closed_book_template="{question}", grades=2
        ),
        CausalAttention(llama, template="{passages} {question}", separator=" "),
    ]
    prints = [signal.fingerprint() for signal in signals]
    assert len(set(prints)) == len(prints)
    again = FusedAttention(fused, template=TEMPLATE, batch_size=1)
    assert again.fingerprint() == prints[0]


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("who", [["a"]], [["a"]]), TypeError, "questions is one string"),
        ((["who"], [["a", 3]], [["a"]]), TypeError, "passages of question 0 must be strings"),
        ((["who"], ["the hen"], [["a"]]), TypeError, "passages of question 0 is one string"),
        ((["who"], "the hen", [["a"]]), TypeError, "passages must be a list of lists"),
        ((["who"], [["a", "hen"]] * 2, [["a"]]), ValueError, "got 2 lists and 1 questions"),
        ((["who"], [[]], [["a"]]), ValueError, "of the passages of question 0, got 0"),
    ],
)
def test_wrong_questions_and_passages_are_refused_by_every_signal(
    fused, llama, arguments, error, message
):
    for signal in all_signals(fused, llama):
        with pytest.raises(error, match=message) as raised:
            signal.scores(*arguments)
        assert str(raised.value).startswith(type(signal).__name__)


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        (None, ValueError, "answers must be given"),
        ([[]], ValueError, "of the answers of question 0, got 0"),
        (["hen"], TypeError, "answers of question 0 is one string"),
        ([["hen"]] * 2, ValueError, "got 2 lists and 1 questions"),
        ([[""]], ValueError, "a continuation has no token"),
    ],
)
def test_wrong_answers_are_refused_by_signals_that_need_them(fused, llama, answers, error, message):
    for signal in all_signals(fused, llama):
        if signal.needs_answers and not (answers == [[""]] and signal.model is llama):
            with pytest.raises(error, match=message):
                signal.scores(["who"], [["the hen", "a fox"]], answers)


def test_an_answer_without_a_token_after_a_prompt_is_refused(llama):
    signal = AnswerLikelihood(llama, template=TEMPLATE)
    with pytest.raises(ValueError, match="a continuation has no token"):
        signal.scores(["who"], [["hen"]], [[""]])


def test_models_of_the_wrong_kind_are_refused(fused, llama):
    with pytest.raises(TypeError, match="got CausalLM; CausalAttention and AnswerLikelihood take"):
        FusedAttention(llama, template=TEMPLATE)
    with pytest.raises(TypeError, match="LeaveOneOut: model must be a FusionInDecoder"):
        LeaveOneOut(llama, template=TEMPLATE)
    with pytest.raises(TypeError, match="CausalAttention: model must be a CausalLM"):
        CausalAttention(fused, template="{passages}{question}")
    with pytest.raises(TypeError, match="AnswerLikelihood: model must be a CausalLM or Encoder"):
        AnswerLikelihood(fused.model, template=TEMPLATE)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"template": "{text} {question}"}, ValueError, "fields ..passage., .question"),
        ({"template": "{passage}"}, ValueError, "fields ..passage., .question"),
        ({"max_characters": 0}, ValueError, "max_characters must be at least 1"),
        ({"max_characters": 1.5}, TypeError, "max_characters must be an integer"),
        ({"overlong": "cut"}, ValueError, "overlong must be 'error' or 'cut passage'"),
        ({"gold": "mean"}, ValueError, "gold must be 'max' or 'logsumexp'"),
        ({"gold": "logsumexp", "length_normalized": True}, ValueError, "use gold='max'"),
        ({"answer_template": "{text}"}, ValueError, "fields ..answer"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_wrong_options_are_refused(fused, options, error, message):
    with pytest.raises(error, match=message):
        AnswerLikelihood(fused, **{"template": TEMPLATE, **options})


def test_wrong_options_of_single_signals_are_refused(fused, llama):
    with pytest.raises(ValueError, match="kind must be one of logits, mass, value norm"):
        FusedAttention(fused, template=TEMPLATE, kind="heads")
    with pytest.raises(ValueError, match="kind must be 'mass' or 'mean'"):
        CausalAttention(llama, template="{passages}{question}", kind="sum")
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        PerplexityDistillation(fused, template=TEMPLATE, temperature=0)
    with pytest.raises(TypeError, match="length_normalized cannot be chosen"):
        PerplexityDistillation(fused, template=TEMPLATE, length_normalized=False)
    with pytest.raises(ValueError, match="grades must be at least 2"):
        GradedPerplexityReduction(
            fused, template=TEMPLATE, closed_book_template="{question}", grades=1
        )
    with pytest.raises(ValueError, match="with the fields"):
        GradedPerplexityReduction(fused, template=TEMPLATE, closed_book_template="{passage}")


def test_leave_one_out_needs_a_second_passage(fused):
    with pytest.raises(ValueError, match="at least 2 of the passages of question 0, got 1"):
        LeaveOneOut(fused, template=TEMPLATE).scores(["who"], [["hen"]], [["hen"]])


def test_a_passage_without_a_token_has_no_attention(llama):
    signal = CausalAttention(llama, template="{passages} {question}")
    with pytest.raises(ValueError, match="passage 1 of question 0 has no token"):
        signal.scores(["who"], [["hen", " "]])


def test_an_input_beyond_the_limit_is_an_error_or_cut_as_chosen(fused, llama):
    """ "cut passage" leaves the question whole, and room for an answer behind a prompt."""
    passages = [["red " * 40 + "fox", "hen"]]
    for model, answer in ((fused, "{answer}"), (llama, " {answer}")):
        short = model.with_options(max_length=16)
        options = {"template": TEMPLATE, "answer_template": answer}
        with pytest.raises(ValueError, match="more than max_length 16"):
            AnswerLikelihood(short, **options).scores(["who runs"], passages, [["the hen"]])
        cut = AnswerLikelihood(short, **options, overlong="cut passage")
        found = cut.scores(["who runs"], passages, [["the hen"]])
        # 16 tokens are those of 4 words around the passage and, in T5, the end token; in Llama the
        # start token and an answer of two.
        kept = 11 if model is fused else 9
        same = [["red " * (kept - 1) + "red", "hen"]]
        plain = AnswerLikelihood(model, **options)
        expected = plain.scores(["who runs"], same, [["the hen"]])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_question_that_alone_is_beyond_the_limit_is_an_error(fused):
    signal = FusedAttention(
        fused.with_options(max_length=8), template=TEMPLATE, overlong="cut passage"
    )
    with pytest.raises(ValueError, match="leaves no room for a passage within 8 tokens"):
        signal.scores(["who runs over the red barn and"], [["hen hen hen"]])
