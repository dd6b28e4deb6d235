"""Prompts of edits: subjects, places of objects and their probabilities, against plain passes."""

import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import editable, facts
from tilefold.mechanisms import FactEdit
from tilefold.mechanisms.editing.cloze_batch import cloze_batch
from tilefold.mechanisms.editing.fact_edit import check_edits
from tilefold.models import CausalLM, MaskedLM, minilm

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> MaskedLM:
    return editable("BertForMaskedLM", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> CausalLM:
    return editable("LlamaForCausalLM", tmp_path_factory.mktemp("llama"))


def test_a_masked_models_likelihood_is_that_of_the_probabilities_at_the_mask(masked):
    edits = facts()
    batch = cloze_batch("test", masked, edits)
    found = batch.log_likelihood(batch.log_probabilities(masked)).exp()
    prompts = [(prompt, edit.object) for edit in edits for prompt in edit.prompts]
    expected = masked.probabilities([p for p, _ in prompts], [word for _, word in prompts])
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected), rtol=1e-4, atol=1e-6)
    assert batch.edits.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_causal_models_likelihood_is_that_of_the_continuation(causal):
    edits = facts()
    batch = cloze_batch("test", causal, edits)
    found = batch.log_likelihood(batch.log_probabilities(causal))
    prompts = [prompt.removesuffix(" [MASK]") for edit in edits for prompt in edit.prompts]
    objects = [" " + edit.object for edit in edits for _ in edit.prompts]
    expected = causal.log_likelihood(prompts, objects, append_eos=False).sum
    torch.testing.assert_close(
        found.detach(), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5
    )


def test_what_follows_the_object_is_nothing_to_a_causal_model(causal):
    one = FactEdit("hen", ["the hen runs over [MASK]"], "barn")
    other = FactEdit("hen", ["the hen runs over [MASK] and the fox"], "barn")
    found = [
        batch.log_probabilities(causal)
        for batch in (cloze_batch("test", causal, [edit]) for edit in (one, other))
    ]
    torch.testing.assert_close(*found)


def test_an_object_of_several_tokens_has_a_mask_for_each(masked):
    edit = FactEdit("fox", ["the fox runs over [MASK] and sleeps"], "the red barn")
    batch = cloze_batch("test", masked, [edit])
    tokenizer = masked.tokenizer
    text = "the fox runs over [MASK] [MASK] [MASK] and sleeps"
    tokens = tokenizer(text, return_tensors="pt")
    torch.testing.assert_close(batch.tokens["input_ids"], tokens["input_ids"])
    with torch.no_grad():
        logits = masked.model(**tokens).logits[0].log_softmax(1)
    ids = tokenizer("the red barn", add_special_tokens=False)["input_ids"]
    expected = sum(float(logits[5 + place, i]) for place, i in enumerate(ids)) / 3
    likelihood = batch.log_likelihood(batch.log_probabilities(masked))
    assert float(likelihood.detach()) == pytest.approx(expected, abs=1e-4)


def test_objects_of_one_and_of_several_tokens_share_a_batch(masked):
    edits = [
        FactEdit("fox", ["the fox runs over [MASK] and sleeps"], "the red barn"),
        FactEdit("hen", ["a hen [MASK]"], "sleeps"),
    ]
    together = cloze_batch("test", masked, edits)
    found = together.log_likelihood(together.log_probabilities(masked))
    for row, edit in enumerate(edits):
        alone = cloze_batch("test", masked, [edit])
        likelihood = alone.log_likelihood(alone.log_probabilities(masked))
        torch.testing.assert_close(found[row : row + 1], likelihood, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "subject", "last"),
    [
        ("the red hen sleeps under [MASK]", "red hen", 3),
        ("[MASK] is over the red hen", "red hen", 6),  # after the object, whose length it moves by
        ("red hen and red hen under [MASK]", "red hen", 2),  # the first of two
        ("unhen red hen under [MASK]", "hen", 3),  # a whole word
    ],
)
def test_the_last_token_of_the_subject_is_found(masked, prompt, subject, last):
    batch = cloze_batch("test", masked, [FactEdit(subject, [prompt], "barn")])
    assert batch.last.tolist() == [last]
    x = torch.arange(batch.subjects.numel() * 2.0).reshape(1, -1, 2)
    torch.testing.assert_close(batch.at_subjects(x), x[:, last])
    torch.testing.assert_close(batch.at_subjects(x.reshape(-1, 2)), x[:, last])


