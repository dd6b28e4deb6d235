"""UnifiedLM: two adapters over one model, against models of their own, in several families."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")
pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")

from unified_models import FAMILIES, WORDS, disturb, save_base, save_family

import tiny_language_models
from tilefold.data import TrainingSet
from tilefold.invar import UnifiedLM
from tilefold.models import BiEncoder, CausalLM, Encoder, Lora, add_lora
from tilefold.ragged_lists import Lists
from tilefold.train import RetrieverTrainer
from tilefold.train.arguments import RetrieverTrainingArguments

pytestmark = pytest.mark.usefixtures("one_thread")
QUERIES = ["which hen runs ?", "the fox"]
PASSAGES = ["the red hen runs over the barn .", "a blue fox sleeps .", "a hen ."]
TITLES = ["red hen", "", "hen"]
PROMPTS = ["Q : which hen ? A :", "the red fox", "A :"]
SIZES = {"retrieval": Lora(r=3), "generation": Lora(r=2)}


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("llama"))


def load(folder: Path, **options) -> UnifiedLM:
    return disturb(UnifiedLM.from_pretrained(folder, **{**SIZES, **options}))


def vectors(retriever: BiEncoder) -> np.ndarray:
    queries = retriever.encode_queries(QUERIES, progress=False)
    return np.concatenate([queries, retriever.encode_documents(PASSAGES, TITLES, progress=False)])


def answers(generator: CausalLM) -> list[str]:
    return generator.generate(PROMPTS, max_new_tokens=6)


def likelihoods(generator: CausalLM) -> np.ndarray:
    return generator.log_likelihood(PROMPTS, [" hen", " sleeps .", " a fox"]).sum


def test_the_retriever_is_that_of_a_plain_loop(base: Path):
    """One unpadded text at a time, its end token last, with the adapter's update by hand."""
    unified = load(base)
    found = vectors(unified.retriever)
    merged = unified.retriever.merge().query_encoder.below()
    tokenizer = unified.generator.tokenizer
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [f"query: {text}" for text in QUERIES]
    texts += [f"passage: {f'{a} {b}'.strip()}" for a, b in zip(TITLES, PASSAGES, strict=True)]
    for text, vector in zip(texts, found, strict=True):
        ids = [
            *first,
            *tokenizer(text, add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        with torch.inference_mode():
            states = merged(torch.tensor([ids])).last_hidden_state
        expected = torch.nn.functional.normalize(states[0, -1], dim=0).numpy()
        np.testing.assert_allclose(vector, expected, atol=2e-4)
    plain = BiEncoder.from_pretrained(base, pooling="last", append_eos=True)
    plain = BiEncoder(
        plain.query_encoder.with_options(prefix="query: "),
        plain.query_encoder.with_options(prefix="passage: "),
    )
    assert abs(vectors(plain) - found).max() > 1e-2
    assert unified.retriever.tied


def test_adapters_switch_without_residue(base: Path, tmp_path: Path):
    unified = load(base)
    plain = CausalLM.from_pretrained(base)
    first = vectors(unified.retriever), likelihoods(unified.generator)
    assert answers(unified.plain) == answers(plain)
    np.testing.assert_array_equal(likelihoods(unified.plain), likelihoods(plain))
    second = vectors(unified.retriever), likelihoods(unified.generator)
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)
    assert abs(likelihoods(unified.generator) - likelihoods(plain)).max() > 1e-2
    assert unified.plain.fingerprint() == plain.fingerprint()
    # The same bits as those of a model that never had the other adapter.
    unified.save_pretrained(tmp_path / "saved")
    saved = tmp_path / "saved" / "retrieval"
    alone = UnifiedLM.from_pretrained(base, retrieval=saved, generation=None)
    np.testing.assert_array_equal(vectors(alone.retriever), first[0])


def test_each_adapter_can_be_merged(base: Path):
    unified = load(base)
    before = unified.fingerprint()
    np.testing.assert_allclose(
        vectors(unified.retriever.merge()), vectors(unified.retriever), atol=2e-4
    )
    np.testing.assert_allclose(
        likelihoods(unified.generator.merge()), likelihoods(unified.generator), rtol=2e-3
    )
    assert unified.fingerprint() == before


def test_a_merged_retrieval_adapter_is_under_that_for_generation(base: Path):
    unified = load(base, retrieval_in_generation="merged")
    expected = load(base)
    merged = expected.generator.with_options(adapter="retrieval").merge()
    np.testing.assert_array_equal(vectors(unified.retriever), vectors(expected.retriever))
    # The other adapter over the merged weights, by hand.
    weights = dict(expected.model.get_base_model().named_modules())
    for name, module in merged.model.named_modules():
        if name in weights and hasattr(weights[name], "lora_A"):
            module.weight.data += weights[name].get_delta_weight("generation")
    np.testing.assert_allclose(likelihoods(unified.generator), likelihoods(merged), rtol=5e-3)
    assert abs(likelihoods(unified.generator) - likelihoods(expected.generator)).max() > 1e-2
    assert unified.fingerprint() != expected.fingerprint()
    before = vectors(unified.retriever)
    answers(unified.generator)
    np.testing.assert_array_equal(vectors(unified.retriever), before)


@pytest.mark.parametrize("state", ["inactive", "merged"])
def test_a_saved_model_comes_back(base: Path, tmp_path: Path, state: str):
    options = {"query_max_length": 12, "passage_max_length": 9, "title_format": "{title} . {text}"}
    unified = load(base, retrieval_in_generation=state, max_length=40, **options)
    unified.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir() if path.is_dir()} == {
        "retrieval",
        "generation",
    }
    again = UnifiedLM.load(tmp_path / "saved")
    np.testing.assert_array_equal(vectors(again.retriever), vectors(unified.retriever))
    np.testing.assert_array_equal(likelihoods(again.generator), likelihoods(unified.generator))
    assert answers(again.generator) == answers(unified.generator)
    assert again.fingerprint() == unified.fingerprint()
    assert again.generator.max_length == 40
    alone = BiEncoder.from_pretrained(tmp_path / "saved" / "retrieval")
    np.testing.assert_allclose(vectors(alone), vectors(unified.retriever), atol=1e-6)
    unified.save_pretrained(tmp_path / "saved")  # replaces what was saved before


