"""Target LMs against loops over single questions, without batches, caches or padding."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tiny_target_models import LENGTH, WORDS, save_target

from tilefold.aar.targets import ConcatenatedTarget, FusedTarget
from tilefold.models import CausalLM, EncoderDecoderLM, FusionInDecoder

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["Q : which hen ? A :", "Q : which fox runs over the barn ? A :", "Q : the ? A :"]
PASSAGES = [
    ["the red hen runs .", "a blue fox sleeps over the barn and under the barn .", "the barn ."],
    ["a hen ."],
    [],
]
OPTIONS = [["A", "B", "C", "D"], ["C", "A"], ["B", "A B", "D C B A"]]
SHOWN = ["Q : a ? A : hen . ", "", "Q : fox ? A : the fox . "]


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    return save_target("T5ForConditionalGeneration", tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module", params=["GPT2LMHeadModel", "LlamaForCausalLM"])
def causal(request, tmp_path_factory) -> CausalLM:
    return CausalLM.from_pretrained(save_target(request.param, tmp_path_factory.mktemp("causal")))


@pytest.fixture(scope="module")
def fusion(t5) -> FusionInDecoder:
    return FusionInDecoder.from_pretrained(t5)


def texts_of(row: int, characters: int = 500) -> list[str]:
    return [p[:characters] + SHOWN[row] + QUESTIONS[row] for p in PASSAGES[row]] or [
        SHOWN[row] + QUESTIONS[row]
    ]


def states_of(model: FusionInDecoder, texts: list[str]):
    encoder = model.model.get_encoder()
    parts = [encoder(**model.tokenizer(text, return_tensors="pt"))[0] for text in texts]
    return torch.cat(parts, 1)


def decoder_logits(model: FusionInDecoder, states, written: list[int]):
    """Logits for the token after each of the start token and those written."""
    start = model.model.config.decoder_start_token_id
    return model.model(
        encoder_outputs=(states,), decoder_input_ids=torch.tensor([[start, *written]])
    ).logits[0]


def written_alone(logits_after, n: int, end: int) -> list[int]:
    """Greedy decoding, all tokens read again at each step."""
    written: list[int] = []
    while len(written) < n:
        token = int(logits_after(written)[-1].argmax())
        if token == end:
            break
        written.append(token)
    return written


@torch.inference_mode()
def test_a_fused_answer_is_that_of_a_plain_loop(fusion):
    target = FusedTarget(fusion, max_new_tokens=9, batch_size=2)
    found = target.answer(QUESTIONS, PASSAGES, demonstrations=SHOWN)
    for row in range(3):
        states = states_of(fusion, texts_of(row))
        ids = written_alone(lambda w, s=states: decoder_logits(fusion, s, w), 9, 3)
        assert found[row] == fusion.tokenizer.decode(ids, skip_special_tokens=True)
    assert len(set(found)) == 3


def fused_log_p(model: FusionInDecoder, row: int, option: str) -> np.ndarray:
    """Log-probabilities of the tokens of an option, and of the end of the text."""
    ids = [*model.tokenizer(option, add_special_tokens=False)["input_ids"], 3]
    logits = decoder_logits(model, states_of(model, texts_of(row)), ids[:-1])
    return logits.double().log_softmax(-1)[range(len(ids)), ids].numpy()


def options_of(seed: int) -> list[list[str]]:
    """Options of one to four words for each question."""
    rng = np.random.default_rng(seed)
    return [
        [" ".join(rng.choice(WORDS[:16], size=length)) for length in (1, 2, 3, 4)]
        for _ in QUESTIONS
    ]


@torch.inference_mode()
def test_a_fused_choice_has_the_largest_mean_log_likelihood(fusion):
    others = {"sum": 0, "other end": 0}
    for seed in range(6):
        options = options_of(seed)
        scores = [
            [fused_log_p(fusion, row, option) for option in own] for row, own in enumerate(options)
        ]
        means = {
            True: [int(np.argmax([s.mean() for s in own])) for own in scores],
            False: [int(np.argmax([s[:-1].mean() for s in own])) for own in scores],
        }
        for append_eos, expected in means.items():
            target = FusedTarget(fusion, append_eos=append_eos, batch_size=2)
            found = target.choose(QUESTIONS, options, PASSAGES, demonstrations=SHOWN)
            assert found.tolist() == expected
            assert found.dtype == np.int64
        others["sum"] += means[True] != [int(np.argmax([s.sum() for s in own])) for own in scores]
        others["other end"] += means[True] != means[False]
    assert min(others.values()) > 0  # the options tell these rules apart


def test_passages_change_answers_and_are_cut(fusion):
    short = FusedTarget(fusion, passage_characters=7, max_new_tokens=9)
    whole = FusedTarget(fusion, max_new_tokens=9)
    cut = [[passage[:7] for passage in own] for own in PASSAGES]
    assert short.answer(QUESTIONS, PASSAGES) == whole.answer(QUESTIONS, cut)
    assert whole.answer(QUESTIONS, cut) != whole.answer(QUESTIONS, PASSAGES)


def test_a_closed_book_is_none_or_empty_lists(fusion, t5, causal):
    plain = EncoderDecoderLM.from_pretrained(t5).generate(QUESTIONS, max_new_tokens=9)
    for target in (FusedTarget(fusion, max_new_tokens=9), ConcatenatedTarget(causal)):
        closed = target.answer(QUESTIONS)
        assert closed == target.answer(QUESTIONS, [[], [], []])
        np.testing.assert_array_equal(
            target.choose(QUESTIONS, OPTIONS), target.choose(QUESTIONS, OPTIONS, [[], [], []])
        )
    assert FusedTarget(fusion, max_new_tokens=9).answer(QUESTIONS) == plain


def joined(row: int, suffix: str = "") -> str:
    """Demonstrations, passages with blank lines, and the prompt, as AAR's code for GPT has it."""
    return SHOWN[row] + "".join(f"{p}\n\n" for p in PASSAGES[row]) + QUESTIONS[row] + suffix


