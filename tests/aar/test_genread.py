"""GenRead: documents that target LMs write, and that they read in place of passages."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from completions_server import CompletionsServer
from tiny_target_models import LENGTH, save_target

from tilefold.aar import GENERATED_TOKENS, task_documents
from tilefold.aar.baselines import generated_passages
from tilefold.aar.prompt_templates import MMLU_GENREAD_PROMPT
from tilefold.aar.targets import CompletionsService, ConcatenatedTarget, FusedTarget, ScoredApi
from tilefold.aar.tasks import MmluTask, PopqaTask
from tilefold.data import MultipleChoice, Question
from tilefold.models import CausalLM, FusionInDecoder

pytestmark = pytest.mark.usefixtures("one_thread")
START = "Generate a background document from Wikipedia to answer the given question. "
END = " Generate a background document from Wikipedia to help answer the given question:"
POPQA = PopqaTask((Question("0", "hens?", ("eggs",)), Question("1", "foxes?", ("red",))))
MMLU = MmluTask((MultipleChoice("0", "1 + 1?", ("1", "2"), 1, "anatomy"),))


class Writer:
    """Keeps the prompts that it continues, and the lengths that it may write."""

    name = "writer"

    def __init__(self, texts):
        self.texts, self.prompts, self.lengths = texts, [], []

    def answer(self, questions, passages=None, **options):
        assert passages is None
        self.prompts += questions
        return self.texts

    def generator(self, max_new_tokens):
        self.lengths.append(max_new_tokens)
        return self


class CopyingTarget:
    """Writes all it reads, so it is right where the answer is in a passage."""

    name = "copying"

    def answer(self, questions, passages=None, **options):
        return [" ".join([*own, "."]) for own in passages]


def test_a_generated_document_takes_the_place_of_passages():
    writer = Writer([" A hen\n\nlays  eggs. ", " \n"])
    passages = generated_passages(writer, POPQA.queries())
    assert passages == [["A hen lays eggs."], []]  # nothing written: closed book
    assert writer.prompts == [f"{START}hens?", f"{START}foxes?"]
    assert POPQA.run(CopyingTarget(), passages, 1).values.tolist() == [1.0, 0.0]


def test_the_prompt_of_mmlu_comes_after_the_question():
    writer = Writer(["x"])
    generated_passages(writer, ["hens?"], template=MMLU_GENREAD_PROMPT)
    assert writer.prompts == [f"hens?{END}"]
    with pytest.raises(ValueError, match="fields"):
        generated_passages(writer, ["hens?"], template="{query}")


@pytest.mark.parametrize(
    ("task", "prompts"),
    [
        (POPQA, [f"{START}hens?", f"{START}foxes?"]),
        (MMLU, [f"{MMLU.prompts()[0]}{END}"]),  # with the options
    ],
)
def test_documents_of_a_task_have_its_prompts_and_150_tokens(task, prompts):
    writer = Writer(["Hens lay eggs."] * len(prompts))
    assert task_documents(writer, task) == [["Hens lay eggs."]] * len(prompts)
    assert writer.prompts == prompts
    assert writer.lengths == [GENERATED_TOKENS] == [150]


def test_a_local_lm_writes_as_one_with_more_tokens_and_all_lines(tmp_path):
    t5 = FusionInDecoder.from_pretrained(save_target("T5ForConditionalGeneration", tmp_path / "t5"))
    gpt2 = CausalLM.from_pretrained(save_target("GPT2LMHeadModel", tmp_path / "gpt2"))
    questions = ["Q : which hen ? A :"]
    for target, longer in (
        (FusedTarget(t5), FusedTarget(t5, max_new_tokens=90)),
        (
            ConcatenatedTarget(gpt2),
            ConcatenatedTarget(gpt2, max_new_tokens=90, first_line_only=False),
        ),
    ):
        before = target.fingerprint()
        generator = target.generator(90)
        assert generator.answer(questions) == longer.answer(questions) != target.answer(questions)
        assert generator.fingerprint() == longer.fingerprint() != before == target.fingerprint()


def test_a_service_is_asked_for_150_tokens_and_keeps_all_lines(monkeypatch):
    pytest.importorskip("requests", reason="requests is not installed: pip install tilefold[api]")
    pytest.importorskip("tenacity", reason="tenacity is not installed: pip install tilefold[api]")
    monkeypatch.setenv("NO_PROXY", "*")
    with CompletionsServer() as server:
        target = ScoredApi(CompletionsService(server.base_url, "tiny"))
        documents = task_documents(target, POPQA)
        POPQA.run(target, documents, 1)
    assert documents == [
        ["hens? indeed Q: more"],
        ["foxes? indeed Q: more"],
    ]  # a line break between
    assert [one.body["max_tokens"] for one in server.requests] == [150, 150, 15, 15]
    assert server.prompts[2] == "hens? indeed Q: more\n\nQ: hens? A:"


def test_lengths_that_cannot_be_written_are_refused(tmp_path):
    t5 = FusedTarget(
        FusionInDecoder.from_pretrained(save_target("T5ForConditionalGeneration", tmp_path / "t5"))
    )
    gpt2 = ConcatenatedTarget(
        CausalLM.from_pretrained(save_target("GPT2LMHeadModel", tmp_path / "gpt2")), name="small"
    )
    service = ScoredApi(CompletionsService("http://127.0.0.1:9/v1", "tiny"))
    for target in (t5, gpt2, service):
        with pytest.raises(ValueError, match=r"generator: max_new_tokens must be at least 1"):
            target.generator(0)
    with pytest.raises(ValueError, match=f"small reads and writes {LENGTH} tokens together"):
        gpt2.generator(LENGTH)
    assert gpt2.generator(LENGTH - 1).model is gpt2.model