def test_a_model_without_a_name_is_copied(llama: Path, tmp_path: Path):
    lm = CausalLM.from_pretrained(llama)
    lm.model.name_or_path = lm.model.config._name_or_path = ""
    for part in ("retrieval", "generation"):
        add_lora(lm, r=2, name=part)
    unified = disturb(UnifiedLM(lm.model, lm.tokenizer))
    unified.save_pretrained(tmp_path / "saved")
    alone = BiEncoder.from_pretrained(tmp_path / "saved" / "retrieval")
    np.testing.assert_allclose(vectors(alone), vectors(unified.retriever), atol=1e-6)
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    again = UnifiedLM.load(tmp_path / "moved")
    assert again.fingerprint() == unified.fingerprint()
    np.testing.assert_array_equal(vectors(again.retriever), vectors(unified.retriever))
    assert unified.model.get_base_model().name_or_path == ""
    again.save_pretrained(tmp_path / "moved")  # the copy is not lost with the folder it replaces
    assert UnifiedLM.load(tmp_path / "moved").fingerprint() == unified.fingerprint()


def test_bfloat16_comes_back(llama: Path, tmp_path: Path):
    unified = load(llama, dtype=torch.bfloat16)
    unified.save_pretrained(tmp_path / "saved")
    again = UnifiedLM.load(tmp_path / "saved")
    assert next(again.plain.parameters()).dtype == torch.bfloat16
    np.testing.assert_array_equal(vectors(again.retriever), vectors(unified.retriever))


# ---- ablations -----------------------------------------------------------------------------------


def step(weights, loss) -> None:
    optimizer = torch.optim.SGD(weights, lr=0.05)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def retrieval_loss(unified: UnifiedLM):
    encoder = unified.retriever.query_encoder
    embeddings = encoder(encoder.pad(encoder.tokenize(PASSAGES)))
    return (embeddings @ embeddings.T).pow(3).sum()


def trained(unified: UnifiedLM):
    return [weight for weight in unified.model.parameters() if weight.requires_grad]


