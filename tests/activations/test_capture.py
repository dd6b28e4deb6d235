"""capture() and patch(): what hooks see, that they change nothing, and that they are gone."""

import gc
import importlib
import weakref

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.activations.activation_statistics import ActivationStatistics
from tilefold.activations.capture import capture
from tilefold.activations.patching import patch
from tilefold.activations.row_store import RowStore
from tilefold.models import Encoder

capture_module = importlib.import_module("tilefold.activations.capture")
pytestmark = pytest.mark.usefixtures("one_thread")
FFN = "encoder.layer.*.intermediate"
OPTIONS = {"thresholds": [0.0], "top": 2, "histogram": True, "second_moment": True}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=32,
    )
    return transformers.BertModel(config).eval()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(4, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    mask[3, :2] = 0  # padding on the left
    return {"input_ids": torch.randint(0, 50, (4, 9), generator=generator), "attention_mask": mask}


def by_hand(model, batch, names) -> dict[str, torch.Tensor]:
    """Outputs of modules, kept."""
    kept: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _, a, out, name=name: kept.update({name: out}))
        for name in names
    ]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return kept


def hooks_of(model) -> int:
    return sum(
        len(getattr(module, name))
        for module in model.modules()
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    )


# ---- capture -------------------------------------------------------------------------------------


def test_statistics_are_of_the_tokens_that_count(model, batch):
    names = [f"encoder.layer.{i}.intermediate" for i in range(3)]
    kept = by_hand(model, batch, names)
    with capture(model, FFN, **OPTIONS) as seen, torch.no_grad():
        model(**batch)
    assert list(seen) == names
    for name in names:
        truth = ActivationStatistics(40, **OPTIONS)
        truth.update(kept[name], batch["attention_mask"])
        assert seen[name].count == int(batch["attention_mask"].sum())
        for part, mine in seen[name]._state.items():
            assert torch.equal(mine, truth._state[part]), part


def test_the_model_is_none_the_wiser(model, batch):
    expected = model(**batch).last_hidden_state
    before = hooks_of(model)
    with capture(model, ["*", "encoder.layer.*", FFN, FFN + ":input"], **OPTIONS):
        assert torch.equal(model(**batch).last_hidden_state, expected)
    assert hooks_of(model) == before
    assert torch.equal(model(**batch).last_hidden_state, expected)