def test_subjects_and_objects_of_word_pieces_are_found_whole():
    encoder = minilm()
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = MaskedLM(transformers.BertForMaskedLM(config), encoder.tokenizer)
    edit = FactEdit("Ouagadougou", ["The river of Ouagadougou is the [MASK]."], "Nakambé")
    batch = cloze_batch("test", model, [edit])
    pieces = model.tokenizer.convert_ids_to_tokens(batch.tokens["input_ids"][0])
    n = len(model.tokenizer("Nakambé", add_special_tokens=False)["input_ids"])
    assert n > 1
    assert pieces.count("[MASK]") == n == int((batch.objects >= 0).sum())
    spoken = [p for p, own in zip(pieces, batch.subjects[0].tolist(), strict=True) if own]
    assert "".join(spoken).replace("##", "") == "ouagadougou"


def test_hidden_subjects_are_masks_or_not_attended_to(masked, causal):
    edit = FactEdit("red hen", ["the red hen sleeps under [MASK]"], "barn")
    hidden = cloze_batch("test", masked, [edit]).without_subjects(masked.tokenizer.mask_token_id)
    text = "the [MASK] [MASK] sleeps under [MASK]"
    assert hidden.tokens["input_ids"].tolist() == [masked.tokenizer(text)["input_ids"]]
    hidden = cloze_batch("test", causal, [edit]).without_subjects(None)
    assert hidden.tokens["attention_mask"].tolist() == [[1, 1, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("hen", ["the fox [MASK]"], "runs"),
            "'the fox \\[MASK\\]' does not have the subject 'hen'",
        ),
        (("hen", ["the hen runs"], "runs"), "a prompt must have one \\[MASK\\], got 0: 'the hen"),
        (("hen", ["[MASK] hen [MASK]"], "runs"), "must have one \\[MASK\\], got 2"),
        (("hen", [], "runs"), "expected one prompt or more, got none"),
        ((" ", ["the hen [MASK]"], "runs"), "subject must have text, got ' '"),
        (("hen", ["the hen [MASK]"], ""), "object must have text, got ''"),
    ],
)
def test_wrong_edits_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        FactEdit(*arguments)


def test_one_string_is_no_list_of_prompts():
    with pytest.raises(TypeError, match="prompts must be a list of strings, got 'the hen"):
        FactEdit("hen", "the hen [MASK]", "runs")


def test_edits_that_contradict_each_other_are_an_error():
    prompts = ["the hen [MASK]"]
    adds, removes = (FactEdit("hen", prompts, "runs", remove) for remove in (False, True))
    other = FactEdit("hen", prompts, "sleeps")
    for pair in ([adds, other], [adds, removes]):
        with pytest.raises(ValueError, match=r"Rome: two edits contradict each other: .*'the hen"):
            check_edits("Rome", pair)
    check_edits("Rome", [removes, FactEdit("hen", prompts, "sleeps", True)])
    check_edits("Rome", [adds, FactEdit("hen", prompts, "sleeps", True)])
    ends = FactEdit("hen", ["the hen [MASK] now"], "sleeps")
    check_edits("Rome", [adds, ends])
    with pytest.raises(ValueError, match="two edits contradict each other"):
        check_edits("Rome", [adds, ends], causal=True)
    with pytest.raises(ValueError, match="Rome: expected one edit or more, got none"):
        check_edits("Rome", [])


def test_what_a_model_cannot_read_is_an_error(masked, causal):
    unknown = FactEdit("hen", ["the hen [MASK]"], "flies")
    with pytest.raises(ValueError, match="Rome: the tokenizer does not know the object 'flies'"):
        cloze_batch("Rome", masked, [unknown])
    backwards = FactEdit("hen", ["[MASK] sleeps under the hen"], "fox")
    with pytest.raises(ValueError, match="reads no further than the object, which must come after"):
        cloze_batch("Rome", causal, [backwards])
    long = FactEdit("hen", ["the hen " + "and the fox " * 9 + "[MASK]"], "runs")
    with pytest.raises(ValueError, match="a prompt has 32 tokens, more than max_length 24"):
        cloze_batch("Rome", masked, [long])
    with pytest.raises(TypeError, match="model must be a MaskedLM or CausalLM, got Encoder"):
        cloze_batch("Rome", minilm(), facts())