def test_without_a_retrieval_adapter_all_weights_are_trained(base: Path, tmp_path: Path):
    unified = load(base, retrieval=None)
    head = {"lm_head.weight"} if not unified.model.config.tie_word_embeddings else set()
    names = {n for n, w in unified.model.get_base_model().named_parameters() if w.requires_grad}
    plain = CausalLM.from_pretrained(base).model
    expected = {n for n, _ in plain.named_parameters()} - head
    assert {name.replace(".base_layer", "") for name in names} == expected
    np.testing.assert_allclose(
        vectors(unified.retriever), vectors(load(base, retrieval=None, generation=None).retriever)
    )
    before = vectors(unified.retriever), likelihoods(unified.generator)
    step(trained(unified), retrieval_loss(unified))
    after = vectors(unified.retriever), likelihoods(unified.generator)
    assert all(abs(one - other).max() > 1e-4 for one, other in zip(before, after, strict=True))
    unified.save_pretrained(tmp_path / "saved")
    again = UnifiedLM.load(tmp_path / "saved")
    np.testing.assert_array_equal(vectors(again.retriever), after[0])
    np.testing.assert_array_equal(likelihoods(again.generator), after[1])
    assert again.retrieval_in_generation == "merged"
    unified.retriever.save_pretrained(tmp_path / "alone")
    alone = BiEncoder.from_pretrained(tmp_path / "alone")
    np.testing.assert_allclose(vectors(alone), after[0], atol=1e-6)


def test_without_any_adapter_it_is_a_plain_model(base: Path):
    unified = UnifiedLM.from_pretrained(base, retrieval=None, generation=None)
    plain = CausalLM.from_pretrained(base)
    assert answers(unified.generator) == answers(plain) == answers(unified.plain)
    assert not unified.has("retrieval")
    with pytest.raises(ValueError, match="no adapter for generation to train"):
        unified.train_only("generation")


@pytest.mark.parametrize("state", ["inactive", "merged"])
@pytest.mark.parametrize("part", ["retrieval", "generation"])
def test_one_part_alone_is_trained(llama: Path, part: str, state: str):
    unified = load(llama, retrieval_in_generation=state)
    unified.train_only(part)
    frozen, other = unified.frozen_digest(part), vectors(unified.retriever)
    loss = (
        retrieval_loss(unified)
        if part == "retrieval"
        else unified.generator.loss(PROMPTS, [" hen"] * 3)
    )
    before = likelihoods(unified.generator)
    step(trained(unified), loss)
    assert unified.frozen_digest(part) == frozen
    assert (abs(vectors(unified.retriever) - other).max() > 1e-5) == (part == "retrieval")
    changed = abs(likelihoods(unified.generator) - before).max() > 1e-5
    assert changed == (part == "generation" or state == "merged")
    with torch.no_grad():
        next(unified.retriever.query_encoder.below().parameters()).view(-1)[0] += 1
    assert unified.frozen_digest(part) != frozen


def test_checkpointed_activations_give_the_same_gradients(llama: Path):
    unified = load(llama, retrieval_in_generation="merged")
    unified.model.requires_grad_(True)

    def gradients():
        unified.train()
        loss = retrieval_loss(unified) + unified.generator.loss(PROMPTS, [" hen"] * 3)
        loss.backward()
        found = {n: w.grad.clone() for n, w in unified.model.named_parameters()}
        unified.model.zero_grad()
        return found

    expected = gradients()
    unified.checkpoint_activations()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@pytest.mark.parametrize("state", ["inactive", "merged"])
def test_stage_1_trains_the_adapter_for_retrieval_alone(llama: Path, tmp_path: Path, state: str):
    n = 6
    data = TrainingSet(
        [f"q{i}" for i in range(n)],
        [f"which {WORDS[i]} ?" for i in range(n)],
        [f"d{i}" for i in range(2 * n)],
        [f"{WORDS[i % n]} {WORDS[(i + 1) % n]} {WORDS[i // n]}" for i in range(2 * n)],
        Lists.pack([[i] for i in range(n)]),
        Lists.pack([[n + i] for i in range(n)]),
        [() for _ in range(n)],
    )
    unified = load(llama, retrieval_in_generation=state)
    before = {name: weight.clone() for name, weight in unified.model.state_dict().items()}
    plain = answers(unified.plain), likelihoods(unified.plain)
    args = RetrieverTrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=3,
        max_steps=4,
        warmup_steps=0,
        learning_rate=1e-2,
        temperature=0.01,
        use_cpu=True,
        report_to=[],
        save_steps=2,
        disable_tqdm=True,
        weight_decay=0.1,
    )
    RetrieverTrainer(unified.retriever, args, data).train()
    after = unified.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(unified.weights_of("retrieval"))
    assert answers(unified.plain) == plain[0]
    np.testing.assert_array_equal(likelihoods(unified.plain), plain[1])
    # A checkpoint of stage 1 is where stage 2 can begin.
    again = UnifiedLM.from_pretrained(llama, retrieval=tmp_path / "checkpoint-4" / "model")
    np.testing.assert_array_equal(vectors(again.retriever), vectors(unified.retriever))