def test_gradients_are_the_same_bits(model, batch):
    def gradients() -> list[torch.Tensor]:
        loss = model(**batch).last_hidden_state.square().sum()
        return list(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))

    expected = gradients()
    with capture(model, FFN):
        found = gradients()
    for one, other in zip(expected, found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_batches_are_added_up_and_texts_counted_on(model, batch):
    with capture(model, FFN, **OPTIONS) as once, torch.no_grad():
        model(**batch)
    with capture(model, FFN, **OPTIONS) as twice, torch.no_grad():
        for rows in (slice(0, 1), slice(1, 4)):
            model(**{name: x[rows] for name, x in batch.items()})
    for name in once:
        assert torch.equal(once[name].top_examples, twice[name].top_examples)
        torch.testing.assert_close(once[name].mean, twice[name].mean, rtol=1e-5, atol=1e-6)


def test_what_was_seen_in_inference_mode_can_be_merged(model, batch):
    with capture(model, FFN, **OPTIONS) as seen, torch.inference_mode():
        model(**batch)
    with capture(model, FFN, **OPTIONS) as more, torch.no_grad():
        model(**batch)
    for name, statistics in seen.items():
        statistics.merge(more[name])
        assert statistics.count == 2 * more[name].count


def test_a_mask_is_found_wherever_it_is_passed(model, batch):
    n = int(batch["attention_mask"].sum())
    with capture(model, FFN) as seen, torch.no_grad():
        model(batch["input_ids"], batch["attention_mask"])
    assert seen["encoder.layer.0.intermediate"].count == n
    with capture(model, FFN) as seen, torch.no_grad():
        model(batch["input_ids"])
    assert seen["encoder.layer.0.intermediate"].count == 4 * 9


def test_an_encoder_is_captured_as_it_encodes(tiny_bert):
    encoder = Encoder.from_pretrained(tiny_bert, pooling="mean", normalize=False)
    tokens = encoder.tokenize(["who is w3", "w1", "w5 of w7 is w9"])
    layer, store = "model.encoder.layer.1", RowStore()
    with capture(encoder, layer, rows="mean", store=store) as seen, torch.no_grad():
        expected = encoder(encoder.pad(tokens))
    assert seen[layer].count == sum(len(text["input_ids"]) for text in tokens)
    torch.testing.assert_close(store[layer], expected)


@pytest.mark.parametrize("rows", ["mean", "cls", "last", "max"])
def test_rows_are_pooled_over_the_tokens_that_count(model, batch, rows, tmp_path):
    kept = by_hand(model, batch, ["encoder.layer.2.intermediate"])["encoder.layer.2.intermediate"]
    mask = batch["attention_mask"].bool()
    counted = [text[counts] for text, counts in zip(kept, mask, strict=True)]
    pooled = {
        "mean": lambda x: x.mean(0),
        "cls": lambda x: x[0],
        "last": lambda x: x[-1],
        "max": lambda x: x.amax(0),
    }
    truth = torch.stack([pooled[rows](text) for text in counted])
    store = RowStore("bfloat16", folder=tmp_path / "rows", block_rows=3)
    with capture(model, FFN, rows=rows, store=store), torch.no_grad():
        model(**batch)
    store.flush()
    found = RowStore.open(tmp_path / "rows")["encoder.layer.2.intermediate"]
    torch.testing.assert_close(found, truth.bfloat16(), rtol=1e-2, atol=1e-6)


def test_an_input_is_what_the_module_is_given(model, batch):
    sites = ["encoder.layer.1.output.dense:input", "encoder.layer.1.intermediate"]
    with capture(model, sites) as seen:
        model(**batch)
    one, other = (seen[site] for site in sites)
    assert torch.equal(one.mean, other.mean)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_graph_is_whole_and_sees_the_same(model, batch):
    with capture(model, FFN, **OPTIONS) as plain, torch.no_grad():
        for _ in range(2):
            model(**batch)
    torch._dynamo.reset()
    with capture(model, FFN, **OPTIONS) as seen, torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            compiled(**batch)
    for name in plain:
        assert seen[name].count == plain[name].count
        torch.testing.assert_close(seen[name].mean, plain[name].mean, rtol=1e-5, atol=1e-6)
        assert torch.equal(seen[name].top_examples, plain[name].top_examples)


def test_nothing_keeps_the_model_alive(batch):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, **sizes))
    gone = weakref.ref(model)
    with capture(model, FFN) as seen:
        model(**batch)
    del model
    gc.collect()
    assert gone() is None
    assert len(seen) == 1


def test_hooks_are_gone_after_an_error(model, batch):
    before = hooks_of(model)
    edits = {FFN: torch.zeros_like}
    with pytest.raises(ZeroDivisionError), capture(model, FFN), patch(model, edits):
        1 / 0  # noqa: B018
    assert hooks_of(model) == before
    with capture(model, FFN) as seen:  # and the sites are free again
        model(**batch)
    assert len(seen) == 3


# ---- patch ---------------------------------------------------------------------------------------


def test_patch_writes_what_follows_reads(model, batch):
    kept = by_hand(model, batch, ["encoder.layer.1.intermediate"])["encoder.layer.1.intermediate"]
    expected = model(**batch).last_hidden_state
    with patch(model, {"encoder.layer.1.intermediate": lambda x: kept}):
        assert torch.equal(model(**batch).last_hidden_state, expected)
    with patch(model, {"encoder.layer.1.intermediate": lambda x: 0 * x}):
        changed = model(**batch).last_hidden_state
    assert not torch.allclose(changed, expected)
    with patch(model, {"encoder.layer.1.output.dense:input": lambda x: 0 * x}):
        assert torch.equal(model(**batch).last_hidden_state, changed)
    assert torch.equal(model(**batch).last_hidden_state, expected)


