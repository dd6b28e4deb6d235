"""MEND and MALMEN: gradients, normal equations and training, against autograd; files."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import CAUSAL, MASKED, editable, facts
from tilefold.files.tensors import CorruptedFolderError
from tilefold.mechanisms import FactEdit, Malmen, Mend, edit, edit_effects, feed_forwards
from tilefold.mechanisms.editing.cloze_batch import cloze_batch
from tilefold.mechanisms.editing.edit_gradients import edit_gradients, places_of, weight_name
from tilefold.mechanisms.editing.edit_losses import edit_losses, hidden_subjects
from tilefold.mechanisms.editing.editable_model import editable_digest
from tilefold.mechanisms.editing.malmen import least_squares_factors

pytestmark = pytest.mark.usefixtures("one_thread")
SUBJECTS = ("hen", "fox", "barn", "red hen", "blue fox", "blue barn", "red fox", "blue hen")
KINDS = (Mend, Malmen)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}

    def make(name: str):
        if name not in made:
            made[name] = editable(name, tmp_path_factory.mktemp("model"))
        return made[name]

    return make


@pytest.fixture(scope="module")
def model(models):
    return models("BertForMaskedLM")


def training_facts() -> list[FactEdit]:
    words = ("runs", "sleeps", "red", "under")
    return [
        FactEdit(subject, [f"the {subject} [MASK] the {other}" for other in ("barn", "hen")], word)
        for subject in SUBJECTS
        for word in words
        if subject not in ("barn", "hen")
    ]


NEIGHBOURS = [
    FactEdit(subject, [f"under the {subject} and [MASK] the"], "over") for subject in SUBJECTS
]


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
@pytest.mark.parametrize("remove", [False, True])
def test_factors_are_those_of_the_gradient_of_the_loss(models, name, remove):
    model, edits = models(name), facts(remove=remove)
    batch = cloze_batch("test", model, edits)
    removed = torch.tensor([remove] * 3)
    places = places_of(feed_forwards(model), [0, 2])
    found = edit_gradients(model, places, batch, removed)
    unspecific = hidden_subjects(model, batch).log_probabilities(model).detach()
    losses = edit_losses(batch, batch.log_probabilities(model), unspecific, removed)
    model.zero_grad()
    batch.mean_by_edit(losses).sum().backward()
    parameters = dict(model.named_parameters())
    for (layer, sub_layer), (inputs, output_gradients) in found.items():
        expected = parameters[weight_name(feed_forwards(model)[layer], sub_layer)].grad
        expected = expected.T if name.startswith("GPT2") else expected
        product = output_gradients.T @ inputs
        scale = float(expected.abs().max())
        torch.testing.assert_close(product, expected, rtol=1e-3, atol=1e-4 * scale)
        assert (output_gradients != 0).any(1).all()
    model.zero_grad()


def test_mend_before_training_is_a_step_along_normalized_gradients(model):
    editor = Mend(model, layers=[0, 2], rate=0.5)
    batch = cloze_batch("test", model, facts())
    places = places_of(feed_forwards(model), [0, 2])
    gradients = edit_gradients(model, places, batch, torch.zeros(3, dtype=torch.bool))
    for (layer, sub_layer), own in gradients.items():
        editor.networks[sub_layer].observe([0, 2].index(layer), *own)
    for place, (left, right) in editor.factors(gradients).items():
        inputs, outputs = (
            (x - x.mean(0)) / (x.std(0, correction=0) + 1e-7) for x in gradients[place]
        )
        expected = -0.5 * outputs.T @ inputs
        torch.testing.assert_close(left @ right, expected, rtol=1e-3, atol=1e-3)


def test_statistics_of_inputs_are_those_of_all_rows(model):
    network = Mend(model, layers=[1]).networks["output"]
    rows = torch.randn(30, 96, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for begin, end in ((0, 4), (4, 4), (4, 25), (25, 30)):
        network.observe(0, rows[begin:end, :64], rows[begin:end, 64:])
    torch.testing.assert_close(network.mean[0], rows.double().mean(0))
    variance = network.square[0] / network.count[0]
    torch.testing.assert_close(variance, rows.double().var(0, correction=0))


@pytest.mark.parametrize("tokens", [5, 40])
def test_malmen_solves_its_normal_equations(tokens):
    generator = torch.Generator().manual_seed(tokens)
    u, d = (torch.randn(tokens, n, generator=generator).double() for n in (12, 7))
    left, right = least_squares_factors(u, d, torch.tensor(0.3))
    change = (left @ right.double()).T  # of the transposed weights
    ridge = 0.3 * torch.eye(12).double()
    torch.testing.assert_close((u.T @ u + ridge) @ change, u.T @ d, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", [5, 40])
def test_gradients_through_the_normal_equations_are_the_published_ones(tokens):
    """With M = (UᵀU + exp(l) I)⁻¹ dL/dWᵀ: dL/dD = U M, and dL/dl = -exp(l) <M, change>."""
    generator = torch.Generator().manual_seed(tokens)
    u, d = (torch.randn(tokens, n, generator=generator) for n in (12, 7))
    towards = torch.randn(7, 12, generator=generator)
    d.requires_grad_()
    damping = torch.tensor(-0.4, requires_grad=True)
    left, right = least_squares_factors(u, d, damping.exp())
    (left @ right * towards).sum().backward()
    gram = u.T @ u + damping.detach().exp() * torch.eye(12)
    m = torch.linalg.solve(gram, towards.T)
    torch.testing.assert_close(d.grad, u @ m, rtol=1e-3, atol=1e-3)
    expected = -damping.detach().exp() * (m * (left @ right).detach().T).sum()
    torch.testing.assert_close(damping.grad, expected, rtol=1e-3, atol=1e-3)


def test_malmen_scales_gradients_by_products_of_inputs(model):
    editor = Malmen(model, layers=[1], rate=0.25, damping=-1.0)
    batch = cloze_batch("test", model, facts())
    places = places_of(feed_forwards(model), [1])
    gradients = edit_gradients(model, places, batch, torch.zeros(3, dtype=torch.bool))
    for (_, sub_layer), own in gradients.items():
        editor.networks[sub_layer].observe(0, *own)
    for place, (left, right) in editor.factors(gradients).items():
        u, v = gradients[place]
        inputs, outputs = ((x - x.mean(0)) / (x.std(0, correction=0) + 1e-7) for x in (u, v))
        d = -0.25 * torch.stack([(u[i] @ inputs[i]) * outputs[i] for i in range(len(u))])
        gram = u.T @ u + np.exp(-1.0) * torch.eye(u.shape[1])
        expected = torch.linalg.solve(gram.double(), (u.T @ d).double()).T.float()
        torch.testing.assert_close(left @ right, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_training_makes_edits_hold_elsewhere_and_change_little_else(model, kind):
    before = editable_digest(model)
    flags = {name: x.requires_grad for name, x in model.named_parameters()}
    edits = training_facts()
    some = [replace(one, prompts=one.prompts[:1]) for one in edits[::5][:4]]
    whole = edits[::5][:4]
    editor = kind(model, rate=1e-3, rank=16)
    with pytest.raises(ValueError, match="the editor is not trained; call"):
        editor.delta(model, some)
    editor.fit(model, edits, NEIGHBOURS, n_edits=4, steps=80, learning_rate=3e-3)
    delta = editor.delta(model, some)
    found = edit_effects(model, delta, whole)
    assert np.log(found.after).mean() > np.log(found.before).mean() + 0.7
    assert edit_effects(model, delta, NEIGHBOURS).divergence.mean() < 0.5
    assert editable_digest(model) == before
    assert {name: x.requires_grad for name, x in model.named_parameters()} == flags


@pytest.mark.parametrize("kind", KINDS)
def test_training_repeats_and_a_file_holds_it(model, kind, tmp_path):
    edits = training_facts()

    def trained(seed: int = 0):
        torch.manual_seed(0)  # of the networks
        return kind(model, layers=[0, 1], rank=4).fit(
            model, edits, NEIGHBOURS, n_edits=2, steps=5, seed=seed
        )

    editor = trained()
    delta = editor.delta(model, facts())
    other = trained(seed=1).delta(model, facts())
    editor.save(tmp_path / "editor.safetensors")
    again = kind.load(tmp_path / "editor.safetensors", model)
    for same in (trained().delta(model, facts()), again.delta(model, facts())):
        for place, factors in delta.factors.items():
            assert all(map(torch.equal, factors, same.factors[place]))
    assert delta.norms() != other.norms()
    with edit(model, delta):
        assert editable_digest(model) != delta.model


def test_wrong_files_are_errors(model, models, tmp_path):
    path = tmp_path / "editor.safetensors"
    Mend(model, rank=4).fit(model, training_facts(), NEIGHBOURS, n_edits=1, steps=1).save(path)
    with pytest.raises(ValueError, match=r"Malmen.load: .* is the file of Mend"):
        Malmen.load(path, model)
    changed = editable("BertForMaskedLM", tmp_path / "changed")
    changed.model.bert.encoder.layer[0].output.dense.weight.data += 0.01
    with pytest.raises(ValueError, match="is an editor for a model with other weights"):
        Mend.load(path, changed)
    with pytest.raises(
        ValueError, match="Mend: the editor was made for a model with other weights"
    ):
        Mend.load(path, model).delta(changed, facts())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptedFolderError):
        Mend.load(path, model)
    from tilefold.mechanisms import WeightDelta

    WeightDelta("digest", {}).save(path)
    with pytest.raises(ValueError, match=r"Mend.load: .* is the file of something else"):
        Mend.load(path, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_edits": 99}, "expected at least n_edits = 99 edits, got 24"),
        ({"n_edits": 9}, "expected at least n_edits = 9 neighbours, got 8"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"shown": 0}, "shown must be at least 1, got 0"),
    ],
)
def test_wrong_options_of_training_are_errors(model, options, message):
    with pytest.raises(ValueError, match=f"Mend.fit: {message}"):
        Mend(model).fit(model, training_facts(), NEIGHBOURS, **options)


def test_wrong_layers_and_missed_edits_are_errors(model):
    with pytest.raises(ValueError, match=r"Malmen: layers must be 0 to 2, got \[3\]"):
        Malmen(model, layers=[3])
    with pytest.raises(ValueError, match="Mend: rank must be at least 1, got 0"):
        Mend(model, rank=0)
    editor = Mend(model, rate=0.0, required_probability=0.9, rank=4)
    editor.fit(model, training_facts(), NEIGHBOURS, n_edits=1, steps=1)
    with pytest.raises(
        ValueError, match="Mend: 3 of 3 edits do not reach the required probability"
    ):
        editor.delta(model, facts())