@torch.inference_mode()
def test_a_concatenated_answer_is_that_of_a_plain_loop(causal):
    found = ConcatenatedTarget(causal, max_new_tokens=6, batch_size=2).answer(
        QUESTIONS, PASSAGES, demonstrations=SHOWN
    )
    for row in range(3):
        given = causal.tokenizer(joined(row))["input_ids"][:-1]  # without the final [EOS]
        ids = written_alone(lambda w, g=given: causal.model(torch.tensor([g + w])).logits[0], 6, 3)
        assert found[row] == causal.tokenizer.decode(ids, skip_special_tokens=True)


@torch.inference_mode()
def test_a_concatenated_choice_follows_answer_with_a_blank(causal):
    found = ConcatenatedTarget(causal, batch_size=2).choose(
        QUESTIONS, OPTIONS, PASSAGES, demonstrations=SHOWN
    )
    for row, options in enumerate(OPTIONS):
        given = causal.tokenizer(joined(row, "\n\nAnswer:"))["input_ids"][:-1]
        means = []
        for option in options:
            ids = causal.tokenizer(option, add_special_tokens=False)["input_ids"]
            log_p = causal.model(torch.tensor([given + ids])).logits[0].double().log_softmax(-1)
            places = range(len(given) - 1, len(given) + len(ids) - 1)
            means.append(float(log_p[places, ids].mean()))
        assert found[row] == int(np.argmax(means))
        assert np.ptp(means) > 1e-3


def test_an_encoder_decoder_reads_passages_as_one_text(t5, fusion):
    model = EncoderDecoderLM.from_pretrained(t5)
    prompts, different = [joined(row) for row in range(3)], 0
    for seed in range(6):
        options, choices = options_of(seed), []
        for end in (False, True):
            target = ConcatenatedTarget(model, append_eos=end)
            found = target.choose(QUESTIONS, options, PASSAGES, demonstrations=SHOWN)
            expected = model.option_log_likelihoods(prompts, options, append_eos=end)
            assert found.tolist() == [int(own.mean.argmax()) for own in expected]
            choices.append(found.tolist())
        different += choices[0] != choices[1]
    assert different
    fused = FusedTarget(fusion).answer(QUESTIONS[:1], PASSAGES[:1])
    assert ConcatenatedTarget(model, max_new_tokens=64).answer(QUESTIONS[:1], PASSAGES[:1]) != fused


def test_the_first_line_alone_is_the_answer(causal, monkeypatch):
    texts = ["\n\n the hen \nQ: who?", "a fox\n\nmore", "", "\nlate"]
    monkeypatch.setattr(causal, "generate", lambda prompts, **options: texts)
    assert ConcatenatedTarget(causal).answer(["?"] * 4) == [" the hen ", "a fox", "", ""]
    assert ConcatenatedTarget(causal, first_line_only=False).answer(["?"] * 4) == texts


# ---- over-long prompts ---------------------------------------------------------------------------


def long_passages(n: int) -> list[list[str]]:
    return [[f"{word} " * 30 for word in WORDS[:n]]]


def test_the_last_passages_are_dropped_until_the_prompt_fits_and_a_warning_counts_them(causal):
    target = ConcatenatedTarget(causal, max_new_tokens=15)
    # [BOS], 3 x 30 tokens, 7 of the question and 15 new ones are 113 of 120; a fourth is too many.
    with pytest.warns(UserWarning, match="left out the last 2 passages of 1 of 1 questions"):
        found = target.answer(QUESTIONS[:1], long_passages(5))
    assert found == target.answer(QUESTIONS[:1], long_passages(3))
    assert found != target.answer(QUESTIONS[:1], [long_passages(5)[0][2:]])