def test_capture_sees_what_patch_wrote(model, batch):
    with patch(model, {FFN: torch.ones_like}), capture(model, FFN) as seen:
        model(**batch)
    assert seen["encoder.layer.0.intermediate"].mean.unique().tolist() == [1.0]


def test_gradients_flow_through_an_edit(model, batch):
    scale = torch.ones(40, requires_grad=True)
    with patch(model, {"encoder.layer.0.intermediate": lambda x: x * scale}):
        model(**batch).last_hidden_state.square().sum().backward()
    assert scale.grad.abs().sum() > 0
    model.zero_grad()


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ("encoder.layers.*.intermediate", r"no module .*; there are encoder\.layer\.\*\.interm"),
        ("encoder.layer.7", "no module 'encoder.layer.7'"),
        ([], "must name at least one module"),
    ],
)
def test_a_site_that_is_not_there_is_named_with_those_like_it(model, sites, message):
    with pytest.raises(ValueError, match=message):
        capture(model, sites)


def test_what_cannot_be_captured_is_refused(model, batch):
    with pytest.raises(TypeError, match=r"DataParallel.*pass model\.module"):
        capture(torch.nn.DataParallel(model), FFN)
    with pytest.raises(ValueError, match="rows and store go together"):
        capture(model, FFN, rows="mean")
    with pytest.raises(ValueError, match="one of cls, mean, last, max, got 'decoder'"):
        capture(model, FFN, rows="decoder", store=RowStore())
    with pytest.raises(ValueError, match="top must be at least 0"):
        capture(model, FFN, top=-1)
    seen = capture(model, FFN)
    with seen:
        pass
    with pytest.raises(RuntimeError, match="has been used"), seen:
        pass
    with pytest.raises(KeyError, match="has not run inside"):
        seen["encoder.layer.0.intermediate"]


def test_no_capture_inside_a_capture(model):
    before = hooks_of(model)
    with (
        capture(model, FFN),
        pytest.raises(RuntimeError, match=r"layer\.1\.intermediate is captured already"),
        capture(model.encoder, "layer.1.intermediate"),
    ):
        pass
    assert hooks_of(model) == before


def test_a_text_of_padding_alone_is_refused(model, batch):
    batch["attention_mask"][2] = 0
    with capture(model, FFN), pytest.raises(ValueError, match="text 2 of the batch has no token"):
        model(**batch)


def test_a_model_that_moves_away_says_so(model, batch):
    moved = transformers.BertModel(model.config).to("meta")
    with capture(moved, FFN), pytest.raises(ValueError, match="must be on cpu, got meta"):
        moved(input_ids=batch["input_ids"].to("meta"))


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda x: x[:, :1], ValueError, r"must keep the shape \(4, 9, 40\), got \(4, 1, 40\)"),
        (lambda x: None, TypeError, "must return a tensor, got NoneType"),
    ],
)
def test_an_edit_must_fit(model, batch, edit, error, message):
    with patch(model, {FFN: edit}), pytest.raises(error, match=message):
        model(**batch)
    model(**batch)


def test_outputs_with_names_cannot_be_replaced(model, batch):
    edits = {"encoder": torch.zeros_like}
    with patch(model, edits), pytest.raises(TypeError, match="encoder gives a BaseModelOutput"):
        model(**batch)


# ---- interrupts ----------------------------------------------------------------------------------


def test_an_interrupt_while_a_capture_begins_leaves_nothing_behind(model, batch, monkeypatch):
    seen = capture(model, FFN)
    calls = []

    def interrupted(site, act):
        if calls:
            raise KeyboardInterrupt
        calls.append(site)
        return register(site, act)

    register = capture_module.add_hook
    monkeypatch.setattr(capture_module, "add_hook", interrupted)
    with pytest.raises(KeyboardInterrupt), seen:
        pytest.fail("the block began")
    monkeypatch.undo()
    assert hooks_of(model) == 0
    with capture(model, FFN) as again:
        model(**batch)
    assert len(again) == 3
    assert len(seen) == 0