# ---- tokenizers ----------------------------------------------------------------------------------

TOKENIZERS = {
    "pads left": {"padding_side": "left"},
    "pads right": {"padding_side": "right"},
    "no pad": {"pad_token": None},
    "ends itself": {"around": "[BOS] $A [EOS]"},
    "adds no end": {"around": "[BOS] $A"},
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_padding_and_ends_of_tokenizers_change_nothing(llama: Path, tmp_path: Path, kind: str):
    expected = load(llama)
    other = load(save_base(tmp_path / "other", **TOKENIZERS[kind]))
    np.testing.assert_array_equal(vectors(other.retriever), vectors(expected.retriever))
    assert answers(other.generator) == answers(expected.generator)
    np.testing.assert_array_equal(likelihoods(other.generator), likelihoods(expected.generator))
    alone = [other.generator.generate([prompt], max_new_tokens=6)[0] for prompt in PROMPTS]
    assert alone == answers(expected.generator)


def test_a_tokenizer_without_a_first_token(tmp_path: Path):
    unified = load(save_base(tmp_path / "bare", around="$A", bos_token=None))
    ids = unified.retriever.query_encoder.tokenize(["fox"])[0]["input_ids"]
    assert ids == [4 + WORDS.index("query"), 4 + WORDS.index(":"), 4 + WORDS.index("fox"), 3]
    alone = [unified.retriever.encode_queries([text], progress=False)[0] for text in QUERIES]
    np.testing.assert_allclose(vectors(unified.retriever)[:2], alone, atol=1e-6)
    assert answers(unified.generator)


def test_a_text_that_is_cut_keeps_its_end_token(llama: Path):
    unified = load(llama, passage_max_length=6)
    ids = unified.retriever.document_encoder.tokenize(["red hen runs"])[0]["input_ids"]
    words = [4 + WORDS.index(word) for word in ("passage", ":", "red")]
    assert ids == [2, *words, 3]


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path):
    folder = save_base(tmp_path / "m", eos_token=None)
    with pytest.raises(ValueError, match=r"append_eos, but the tokenizer has no end-of-sequence"):
        load(folder)
    unified = load(folder, append_eos=False)
    assert vectors(unified.retriever).shape == (5, 32)
    folder = save_base(tmp_path / "n", eos_token=None, pad_token=None)
    with pytest.raises(ValueError, match="neither a padding token nor an end-of-sequence"):
        load(folder, append_eos=False)


def test_answers_end_at_the_tokenizers_end_token(tmp_path: Path):
    """Also where the model's configuration names no such token, or another one."""
    for name, eos in (("none", None), ("other", 5)):
        folder = save_base(tmp_path / name, {"eos_token_id": eos})
        unified = load(folder)
        head = unified.model.get_base_model().get_output_embeddings().weight
        states = torch.from_numpy(unified.generator.last_hidden_states(["A :"]))[0]
        head.data[3] = 100 * states  # the end token is the most probable one after this prompt
        tokens = unified.generator.generate(["A :"], max_new_tokens=4)
        assert tokens == [""]


# ---- errors --------------------------------------------------------------------------------------


def test_an_adapter_of_another_base_model_is_refused(llama: Path, tmp_path: Path):
    load(llama).save_pretrained(tmp_path / "saved")
    other = save_base(tmp_path / "other")
    with pytest.raises(ValueError, match=r"is an adapter of .*, and the model is .*other"):
        UnifiedLM.from_pretrained(other, retrieval=tmp_path / "saved" / "retrieval")
    path = tmp_path / "saved" / "generation" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": str(other)}))
    with pytest.raises(ValueError, match=r"generation is an adapter of .*other, and the model is"):
        UnifiedLM.load(tmp_path / "saved")


def test_a_model_whose_weights_changed_is_refused(tmp_path: Path):
    folder = save_base(tmp_path / "base")
    load(folder).save_pretrained(tmp_path / "saved")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.model.norm.weight.data *= 2
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"base has other weights than the model that .*saved"):
        UnifiedLM.load(tmp_path / "saved")


