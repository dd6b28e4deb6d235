"""ROME and MEMIT: the search of shifts, constraints and equations, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import CAUSAL, MASKED, TEXTS, editable, facts
from tilefold.mechanisms import (
    FactEdit,
    Memit,
    Rome,
    SecondMoments,
    ShiftSearch,
    edit,
    edit_effects,
    feed_forwards,
    second_moments,
)
from tilefold.mechanisms.editing.cloze_batch import cloze_batch
from tilefold.mechanisms.editing.edit_losses import divergence
from tilefold.mechanisms.editing.editable_model import editable_digest
from tilefold.mechanisms.editing.memit import ridge_factors
from tilefold.mechanisms.editing.output_shifts import output_shifts
from tilefold.mechanisms.editing.residual_state import ResidualState
from tilefold.models import MaskedLM
from tiny_families import FAMILIES

pytestmark = pytest.mark.usefixtures("one_thread")
FREE = ShiftSearch(essence="the {} [MASK]", required_probability=None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def make(name: str):
        if name not in made:
            made[name] = editable(name, tmp_path_factory.mktemp("model"))
        return made[name]

    return make


@pytest.fixture(scope="module")
def model(models) -> MaskedLM:
    return models("BertForMaskedLM")


@pytest.fixture(scope="module")
def moments(model) -> SecondMoments:
    return second_moments(model, TEXTS)


def dense(model, layer: int, weights: dict | None = None):
    return feed_forwards(model)[layer].output


def keys_and_outputs(model, layer: int, fact) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over prompts, one prompt at a time."""
    found = []
    hook = dense(model, layer).register_forward_hook(
        lambda _, args, out: found.append((args[0][0, last], out[0, last]))
    )
    with torch.no_grad():
        for prompt in fact.prompts:
            batch = cloze_batch("test", model, [replace(fact, prompts=[prompt])])
            last = int(batch.last)
            model(batch.tokens)
    hook.remove()
    return tuple(torch.stack(column).mean(0) for column in zip(*found, strict=True))


# ---- the search of shifts ------------------------------------------------------------------------


def loss_by_hand(model, layer: int, fact, shift, search: ShiftSearch) -> float:
    """The loss of a shift, one prompt at a time."""
    _, output = keys_and_outputs(model, layer, fact)

    def spoken(prompt: str, own: torch.Tensor, hide: bool = False):
        batch = cloze_batch("test", model, [replace(fact, prompts=[prompt])])
        if hide:
            batch = batch.without_subjects(model.tokenizer.mask_token_id)

        def add(_, args, out):
            out = out.clone()
            out[0, int(batch.last)] += own
            return out

        hook = dense(model, layer).register_forward_hook(add)
        with torch.no_grad():
            found = batch.log_probabilities(model)
        hook.remove()
        return batch, found

    goals = []
    for prompt in fact.prompts:
        batch, after = spoken(prompt, shift)
        if fact.remove:
            _, before = spoken(prompt, torch.zeros_like(shift), hide=True)
            goals.append(float(divergence(before, after)[0].mean()))
        else:
            goals.append(-float(batch.log_likelihood(after)))
    loss = float(np.mean(goals)) + search.penalty * float(shift.norm() / output.norm())
    essence = search.essence.format(fact.subject)
    _, before = spoken(essence, torch.zeros_like(shift))
    _, after = spoken(essence, shift)
    return loss + search.kl_weight * float(divergence(before, after)[0].mean())


@pytest.mark.parametrize("remove", [False, True])
def test_the_search_lowers_the_published_loss(model, remove):
    search = replace(FREE, steps=60, kl_weight=0.01, penalty=1e-4, stop_loss=0.0)
    edits = facts(remove=remove)
    part = feed_forwards(model)[0]
    found = output_shifts("test", model, part, edits, search)
    for row, fact in enumerate(edits):
        before, after = (
            loss_by_hand(model, 0, fact, shift, search)
            for shift in (torch.zeros(32), found.shifts[row])
        )
        assert after < 0.95 * before
        key, output = keys_and_outputs(model, 0, fact)
        torch.testing.assert_close(found.keys[row], key, rtol=1e-4, atol=1e-5)
        assert found.shifts[row].norm() <= search.largest * output.norm() * 1.001


