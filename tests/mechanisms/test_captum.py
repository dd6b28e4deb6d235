"""Attributions against captum's integrated gradients, of the same models in double precision."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: pip install tilefold[analysis]"
)
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")
captum = pytest.importorskip("captum.attr", reason="captum is not installed: pip install captum")

from torch import Tensor, nn
from torch.func import functional_call

from tilefold.mechanisms import (
    activation_attribution,
    masked_word,
    retrieval,
    weight_attribution,
)
from tilefold.models import Encoder
from tilefold.testing import assert_as_close_as_torch

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # With few steps, which the loops have as well.
    pytest.mark.filterwarnings("ignore::tilefold.mechanisms.IncompleteAttributionWarning"),
]
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2", "who of w4"]
MASK = 4
# captum has steps in single precision: eighths are the same there.
STEPS = {"left": 8, "ends": 9}

Says = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]  # [texts, answers]


@pytest.fixture(scope="module", params=["mean", "cls"])
def encoder(request, tiny_bert, stirred) -> Encoder:
    return stirred(Encoder.from_pretrained(tiny_bert, pooling=request.param))


def words(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """The probabilities of all words at [MASK]."""
    return model(**tokens).logits[tokens["input_ids"] == MASK].softmax(1)


def along(forward: Callable[..., Tensor], x, baselines, rule: str, steps: int, **options):
    """captum's attribution of a tuple of tensors, by a rule of ours or a method of captum's.

    "ends" is no rule of captum's: its trapezoids halve both ends, and divide by a step too many.
    But all steps except for the last one are its left rule, and the last one is a saliency.
    """
    integrated = captum.IntegratedGradients(forward)
    if rule != "ends":
        method = {"left": "riemann_left"}.get(rule, rule)
        return integrated.attribute(x, baselines, n_steps=steps, method=method, **options)
    begun = integrated.attribute(x, baselines, n_steps=steps - 1, method="riemann_left", **options)
    ended = captum.Saliency(forward).attribute(
        tuple(part.clone().requires_grad_() for part in x), abs=False, **options
    )
    return tuple(
        ((steps - 1) * sum_ + (to - origin) * gradient) / steps
        for sum_, to, origin, gradient in zip(begun, x, baselines, ended, strict=True)
    )


def assert_halved(found: Callable[[int], np.ndarray], integral: np.ndarray) -> None:
    off = [np.linalg.norm(found(steps) - integral) for steps in (20, 40, 80)]
    assert off[0] < 0.01 * np.linalg.norm(integral)
    np.testing.assert_allclose([off[1] / off[0], off[2] / off[1]], 0.5, atol=0.05)


# ---- activations ---------------------------------------------------------------------------------


def activations_by_captum(
    model: nn.Module,
    says: Says,
    tokens: dict[str, Tensor],
    answers: Tensor,
    positions: Tensor,
    rule: str,
    steps: int,
) -> Tensor:
    """``[texts, layers, neurons]``; what is not scaled is its own baseline."""
    blocks = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
    layers = []
    for block in blocks:
        writes = block.output.dense

        def forward(activations: Tensor, *values: Tensor, writes=writes) -> Tensor:
            hook = writes.register_forward_pre_hook(lambda *_: activations)
            try:
                return says(model, dict(zip(tokens, values, strict=True)))
            finally:
                hook.remove()

        kept = []
        hook = writes.register_forward_pre_hook(lambda _, args, kept=kept: kept.extend(args))
        with torch.no_grad():
            says(model, tokens)
        hook.remove()
        (attributed,) = along(
            forward,
            (kept[0],),
            (kept[0] * (1 - positions[..., None]),),
            rule,
            steps,
            target=answers,
            additional_forward_args=tuple(tokens.values()),
        )
        layers.append(attributed.sum(1))
    return torch.stack(layers, dim=1).detach()


def assert_captum_agrees(model, says: Says, target, tokens, answers, positions, rule: str) -> None:
    steps = STEPS[rule]
    found = activation_attribution(model, tokens, target, positions, steps=steps, rule=rule).scores
    theirs, truth = (
        activations_by_captum(m, says, tokens, answers, positions, rule, steps)
        for m in (model, copy.deepcopy(model).double())
    )
    for layer in range(2):
        own = (attributed[:, layer] for attributed in (found, theirs, truth))
        assert_as_close_as_torch(*own, in_norm=True, name=f"layer {layer}")


@pytest.mark.parametrize("place", ["mask", "everywhere"])
@pytest.mark.parametrize("rule", ["left", "ends"])
def test_attribution_of_a_masked_word_equals_captums(masked, rule, place):
    model, tokens, answers = masked
    at_mask = (tokens["input_ids"] == MASK).int()
    positions = at_mask if place == "mask" else tokens["attention_mask"]
    target = masked_word(model, answers, MASK)
    assert_captum_agrees(model, words, target, tokens, answers, positions, rule)


@pytest.mark.parametrize("rule", ["left", "ends"])
def test_attribution_of_a_passage_equals_captums(encoder, rule):
    tokens = dict(encoder.pad(encoder.tokenize(TEXTS)))
    passages = torch.from_numpy(encoder.encode(["w3 is w1", "w7 of w2", "w4"], progress=False))
    relevant = torch.tensor([0, 1, 1, 2])
    target = retrieval(encoder, passages, relevant)

    def says(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
        queries = model(tokens)
        return (queries @ passages.to(queries.dtype).T).log_softmax(1)

    everywhere = tokens["attention_mask"]
    assert_captum_agrees(encoder, says, target, tokens, relevant, everywhere, rule)


@pytest.mark.parametrize("rule", ["left", "ends"])
def test_twice_the_steps_halve_the_distance_to_the_integral(masked, rule):
    """And no more: "left" leans towards the beginning, "ends" counts both ends in full."""
    model, tokens, answers = masked
    everywhere = tokens["attention_mask"]
    target = masked_word(model, answers, MASK)
    double = copy.deepcopy(model).double()
    integral = activations_by_captum(
        double, words, tokens, answers, everywhere, "gausslegendre", 32
    ).numpy()
    assert_halved(
        lambda n: (
            activation_attribution(model, tokens, target, everywhere, steps=n, rule=rule).scores
        ),
        integral,
    )


# ---- weights -------------------------------------------------------------------------------------


def weights_by_captum(encoder: Encoder, text: str, name: str, steps: int, rule: str) -> Tensor:
    """``[rows]`` of one sub-layer. Its bias goes along the path, and gets no share of its own."""
    plain = encoder.with_options(normalize=False)
    tokens = plain.pad(plain.tokenize([text]))
    dense = plain.get_submodule(name)
    x = (dense.weight.detach()[None], dense.bias.detach()[None])

    def length(weights: Tensor, biases: Tensor) -> Tensor:
        lengths = [
            functional_call(plain, {f"{name}.weight": w, f"{name}.bias": b}, (tokens,)).norm()
            for w, b in zip(weights, biases, strict=True)
        ]
        return torch.stack(lengths)

    first = 1e-6 if rule == "ends" else 0  # of the study's path; the integral is from nothing
    attributed, _ = along(length, x, tuple(first * part for part in x), rule, steps)
    # captum multiplies by how far it went, the study by the weights themselves.
    return attributed[0].abs().sum(1).detach() / (1 - first)


KINDS = ("intermediate", "output")


def test_weight_attribution_equals_captums(encoder):
    steps = STEPS["ends"]
    found = weight_attribution(encoder, TEXTS, steps=steps, batch_size=3, progress=False)
    double = copy.deepcopy(encoder).double()
    for layer in range(2):
        for kind in KINDS:
            name = f"model.encoder.layer.{layer}.{kind}.dense"
            theirs, truth = (
                torch.stack([weights_by_captum(e, text, name, steps, "ends") for text in TEXTS])
                for e in (encoder, double)
            )
            ours = getattr(found, kind)[:, layer]
            assert_as_close_as_torch(ours, theirs, truth, in_norm=True, name=name)


def test_the_studys_path_leads_to_the_integral_from_nothing(encoder):
    """Its 1e-6 is no other baseline than 0: what remains is halved with every doubling of steps."""
    double, name = copy.deepcopy(encoder).double(), "model.encoder.layer.1.{}.dense"
    for kind in KINDS:
        integral = weights_by_captum(double, TEXTS[2], name.format(kind), 32, "gausslegendre")

        def found(steps: int, kind: str = kind) -> np.ndarray:
            alone = weight_attribution(encoder, TEXTS[2:3], steps=steps, progress=False)
            return getattr(alone, kind)[0, 1]

        assert_halved(found, integral.numpy())