def interrupted_leaving(context, monkeypatch, call):
    """Calls within a context, and leaves it by Ctrl-C in the midst of removing its hooks."""

    def interrupted(_):
        raise KeyboardInterrupt

    with context:
        result = call()
        monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "remove", interrupted)
    return result


def test_hooks_that_an_interrupt_left_have_no_effect(model, batch, monkeypatch):
    def run():
        return model(**batch).last_hidden_state

    expected = run()
    try:
        seen = capture(model, FFN)
        with pytest.raises(KeyboardInterrupt):
            interrupted_leaving(seen, monkeypatch, run)
        monkeypatch.undo()
        counts = {name: seen[name].count for name in seen}
        with capture(model, FFN) as again:
            run()
        assert {name: seen[name].count for name in seen} == counts
        assert {name: again[name].count for name in again} == counts

        edits = {FFN: torch.zeros_like}
        with pytest.raises(KeyboardInterrupt):
            interrupted_leaving(patch(model, edits), monkeypatch, run)
        monkeypatch.undo()
        assert hooks_of(model) > 0
        assert torch.equal(run(), expected)
    finally:
        for module in model.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
            module._forward_pre_hooks_with_kwargs.clear()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"thresholds": 0.5}, TypeError, "thresholds must be a list of numbers, got 0.5"),
        ({"thresholds": "0.5"}, TypeError, "thresholds must be a list of numbers, got '0.5'"),
        ({"thresholds": ["a"]}, TypeError, "thresholds must be a list of numbers"),
        ({"thresholds": [float("nan")]}, ValueError, "thresholds must be numbers"),
        ({"top": 1.5}, TypeError, "top must be an integer, got float"),
        ({"top": -1}, ValueError, "top must be at least 0, got -1"),
        ({"sites": None}, TypeError, "sites must be a name or a list of names, got None"),
        ({"sites": [1]}, TypeError, "sites must be a name or a list of names"),
        ({"model": "bert"}, TypeError, "model must be a torch module, got str"),
        ({"rows": "cls", "store": "folder"}, TypeError, "store must be a RowStore, got str"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(model, options, error, message):
    with pytest.raises(error, match=f"^capture: {message}"):
        capture(**{"model": model, "sites": FFN} | options)


def test_sites_without_statistics_are_named(model, batch):
    with capture(model, FFN) as seen:
        model(**batch)
    with pytest.raises(KeyError, match=r"capture: 'pooler' is none of the sites encoder\.layer\.0"):
        seen["pooler"]
    with capture(model, FFN, statistics=False, rows="cls", store=RowStore()) as seen:
        model(**batch)
    with pytest.raises(KeyError, match="has no statistics, because of statistics=False"):
        seen["encoder.layer.0.intermediate"]


def test_activations_of_float64_are_named_with_their_site():
    wide = torch.nn.Sequential(torch.nn.Linear(4, 3)).double()
    store = RowStore()
    message = "capture: activations of 0 must be float32, bfloat16 or float16, got torch.float64"
    with capture(wide, "0"), pytest.raises(TypeError, match=message):
        wide(torch.ones(2, 4, dtype=torch.float64))
    with capture(wide, "0", statistics=False, rows="cls", store=store):
        wide(torch.ones(2, 4, dtype=torch.float64))
    assert store["0"].shape == (2, 3)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([FFN], "edits must map names of sites to functions, got list"),
        ({FFN: torch.zeros(3)}, r"the edit of encoder\.layer.* must be a function .* got Tensor"),
        ({1: torch.zeros_like}, "sites must be a name or a list of names"),
    ],
)
def test_edits_of_the_wrong_kind_are_named(model, edits, message):
    with pytest.raises(TypeError, match=f"^patch: {message}"), patch(model, edits):
        pytest.fail("the block began")
    assert hooks_of(model) == 0