@pytest.mark.parametrize("spare", [0, -1])
def test_a_prompt_that_fits_to_the_token_keeps_its_passages(causal, spare):
    n_tokens = 1 + 7 + 15  # [BOS], the question, and new tokens
    passage = "the " * (LENGTH - n_tokens - spare)
    target = ConcatenatedTarget(causal)
    if spare == 0:
        assert target.answer(QUESTIONS[:1], [[passage]]) != target.answer(QUESTIONS[:1])
    else:
        with pytest.warns(UserWarning, match="1 passages of 1 of 1"):
            assert target.answer(QUESTIONS[:1], [[passage]]) == target.answer(QUESTIONS[:1])


def test_a_choice_leaves_room_for_its_longest_option(causal):
    # [BOS], 7 tokens of the question and 2 of "Answer:"
    passage = "the " * (LENGTH - 10 - 1)
    target = ConcatenatedTarget(causal)
    target.choose(QUESTIONS[:1], [["A", "B"]], [[passage]])
    with pytest.warns(UserWarning, match="1 passages"):
        target.choose(QUESTIONS[:1], [["A", "B A"]], [[passage]])
    with pytest.warns(UserWarning, match="1 passages"):
        ConcatenatedTarget(causal, append_eos=True).choose(QUESTIONS[:1], [["A", "B"]], [[passage]])


def test_dropping_can_be_refused(causal):
    target = ConcatenatedTarget(causal, overflow="error")
    with pytest.raises(
        ValueError, match=r"with 5 passages exceeds max_length 120.*overflow='drop'"
    ):
        target.answer(QUESTIONS[:1], long_passages(5))


@pytest.mark.parametrize("overflow", ["drop", "error"])
def test_a_question_too_long_by_itself_is_an_error(causal, fusion, overflow):
    with pytest.raises(ValueError, match="max_length 120"):
        ConcatenatedTarget(causal, overflow=overflow).answer(["the " * 130])
    with pytest.raises(ValueError, match="max_length 120"):
        FusedTarget(fusion).answer(QUESTIONS[:1], [["the " * 124]])


# ---- fingerprints and bad input ------------------------------------------------------------------


def test_fingerprints_cover_all_options_that_answers_depend_on(fusion, causal):
    same = FusedTarget(fusion).fingerprint()
    assert same == FusedTarget(fusion, name="other", batch_size=1).fingerprint()
    others = [
        FusedTarget(fusion, passage_characters=None),
        FusedTarget(fusion, max_new_tokens=3),
        FusedTarget(fusion, append_eos=False),
        FusedTarget(fusion, choice_suffix=" Answer :"),
        FusedTarget(fusion, template="{passage} {prompt}"),
        FusedTarget(fusion.with_options(max_length=100)),
        ConcatenatedTarget(causal),
        ConcatenatedTarget(causal, overflow="error"),
        ConcatenatedTarget(causal, first_line_only=False),
        ConcatenatedTarget(causal, option_prefix=""),
        ConcatenatedTarget(causal, append_eos=True),
    ]
    digests = [other.fingerprint() for other in others]
    assert len({same, *digests}) == len(others) + 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.answer("who?"), TypeError, "questions is one string"),
        (lambda t: t.answer(["a"], ["p"]), TypeError, "passages of question 0 is one string"),
        (lambda t: t.answer(["a"], [[1]]), TypeError, "must be strings, got int"),
        (lambda t: t.answer(["a"], []), ValueError, "passages of 1 questions, got 0 lists"),
        (lambda t: t.answer(["a"], demonstrations=[]), ValueError, "demonstrations of 1"),
        (lambda t: t.choose(["a"], [[]]), ValueError, "question 0 has no options"),
        (lambda t: t.choose(["a"], []), ValueError, "options of 1 questions, got 0 lists"),
        (lambda t: t.choose(["a"], [["A", ""]]), ValueError, "no token"),
    ],
)
def test_bad_arguments_are_named(fusion, causal, call, error, message):
    for target in (FusedTarget(fusion), ConcatenatedTarget(causal, option_prefix="")):
        with pytest.raises(error, match=message):
            call(target)


def test_each_target_takes_its_own_kind_of_model(fusion, causal):
    with pytest.raises(TypeError, match="must be a FusionInDecoder, got"):
        FusedTarget(causal)
    with pytest.raises(TypeError, match="must be a CausalLM or an EncoderDecoderLM, got Fusion"):
        ConcatenatedTarget(fusion)
    with pytest.raises(ValueError, match="'drop' or 'error', got 'cut'"):
        ConcatenatedTarget(causal, overflow="cut")
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        FusedTarget(fusion, max_new_tokens=0)
    with pytest.raises(ValueError, match="FusedTarget: batch_size must be at least 1, got 0"):
        FusedTarget(fusion, batch_size=0)


def test_no_questions_have_no_answers(fusion, causal):
    for target in (FusedTarget(fusion), ConcatenatedTarget(causal)):
        assert target.answer([], []) == []
        assert target.choose([], [], []).shape == (0,)
