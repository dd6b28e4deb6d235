"""Stage 2: what is trained and what is not, the loss of answers, checkpoints that resume."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")
pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")
pytest.importorskip("accelerate", reason="pip install tilefold[train]")

from unified_models import FAMILIES, disturb, save_base, save_family

from file_size_limit import file_size_limit
from tilefold.files.tensors import CorruptedFolderError
from tilefold.invar import UnifiedLM
from tilefold.invar.generation import (
    TEMPLATES,
    AnswerGenerator,
    GeneratorTrainer,
    GeneratorTrainingArguments,
    ReadingExample,
)
from tilefold.invar.generation.answer_loss import AnswerLoss, collated
from tilefold.models import Lora
from tilefold.train.checkpoints import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
NOUNS, VERBS, PLACES = ["hen", "fox"], ["runs", "sleeps"], ["barn", "the red barn"]
EXAMPLES = [
    ReadingExample(
        row, f"which {noun} ?", (f"the {noun} {verb} .", f"a {place}"), verb, (0,), "kept"
    )
    for row, (noun, verb, place) in enumerate(
        (noun, verb, place) for noun in NOUNS for verb in VERBS for place in PLACES
    )
]
TEXTS = ["red hen", "the fox runs ."]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("llama"))


def load(folder: Path, **options: Any) -> UnifiedLM:
    torch.manual_seed(0)
    lora = {"retrieval": Lora(r=2), "generation": Lora(r=4, dropout=0.1)}
    unified = UnifiedLM.from_pretrained(folder, **{**lora, **options})
    generator = torch.Generator().manual_seed(1)
    for name, weight in unified.model.named_parameters():
        if ".retrieval." in name:
            weight.data.normal_(std=0.3, generator=generator)
    return unified


def arguments(folder: Path, **options: Any) -> GeneratorTrainingArguments:
    return GeneratorTrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 3,
            "learning_rate": 1e-2,
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            **options,
        }
    )


def a_trainer(unified: UnifiedLM, folder: Path, examples=EXAMPLES, **options: Any):
    own = {
        key: options.pop(key)
        for key in ("template", "validation", "evaluators", "overflow", "callbacks")
        if key in options
    }
    own = {"template": "popqa", **own}
    return GeneratorTrainer(unified, arguments(folder, **options), examples, **own)


def bits(unified: UnifiedLM) -> dict[str, Any]:
    return {name: weight.detach().clone() for name, weight in unified.model.state_dict().items()}


def losses(trainer: GeneratorTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module", params=[*FAMILIES])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize("state", ["inactive", "merged"])
def test_the_adapter_for_generation_alone_is_trained(family: Path, tmp_path: Path, state: str):
    unified = load(family, retrieval_in_generation=state)
    before, vectors = bits(unified), unified.retriever.encode_queries(TEXTS, progress=False)
    retriever = unified.retriever.query_encoder.fingerprint()
    trainer = a_trainer(unified, tmp_path, template=TEMPLATES.popqa, max_steps=3)
    trainer.train()
    after = bits(unified)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(unified.weights_of("generation"))
    assert retriever == unified.retriever.query_encoder.fingerprint()
    np.testing.assert_array_equal(unified.retriever.encode_queries(TEXTS, progress=False), vectors)


def test_without_a_retrieval_adapter_the_weights_of_the_model_are_frozen(llama, tmp_path):
    unified = load(llama, retrieval=None)
    before = bits(unified)
    a_trainer(unified, tmp_path, max_steps=2).train()
    after = bits(unified)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(unified.weights_of("generation"))


def test_answers_are_learned(llama: Path, tmp_path: Path):
    """Verbs are copied from passages. The frozen head allows probabilities up to about 0.6."""
    unified = load(llama, generation=Lora(r=8, target_modules="all-linear"))
    trainer = a_trainer(
        unified, tmp_path, num_train_epochs=30, learning_rate=1e-2, gradient_accumulation_steps=1
    )
    trainer.train()
    assert np.mean(losses(trainer)[-4:]) < 0.3 * np.mean(losses(trainer)[:4])
    questions = [example.question for example in EXAMPLES]
    passages = [example.passages for example in EXAMPLES]
    expected = [example.answer for example in EXAMPLES]
    generator = AnswerGenerator(unified.generator, template="popqa", max_new_tokens=6)
    # The end is learned as well: nothing follows the answer.
    assert generator.answer(questions, passages) == expected
    plain = AnswerGenerator(unified.plain, template="popqa", max_new_tokens=6)
    assert not set(plain.answer(questions, passages)) & set(expected)


# ---- the loss ------------------------------------------------------------------------------------


def naive_loss(unified: UnifiedLM, examples, template=TEMPLATES.popqa) -> tuple[float, int]:
    """Sum over tokens of answers and their ends, one example at a time, and their number."""
    model = unified.generator.merge().model.double()
    tokenizer = unified.generator.tokenizer
    total, count = 0.0, 0
    for example in examples:
        prompt = tokenizer(template.prompt(example.question, example.passages))["input_ids"][:-1]
        answer = tokenizer(template.answer(example.answer), add_special_tokens=False)["input_ids"]
        ids = prompt + answer + [tokenizer.eos_token_id]
        with torch.inference_mode():
            log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for place in range(len(prompt), len(ids)):
            total -= float(log_p[place - 1, ids[place]])
            count += 1
    return total, count


def batch_of(unified: UnifiedLM, examples) -> dict[str, Any]:
    prompts = [TEMPLATES.popqa.prompt(one.question, one.passages) for one in examples]
    answers = [TEMPLATES.popqa.answer(one.answer) for one in examples]
    tokens = unified.generator.continuation_tokens(prompts, answers)
    rows = [{"input_ids": one["input_ids"], "start": one["start"][0]} for one in tokens]
    return collated(rows, padding=0)


VARIED = [
    *EXAMPLES[:2],
    ReadingExample(0, "hen ?", (), "the red hen runs over the barn", (), None),
    ReadingExample(0, "the blue fox ?", ("a hen .", "a", "a fox ."), "a", (), "kept"),
]


def test_the_loss_is_that_of_a_naive_loop(llama: Path):
    unified = disturb(load(llama))
    unified.eval()
    total, count = naive_loss(unified, VARIED)
    batch = batch_of(unified, VARIED)
    loss = AnswerLoss(unified.generator)
    np.testing.assert_allclose(float(loss(**batch)["loss"]), total / count, rtol=1e-5)
    np.testing.assert_allclose(
        float(loss(**batch, num_items_in_batch=7)["loss"]), total / 7, rtol=1e-5
    )
    assert (batch["labels"] != -100).sum() == count
    mean = unified.generator.loss(
        [TEMPLATES.popqa.prompt(one.question, one.passages) for one in VARIED],
        [f" {one.answer}" for one in VARIED],
    )
    np.testing.assert_allclose(float(loss(**batch)["loss"]), float(mean), rtol=1e-6)


def test_padding_and_prompts_have_no_gradient(llama: Path):
    unified = disturb(load(llama))
    unified.eval()
    unified.train_only("generation")
    loss = AnswerLoss(unified.generator)

    def gradients(batch):
        unified.model.zero_grad()
        loss(**batch)["loss"].backward()
        return [w.grad.clone() for w in unified.weights_of("generation").values()]

    batch = batch_of(unified, VARIED)
    wider = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 5), value=9),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 5)),
        "labels": torch.nn.functional.pad(batch["labels"], (0, 5), value=-100),
    }
    for one, other in zip(gradients(batch), gradients(wider), strict=True):
        torch.testing.assert_close(one, other)


def test_accumulated_steps_are_means_over_all_tokens(llama: Path, tmp_path: Path):
    """Answers of 1 to 7 tokens: a mean of means would be another loss."""

    def first_loss(size: int, steps: int) -> float:
        unified = load(llama, generation=Lora(r=4))
        trainer = a_trainer(
            unified,
            tmp_path,
            VARIED,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
        )
        trainer.train()
        return losses(trainer)[0]

    total, count = naive_loss(load(llama), VARIED)
    for size, steps in ((4, 1), (2, 2), (1, 4)):
        np.testing.assert_allclose(first_loss(size, steps), total / count, rtol=1e-4)


def test_evaluation_is_the_mean_over_tokens_whatever_the_batch(llama: Path, tmp_path: Path):
    unified = disturb(load(llama))
    total, count = naive_loss(unified, VARIED)
    seen = []

    def evaluator(model: UnifiedLM):
        seen.append(model)
        return {"EM": 0.25}

    for size in (1, 3):
        trainer = a_trainer(
            unified,
            tmp_path,
            validation=VARIED,
            evaluators=[evaluator],
            per_device_eval_batch_size=size,
        )
        found = trainer.evaluate()
        np.testing.assert_allclose(found["eval_loss"], total / count, rtol=1e-5)
        assert found["eval_EM"] == 0.25
    assert seen == [unified, unified]
    trainer = a_trainer(unified, tmp_path, evaluators=[evaluator, evaluator])
    with pytest.raises(ValueError, match="two values are named 'EM'"):
        trainer.evaluate()
    with pytest.raises(ValueError, match="neither a validation nor an evaluator"):
        a_trainer(unified, tmp_path).evaluate()


def test_checkpointed_activations_train_to_the_same_weights(llama: Path, tmp_path: Path):
    def trained(**options):
        unified = load(llama, generation=Lora(r=4), retrieval_in_generation="merged")
        a_trainer(unified, tmp_path, max_steps=2, **options).train()
        return bits(unified)

    name = "activation_checkpointing"
    if not hasattr(transformers.TrainingArguments, name):  # before transformers 5
        name = "gradient_checkpointing"
    one, other = trained(), trained(**{name: True})
    for key in one:
        torch.testing.assert_close(one[key], other[key])


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["inactive", "merged"])
def test_a_resumed_training_ends_in_the_same_bits(llama: Path, tmp_path: Path, state: str):
    """Dropout of the adapter, the order of examples, and the optimizer are resumed."""

    def run(folder: Path, resume: Path | None):
        unified = load(llama, retrieval_in_generation=state)
        trainer = a_trainer(unified, folder, save_strategy="steps", save_steps=2)
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return bits(unified), trainer

    whole, trainer = run(tmp_path / "whole", None)
    assert trainer.state.global_step == 6
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "again" / "checkpoint-2")
    again, _ = run(tmp_path / "again", tmp_path / "again" / "checkpoint-2")
    for name, weight in whole.items():
        assert torch.equal(weight, again[name]), name
    last = UnifiedLM.load(last_checkpoint(tmp_path / "whole") / "model")
    assert last.fingerprint() == trainer.unified.fingerprint()
    files = {path.name for path in (tmp_path / "whole" / "checkpoint-6" / "model").iterdir()}
    assert "base" not in files  # the model itself is named, not copied


@pytest.mark.parametrize("limit", [2000, 4000])  # bytes
def test_a_full_disk_is_an_os_error_and_the_checkpoint_before_stays(
    llama: Path, tmp_path: Path, limit: int
):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    a_trainer(load(llama), tmp_path, **options).train()
    before = tmp_path / "checkpoint-1"
    shutil.rmtree(tmp_path / "checkpoint-2")
    trainer = a_trainer(load(llama), tmp_path, **options)
    with file_size_limit(limit), pytest.raises(OSError, match="checkpoint-2"):
        trainer.train(resume_from_checkpoint=str(before))
    assert last_checkpoint(tmp_path) == before
    a_trainer(load(llama), tmp_path, **options).train(resume_from_checkpoint=str(before))
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_the_best_checkpoint_is_loaded_at_the_end(llama: Path, tmp_path: Path):
    values = iter([0.1, 0.9, 0.3])
    digests = []

    def evaluator(model: UnifiedLM):
        digests.append(model.generator.fingerprint())
        return {"EM": next(values)}

    unified = load(llama)
    trainer = a_trainer(
        unified,
        tmp_path,
        evaluators=[evaluator],
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="EM",
    )
    trainer.train()
    assert len(set(digests)) == 3
    assert unified.generator.fingerprint() == digests[1]


def test_a_checkpoint_over_other_weights_is_not_resumed(llama: Path, tmp_path: Path):
    a_trainer(load(llama), tmp_path, save_strategy="steps", save_steps=2, max_steps=2).train()
    checkpoint = str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match="trained over other weights; resume with the model"):
        a_trainer(disturb(load(llama)), tmp_path).train(resume_from_checkpoint=checkpoint)
    other = load(llama, generation=Lora(r=3))
    with pytest.raises(ValueError, match="has other layers or ranks"):
        a_trainer(other, tmp_path).train(resume_from_checkpoint=checkpoint)
    path = tmp_path / "checkpoint-2" / "objective.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptedFolderError, match=r"objective\.safetensors"):
        a_trainer(load(llama), tmp_path).train(resume_from_checkpoint=checkpoint)


# ---- errors --------------------------------------------------------------------------------------


class ChangesAFrozenWeight(transformers.TrainerCallback):
    """What a bug would do."""

    def __init__(self, unified: UnifiedLM) -> None:
        self.unified = unified

    def on_step_end(self, *_: Any, **__: Any) -> None:
        name = next(name for name in dict(self.unified.model.named_parameters()) if "norm" in name)
        dict(self.unified.model.named_parameters())[name].data[0] += 1e-6


def test_a_frozen_weight_that_changes_is_an_error(llama: Path, tmp_path: Path):
    unified = load(llama)
    trainer = a_trainer(unified, tmp_path, max_steps=1, callbacks=[ChangesAFrozenWeight(unified)])
    with pytest.raises(RuntimeError, match="weights outside the adapter for generation changed"):
        trainer.train()


def test_what_cannot_be_trained_is_refused(llama: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no adapter for generation to train"):
        a_trainer(load(llama, generation=None), tmp_path)
    with pytest.raises(ValueError, match="examples must have one or more, got none"):
        a_trainer(load(llama), tmp_path, [])
    with pytest.raises(ValueError, match="validation must have one or more, got none"):
        a_trainer(load(llama), tmp_path, validation=[])
    long = ReadingExample(0, "hen " * 80, (), "fox", (), None)
    with pytest.raises(ValueError, match="more than max_length 64"):
        a_trainer(load(llama), tmp_path, [long])
    with pytest.raises(ValueError, match="neftune_noise_alpha: not for generators"):
        arguments(tmp_path, neftune_noise_alpha=5.0)
    (tmp_path / "checkpoint-mine").mkdir()
    (tmp_path / "checkpoint-mine" / "notes").write_text("mine")
    with pytest.raises(ValueError, match=r"save_total_limit: .* was not written by this library"):
        a_trainer(load(llama), tmp_path, save_total_limit=1)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path):
    folder = save_base(tmp_path / "model", eos_token=None)
    unified = load(folder, append_eos=False)
    with pytest.raises(ValueError, match="append_eos, but there is no such token"):
        a_trainer(unified, tmp_path / "run")