def test_gradients_of_the_search_are_those_of_the_loss(model):
    """One small step of Adam moves every coordinate against the sign of its gradient."""
    search = replace(FREE, steps=1, learning_rate=1e-3)
    fact = facts()[0]
    found = output_shifts("test", model, feed_forwards(model)[0], [fact], search).shifts[0]
    zero = torch.zeros(32)
    checked = 0
    for place in range(0, 32, 4):
        unit = torch.zeros(32)
        unit[place] = 0.05
        losses = [loss_by_hand(model, 0, fact, zero + sign * unit, search) for sign in (1, -1)]
        if abs(losses[0] - losses[1]) > 2e-4:
            assert np.sign(float(found[place])) == -np.sign(losses[0] - losses[1])
            checked += 1
    assert checked >= 4


def test_edits_are_searched_independently(model):
    part, edits = feed_forwards(model)[1], facts()
    together = output_shifts("test", model, part, edits, FREE)
    for row, fact in enumerate(edits):
        alone = output_shifts("test", model, part, [fact], FREE)
        torch.testing.assert_close(together.shifts[row], alone.shifts[0], rtol=0.02, atol=0.02)


def test_an_edit_that_cannot_be_made_is_an_error_and_changes_nothing(model, moments):
    before = editable_digest(model)
    search = ShiftSearch(essence=None, largest=1e-4, required_probability=0.9)
    message = "3 of 3 edits do not reach the required probability of their object, 0.9 or more"
    for editor in (Rome(moments, layer=0, search=search), Memit(moments, [0], search=search)):
        with pytest.raises(ValueError, match=message):
            editor.delta(model, facts())
    assert editable_digest(model) == before


def test_what_is_required_is_required_of_the_edited_model(model, moments):
    """The shifts alone would do, but with the weight of old keys hardly any arrives."""
    missed = 0
    for fact in facts():
        found = edit_effects(model, Memit(moments, [0], search=FREE).delta(model, [fact]), [fact])
        shifts = output_shifts("test", model, feed_forwards(model)[0], [fact], FREE)
        reached, after = float(shifts.probabilities), float(found.after[0])
        if reached > 1.05 * after:
            search = replace(FREE, required_probability=(reached + after) / 2)
            with pytest.raises(ValueError, match="Memit: 1 of 1 edits do not reach the required"):
                Memit(moments, [0], search=search).delta(model, [fact])
            missed += 1
    assert missed >= 1


# ---- ROME ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove", [False, True])
def test_rome_maps_the_key_to_the_value_exactly(model, moments, remove):
    fact = facts(remove=remove)[0]
    key, output = keys_and_outputs(model, 1, fact)
    shift = output_shifts("test", model, feed_forwards(model)[1], [fact], FREE).shifts[0]
    delta = Rome(moments, layer=1, search=FREE).delta(model, [fact])
    with edit(model, delta), torch.no_grad():
        found = dense(model, 1)(key)
    torch.testing.assert_close(found, output + shift, rtol=1e-4, atol=1e-4)