def test_a_trained_retriever_gives_its_adapter_and_settings(llama: Path, tmp_path: Path):
    first = load(llama, query_prefix="Q : ", passage_max_length=11, title_format="{text}")
    first.save_pretrained(tmp_path / "saved")
    second = UnifiedLM.from_pretrained(llama, retrieval=tmp_path / "saved" / "retrieval")
    np.testing.assert_array_equal(vectors(second.retriever), vectors(first.retriever))
    assert answers(second.generator) == answers(first.plain)  # a new adapter changes nothing
    third = UnifiedLM.from_pretrained(
        llama, retrieval=tmp_path / "saved" / "retrieval", query_prefix="query: "
    )
    assert third.retriever.query_encoder.prefix == "query: "
    assert third.retriever.document_encoder.max_length == 11


def test_a_retriever_that_was_trained_without_a_head_gives_its_adapter(llama, tmp_path: Path):
    """As `tilefold train` writes it: other names of weights, another name of the adapter."""
    options = {"pooling": "last", "append_eos": True, "query_prefix": "Q : "}
    retriever = BiEncoder.from_pretrained(llama, lora=Lora(r=2), title_format="{text}", **options)
    generator = torch.Generator().manual_seed(2)
    for name, weight in retriever.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator)
    retriever.save_pretrained(tmp_path / "trained")
    unified = UnifiedLM.from_pretrained(llama, retrieval=tmp_path / "trained")
    np.testing.assert_allclose(vectors(unified.retriever), vectors(retriever), atol=1e-6)
    assert unified.retriever.document_encoder.prefix == ""


def test_a_retriever_with_a_projection_is_refused(llama: Path, tmp_path: Path):
    encoder = Encoder.from_pretrained(llama, projection=torch.nn.Linear(32, 8))
    add_lora(encoder)
    encoder.save_pretrained(tmp_path / "projected")
    with pytest.raises(ValueError, match="has a projection"):
        UnifiedLM.from_pretrained(llama, retrieval=tmp_path / "projected")


def test_folders_of_other_kinds_are_refused(llama: Path, tmp_path: Path):
    load(llama).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"has both adapters; use UnifiedLM\.load"):
        UnifiedLM.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="is an adapter; name the model"):
        UnifiedLM.from_pretrained(tmp_path / "saved" / "generation")
    with pytest.raises(ValueError, match="expected a folder of a UnifiedLM"):
        UnifiedLM.load(tmp_path / "saved" / "generation")
    with pytest.raises(FileNotFoundError, match=r"has no tilefold\.json"):
        UnifiedLM.load(llama)
    for kind in (CausalLM, Encoder, BiEncoder):
        with pytest.raises(ValueError, match=r"a retriever and a generator: use tilefold\.invar"):
            kind.from_pretrained(tmp_path / "saved")


def test_unknown_arguments_are_refused(llama: Path):
    with pytest.raises(ValueError, match="must be 'inactive' or 'merged', got 'frozen'"):
        load(llama, retrieval_in_generation="frozen")
    with pytest.raises(ValueError, match="retrieval_in_generation is 'inactive', but without"):
        load(llama, retrieval=None, retrieval_in_generation="inactive")
    with pytest.raises(ValueError, match="part must be 'retrieval' or 'generation', got 'both'"):
        load(llama).train_only("both")
    lm = CausalLM.from_pretrained(llama)
    add_lora(lm, name="other")
    with pytest.raises(ValueError, match=r"must be named .* got \['other'\]"):
        UnifiedLM(lm.model, lm.tokenizer)


def test_an_adapter_of_all_layers_of_a_small_model_loads_without_its_head(tmp_path):
    # peft names all layers by their paths, head included, where a model has fewer than 20.
    tiny_language_models.save("LlamaForCausalLM", tmp_path / "lm", num_hidden_layers=1)
    lora = Lora(r=2, target_modules="all-linear")
    unified = UnifiedLM.from_pretrained(tmp_path / "lm", retrieval=lora, generation=None)
    torch.manual_seed(0)
    for name, weight in unified.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    unified.save_pretrained(tmp_path / "saved")
    loaded = BiEncoder.from_pretrained(tmp_path / "saved" / "retrieval")
    texts = ["the red hen", "a fox"]
    np.testing.assert_array_equal(
        loaded.encode_queries(texts, progress=False),
        unified.retriever.encode_queries(texts, progress=False),
    )
