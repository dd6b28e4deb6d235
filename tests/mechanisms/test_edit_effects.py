"""Effects of edits: those of the edited model, prompt by prompt."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import TEXTS, editable, facts
from tilefold.mechanisms import Rome, SecondMoments, ShiftSearch, edit, edit_effects, second_moments
from tilefold.models import MaskedLM

FREE = ShiftSearch(essence="the {} [MASK]", required_probability=None)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MaskedLM:
    return editable("BertForMaskedLM", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def moments(model) -> SecondMoments:
    return second_moments(model, TEXTS)


def test_effects_are_those_of_the_edited_model(model, moments):
    adds, removes = facts(), facts(remove=True)
    edits = [adds[0], removes[1], adds[2]]
    delta = Rome(moments, layer=0, search=FREE).delta(model, edits)
    found = edit_effects(model, delta, edits)
    for row, fact in enumerate(edits):
        words = [fact.object] * 2
        before = model.logits(fact.prompts)
        assert found.before[row] == pytest.approx(
            model.probabilities(fact.prompts, words).mean(), rel=1e-4
        )
        with edit(model, delta):
            after = model.logits(fact.prompts)
            assert found.after[row] == pytest.approx(
                model.probabilities(fact.prompts, words).mean(), rel=1e-4
            )
        says = after.argmax(1) == model.word_ids(words)
        assert found.success[row] == np.mean(says != fact.remove)
        assert found.unchanged[row] == np.mean(after.argmax(1) == before.argmax(1))
        p, q = (torch.from_numpy(x).double().log_softmax(1) for x in (before, after))
        expected = float((p.exp() * (p - q)).sum(1).mean())
        assert found.divergence[row] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_effects_of_many_facts_are_those_of_few(model, moments, monkeypatch):
    import tilefold.mechanisms.editing.edit_effects as module

    edits = facts()
    delta = Rome(moments, layer=0, search=FREE).delta(model, edits)
    whole = edit_effects(model, delta, edits)
    monkeypatch.setattr(module, "_PROMPTS", 3)
    for one, other in zip(whole, edit_effects(model, delta, edits), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="expected one fact or more, got none"):
        edit_effects(model, delta, [])