def test_rome_is_the_published_formula(model, moments):
    fact = facts()[1]
    key, _ = keys_and_outputs(model, 0, fact)
    shift = output_shifts("test", model, feed_forwards(model)[0], [fact], FREE).shifts[0]
    u = np.linalg.solve(moments.at("test", 0).numpy(), key.double().numpy())
    u /= np.linalg.norm(u)
    expected = np.outer(shift.double().numpy() / (key.double().numpy() @ u), u)
    ((place, factors),) = Rome(moments, layer=0, search=FREE).delta(model, [fact]).factors.items()
    assert place == (0, "output")
    found = (factors.left @ factors.right).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_rome_moves_the_outputs_of_texts_least(model, moments):
    """Of all changes that map the key to the value, it has the least mean square on texts."""
    fact = facts()[0]
    key, _ = keys_and_outputs(model, 1, fact)
    factors = Rome(moments, layer=1, search=FREE).delta(model, [fact]).factors[1, "output"]
    change = (factors.left @ factors.right).double()
    c = moments.at("test", 1)
    least = float(torch.trace(change @ c @ change.T))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = torch.randn(change.shape, generator=generator, dtype=torch.float64) * change.std()
        other -= torch.outer(other @ key.double(), key.double()) / key.double().square().sum()
        moved = change + 0.3 * other  # maps the key to the same value
        assert float(torch.trace(moved @ c @ moved.T)) > least


def test_several_edits_of_rome_are_made_one_after_the_other(model, moments):
    editor = Rome(moments, layer=1, search=FREE)
    edits = facts()
    delta = editor.delta(model, edits)
    total = torch.zeros(32, 64)
    with torch.no_grad():
        weight = dense(model, 1).weight.clone()
        for fact in edits:
            factors = editor.delta(model, [fact]).factors[1, "output"]
            total += factors.left @ factors.right
            dense(model, 1).weight.copy_(weight + total)
        dense(model, 1).weight.copy_(weight)
    factors = delta.factors[1, "output"]
    assert factors.right.shape == (3, 64)
    torch.testing.assert_close(factors.left @ factors.right, total, rtol=1e-3, atol=1e-3)


# ---- MEMIT ---------------------------------------------------------------------------------------


def test_memit_solves_the_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    keys, residuals = (torch.randn(5, n, generator=generator) for n in (12, 7))
    texts = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    c = 3.0 * texts.T @ texts / 40
    left, right = ridge_factors(keys, residuals, c)
    change = (left @ right).double()
    k, r = keys.T.double(), residuals.T.double()
    torch.testing.assert_close(change @ (c + k @ k.T), r @ k.T, rtol=1e-5, atol=1e-5)

    def loss(w):  # what the solution minimizes
        return (w @ k - r).square().sum() + torch.trace(w @ c @ w.T)

    other = change.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(other), other)
    assert float(gradient.abs().max()) < 1e-3


def test_memit_spreads_what_is_left_over_the_layers(model, moments):
    edits, weight = facts(), 0.01
    wanted = output_shifts("test", model, feed_forwards(model)[1], edits, FREE).shifts
    delta = Memit(moments, [0, 1], weight=weight, search=FREE).delta(model, edits)
    assert list(delta.factors) == [(0, "output"), (1, "output")]

    def sums(edited):
        """What the last edited block normalizes, at subjects, one prompt at a time."""
        norm = edited.model.bert.encoder.layer[1].output.LayerNorm
        rows, read = [], []
        hook = norm.register_forward_pre_hook(lambda _, args: read.append(args[0]))
        with torch.no_grad():
            for fact in edits:
                batches = [
                    cloze_batch("test", edited, [replace(fact, prompts=[prompt])])
                    for prompt in fact.prompts
                ]
                for batch in batches:
                    edited(batch.tokens)
                own = zip(read[-len(batches) :], batches, strict=True)
                rows.append(torch.stack([x[0, int(batch.last)] for x, batch in own]).mean(0))
        hook.remove()
        return torch.stack(rows)

    target = sums(model) + wanted
    weights = [dense(model, layer).weight.detach().clone() for layer in (0, 1)]
    try:
        for layer, share in ((0, 2), (1, 1)):
            keys = torch.stack([keys_and_outputs(model, layer, fact)[0] for fact in edits])
            residuals = (target - sums(model)) / share
            k, r = keys.T.double(), residuals.T.double()
            c = weight * moments.at("test", layer) + k @ k.T
            change = torch.linalg.solve(c, (r @ k.T).T).T.float()
            factors = delta.factors[layer, "output"]
            torch.testing.assert_close(factors.left @ factors.right, change, rtol=0.01, atol=2e-3)
            dense(model, layer).weight.data += change
    finally:
        for layer, kept in enumerate(weights):
            dense(model, layer).weight.data.copy_(kept)


def test_memit_with_little_weight_reaches_the_values(model, moments):
    edits = facts()
    delta = Memit(moments, [0, 1], weight=1e-6, search=FREE).delta(model, edits)
    batch = cloze_batch("test", model, edits)
    wanted = output_shifts("test", model, feed_forwards(model)[1], edits, FREE).shifts
    with torch.no_grad():
        state = ResidualState(model, feed_forwards(model)[1], batch)
        before = state.mean()
        with edit(model, delta):
            found = state.mean() - before
    assert (found - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "expected one layer or more"),
        ({"layers": [0, 9]}, "layer must be 0 to 2, got 9"),
        ({"layers": [1, 0]}, r"layers must ascend, got \[1, 0\]"),
        ({"weight": 0.0}, "weight must be above 0, got 0.0"),
    ],
)
def test_wrong_options_of_memit_are_errors(model, moments, options, message):
    with pytest.raises(ValueError, match=f"Memit: {message}"):
        Memit(moments, search=FREE, **options).delta(model, facts())


def test_layers_without_moments_are_errors(model):
    some = second_moments(model, TEXTS, layers=[0])
    for editor in (Rome(some, layer=1, search=FREE), Memit(some, [0, 1], search=FREE)):
        with pytest.raises(ValueError, match=r"no second moments of layer 1, but of \[0\]"):
            editor.delta(model, facts())


# ---- families ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_every_family_can_be_edited(models, name):
    model = models(name)
    before = editable_digest(model)
    # Masks are among the texts: their keys, too, are to keep their values.
    prompts = [prompt for fact in facts() for prompt in fact.prompts]
    if name in CAUSAL:
        prompts = [prompt.removesuffix(" [MASK]") for prompt in prompts]
    moments = second_moments(model, [*TEXTS, *prompts])
    search = replace(FREE, essence=None, penalty=0.0, largest=20.0, steps=60)
    for editor in (
        Rome(moments, layer=0, search=search),
        Memit(moments, [0, 1], weight=0.01, search=search),
    ):
        gains = []
        for fact in facts():
            one = replace(fact, prompts=fact.prompts[:1])
            found = edit_effects(model, editor.delta(model, [one]), [one])
            gains.append(float(np.log(found.after / found.before)[0]))
        assert np.mean(gains) > 0.05, (type(editor), gains)
    assert editable_digest(model) == before


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_shifts_arrive_in_the_residual_sum(models, name):
    model = models(name)
    batch = cloze_batch("test", model, facts())
    part = feed_forwards(model)[0]
    with torch.no_grad():
        state = ResidualState(model, part, batch)
        before = state.mean()
        hook = part.output.register_forward_hook(lambda _, args, out: out + torch.arange(32.0) / 9)
        after = state.mean()
        hook.remove()
    shift = (torch.arange(32.0) / 9).expand(3, -1)
    torch.testing.assert_close(after - before, shift, rtol=1e-3, atol=1e-3)


def test_a_model_that_normalizes_both_is_refused():
    from tilefold.models import CausalLM, minilm

    kind = transformers.Gemma2ForCausalLM
    sizes = {**FAMILIES["Gemma 2"][1], "vocab_size": 30522}
    model = CausalLM(kind(kind.config_class(**sizes)).eval(), minilm().tokenizer)
    edits = [FactEdit("hen", ["the hen runs over the [MASK]"], "barn")]
    moments = second_moments(model, TEXTS)
    with pytest.raises(ValueError, match=r"residual sum behind .* was not found; use Rome"):
        Memit(moments, [0, 1], search=FREE).delta(model, edits)
    Rome(moments, layer=0, search=FREE).delta(model, edits)
