"""MMLU and PopQA as tasks: what the target LM reads, and figures against plain loops."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tiny_target_models import save_target

from tilefold.aar import prompt_templates as prompts
from tilefold.aar.targets import FusedTarget
from tilefold.aar.tasks import (
    MmluTask,
    PopqaTask,
    mmlu_demonstrations,
    mmlu_passages,
    popqa_demonstrations,
    ranked_passages,
)
from tilefold.data import MultipleChoice, Question, read_choices, read_questions
from tilefold.evaluate import MMLU_GROUPS, paired_test

pytestmark = pytest.mark.usefixtures("one_thread")


class ScriptedTarget:
    """Gives the answers of a list, and keeps what it was called with."""

    name = "flan-t5-base"

    def __init__(self, answers) -> None:
        self.answers, self.calls = answers, []

    def answer(self, questions, passages=None, **options):
        self.calls.append((questions, passages, options))
        return list(self.answers)

    def choose(self, questions, options, passages=None, **others):
        self.calls.append((questions, options, passages, others))
        return np.array(self.answers, np.int64)

    def fingerprint(self) -> str:
        return "scripted"


@pytest.fixture(scope="module")
def mmlu(data_folder) -> list[MultipleChoice]:
    """All 285 questions of the development split."""
    return read_choices(data_folder / "mmlu" / "orig" / "dev")


# ---- MMLU ----------------------------------------------------------------------------------------


def test_all_is_the_mean_over_57_subjects_and_a_category_over_its_own(mmlu):
    rng = np.random.default_rng(0)
    # Subjects of several sizes, so that means over subjects and over questions differ.
    kept = [question for i, question in enumerate(mmlu) if i % 5 == 0 or rng.random() < 0.6]
    chosen = rng.integers(4, size=len(kept))
    found = MmluTask(tuple(kept)).run(ScriptedTarget(chosen))
    right = {}
    for question, choice in zip(kept, chosen, strict=True):
        right.setdefault(question.subject, []).append(choice == question.answer)
    assert len(right) == 57
    means = {subject: np.mean(own) for subject, own in right.items()}
    assert found.accuracy == found.summary["All"] == pytest.approx(np.mean(list(means.values())))
    assert found.summary["All (micro)"] == pytest.approx(np.mean(found.values))
    assert found.summary["All"] != pytest.approx(found.summary["All (micro)"])
    for group, subjects in MMLU_GROUPS.items():
        own = [means[subject] for subject in subjects]
        every = np.concatenate([right[subject] for subject in subjects])
        assert found.summary[group] == pytest.approx(np.mean(own))
        assert found.summary[f"{group} (micro)"] == pytest.approx(np.mean(every))
    assert found.parts == pytest.approx(means)
    assert found.answers == tuple("ABCD"[choice] for choice in chosen)
    assert found.ids == tuple(question.id for question in kept)
    assert found.n_passages == 0


def test_an_lm_reads_the_prompt_the_letters_and_the_first_passages(mmlu):
    target = ScriptedTarget([0, 1, 2])
    task = MmluTask(tuple(mmlu[:3]))
    retrieved = [["p0", "p1", "p2"], ["q0"], []]
    assert task.run(target, retrieved).n_passages == 2  # the paper's number for Flan-T5-Base
    questions, options, passages, others = target.calls[0]
    assert questions == prompts.mmlu_prompts(task.queries(), [q.options for q in mmlu[:3]])
    assert questions[0].startswith(f"Here's a problem to solve: {mmlu[0].question}")
    assert options == [["A", "B", "C", "D"]] * 3
    assert passages == [["p0", "p1"], ["q0"], []]
    assert "demonstrations" not in others
    task.run(target, retrieved, 3)
    assert target.calls[1][2] == retrieved


def test_values_of_two_runs_can_be_tested_in_pairs(mmlu):
    task = MmluTask(tuple(mmlu[:20]))
    right = [question.answer for question in mmlu[:20]]
    all_right, none = (task.run(ScriptedTarget([(a + n) % 4 for a in right])) for n in (0, 1))
    found = paired_test(all_right.values, none.values)
    assert (found.difference, found.n) == (1.0, 20)
    assert all_right.values.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "ance", "contriever"),
    [
        ("google/flan-t5-base", 2, 10),
        ("flan-t5-large", 6, 10),
        ("Flan-T5-XL", 9, 10),
        ("text-davinci-002", 3, 3),
        ("my-lm", None, None),
    ],
)
def test_the_paper_s_numbers_of_passages(name, ance, contriever):
    assert mmlu_passages(name) == ance
    assert mmlu_passages(name, retriever="contriever") == contriever


def test_five_examples_of_the_subject_come_in_the_order_of_the_file(mmlu):
    wanted = [
        MultipleChoice("x", "new?", ("1", "2", "3", "4"), 0, s) for s in ("anatomy", "virology")
    ]
    examples = mmlu_demonstrations(wanted, mmlu)
    for question, text in zip(wanted, examples, strict=True):
        own = [example for example in mmlu if example.subject == question.subject]
        assert len(own) == 5
        expected = ""
        for example in own:
            prompt = prompts.mmlu_prompts([example.question], [example.options])[0]
            expected += f"{prompt}\n\nAnswer: {'ABCD'[example.answer]}\n\n"
        assert text == expected
    target = ScriptedTarget([0])
    MmluTask((wanted[0],), tuple(mmlu)).run(target)
    assert target.calls[0][3]["demonstrations"] == examples[:1]


def test_a_question_among_its_examples_is_refused(mmlu):
    with pytest.raises(ValueError, match="is one of the examples"):
        mmlu_demonstrations(mmlu[:1], mmlu)
    other = MultipleChoice("x", "new?", ("1", "2"), 0, "anatomy")
    with pytest.raises(ValueError, match="expected 6 examples of the subject 'anatomy', got 5"):
        mmlu_demonstrations([other], mmlu, n_examples=6)


def test_tiny_t5_chooses_as_a_loop_over_questions_and_options(mmlu, tmp_path_factory):
    from tilefold.models import FusionInDecoder

    folder = save_target("T5ForConditionalGeneration", tmp_path_factory.mktemp("t5"))
    model = FusionInDecoder.from_pretrained(folder)
    short = [question for question in mmlu if len(question.question) < 60][:12]
    task = MmluTask(tuple(short))
    retrieved = [[f"the {word} hen", "a fox runs"] for word in ["red", "blue", "a"] * 4]
    found = task.run(FusedTarget(model), retrieved, 2)
    for row, question in enumerate(short):
        prompt = task.prompts()[row]
        texts = [passage + prompt for passage in retrieved[row]]
        means = [
            model.log_likelihood([texts], [letter], append_eos=True).mean[0] for letter in "ABCD"
        ]
        assert found.answers[row] == "ABCD"[int(np.argmax(means))]
        assert found.values[row] == float("ABCD"[question.answer] == found.answers[row])


# ---- PopQA ---------------------------------------------------------------------------------------

RELATIONS = [f"relation {i}" for i in range(16)]


def popqa(n: int = 6) -> list[Question]:
    return [
        Question(
            f"{relation}-{i}",
            f"what of {relation}, {i}?",
            (f"answer {i}", ""),
            {"prop": relation, "obj": f"object {i}"},
        )
        for relation in RELATIONS
        for i in range(n)
    ]


def test_an_answer_is_right_if_an_alias_occurs_in_it():
    questions = tuple(popqa(1)[:4])
    target = ScriptedTarget(["Answer 0 it is", "ANSWER 0", "", "none\nanswer 0"])
    found = PopqaTask(questions).run(target, [["p"] * 5] * 4)
    assert found.values.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert found.accuracy == found.summary["accuracy"] == 0.25
    assert found.summary["relaxed"] == 0.5
    assert found.parts == {"relation 0": 1.0, "relation 1": 0, "relation 2": 0, "relation 3": 0}
    assert found.answers == tuple(target.answers)
    assert (found.n_passages, target.calls[0][1]) == (3, [["p"] * 3] * 4)
    assert target.calls[0][0][0] == "Q: what of relation 0, 0? A:"


def test_fifteen_examples_have_each_other_relation_once():
    pool = popqa()
    question = pool[3 * 6]  # of relation 3
    examples = popqa_demonstrations([question], pool)[0]
    blocks = examples.removesuffix("\n\n").split("\n\n")
    assert len(blocks) == 15
    drawn = []
    for block in blocks:
        own = [q for q in pool if block == f"Q: {q.question} A: {q.metadata['obj']}"]
        drawn += [q.relation for q in own]
    assert sorted(drawn) == sorted(set(RELATIONS) - {"relation 3"})
    assert drawn != sorted(drawn)


def test_the_draw_depends_on_seed_and_question_but_not_on_the_other_questions():
    pool = popqa()
    together = popqa_demonstrations(pool[:9], pool)
    assert together[4] == popqa_demonstrations([pool[4]], pool)[0]
    assert together[4] != popqa_demonstrations([pool[4]], pool, seed=1)[0]
    assert len(set(together)) == 9


def test_thirty_examples_have_two_different_ones_of_each_relation():
    pool = popqa()
    blocks = popqa_demonstrations([pool[0]], pool, n_examples=30)[0].split("\n\n")[:-1]
    assert len(set(blocks)) == 30


def test_every_object_of_a_pool_is_drawn_sometimes():
    pool = popqa()
    wanted = [Question(str(i), "?", ("x",), {"prop": "relation 0"}) for i in range(200)]
    counts = np.zeros(6)
    for text in popqa_demonstrations(wanted, pool):
        counts += [text.count(f"object {i}") for i in range(6)]
    assert counts.sum() == 200 * 15
    assert counts.min() > 0.8 * counts.mean()


def test_examples_of_a_task_are_drawn_from_its_own_questions_or_a_pool():
    questions = popqa()
    target = ScriptedTarget([""] * len(questions))
    PopqaTask(tuple(questions), n_examples=15).run(target)
    examples = target.calls[0][2]["demonstrations"]
    assert examples == popqa_demonstrations(questions, questions)
    pool = [q for q in popqa(9) if q.id not in {own.id for own in questions}]
    PopqaTask(tuple(questions), n_examples=15, pool=tuple(pool)).run(target)
    assert "object 1" not in "".join(target.calls[1][2]["demonstrations"])


@pytest.mark.parametrize("n", [1, 14, 16])
def test_examples_are_as_many_of_each_relation(n):
    with pytest.raises(ValueError, match="must be a multiple of 15, the number of relations"):
        popqa_demonstrations(popqa()[:1], popqa(), n_examples=n)


def test_real_popqa_answers_are_questions_of_a_task(data_folder):
    folder = data_folder / "wiki_mix"
    found = read_questions(folder / "answers.jsonl")
    own = [question for question in found if question.id.startswith("pop")][:50]
    wanted = [Question(q.id, f"{q.metadata['subj']}?", q.answers, q.metadata) for q in own]
    task = PopqaTask(tuple(wanted))
    right = task.run(ScriptedTarget([answers[-1] for answers in task.accepted_answers()]))
    assert right.accuracy == 1.0
    assert set(right.parts) == {q.relation for q in wanted}


# ---- passages and bad input ----------------------------------------------------------------------


def test_ranked_passages_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    texts = [f"text {i}" for i in range(7)]
    ids = rng.integers(-1, 7, size=(5, 4))
    found = ranked_passages(ids, texts, 3)
    assert found == [[texts[i] for i in row[:3] if i >= 0] for row in ids.tolist()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], ["a"], 1), r"\[n, k\] integers, got int64 of shape \(2,\)"),
        (([[0.5]], ["a"], 1), "got float64"),
        (([[0]], ["a"], 2), "n_passages is 2, but the ranking has 1"),
        (([[0]], ["a"], 0), "at least 1, got 0"),
        (([[1]], ["a"], 1), "between -1 and 0"),
        (([[-2]], ["a"], 1), "between -1 and 0"),
    ],
)
def test_bad_rankings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranked_passages(*arguments)


CHOICE = MultipleChoice("0", "?", ("1", "2"), 0, "anatomy")
OPEN = Question("0", "?", ("a",))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MmluTask(()), "one question or more"),
        (lambda: MmluTask((CHOICE, CHOICE)), "an id occurs twice"),
        (lambda: MmluTask((MultipleChoice("7", "?", ("1",), 0, "botany"),)), "'7' has the subject"),
        (lambda: PopqaTask(()), "one question or more"),
        (lambda: PopqaTask((OPEN, OPEN)), "an id occurs twice"),
        (lambda: PopqaTask((Question("7", "", ("a",)),)), "'7' lacks a text"),
        (lambda: PopqaTask((Question("7", "?", (" ",)),)), "'7' lacks answers"),
        (lambda: PopqaTask((OPEN,), template="{query}"), "fields"),
        (lambda: PopqaTask((OPEN,), 15).run(ScriptedTarget([""])), "'0' has no relation"),
        (lambda: PopqaTask((OPEN,), -1), "n_examples must be at least 0, got -1"),
        (lambda: MmluTask((CHOICE,), n_examples=0), "n_examples must be at least 1, got 0"),
        (
            lambda: MmluTask((MultipleChoice("7", "?", ("1", "2"), 2, "anatomy"),)),
            "'7' has 2 options, and the answer 2",
        ),
        (lambda: MmluTask((CHOICE,)).run(ScriptedTarget([0]), None, 2), "there are no passages"),
        (lambda: MmluTask((CHOICE,)).run(ScriptedTarget([0]), [], 2), "of 1 questions, got 0"),
        (lambda: PopqaTask((OPEN,)).run(ScriptedTarget([""]), None, 3), "there are no passages"),
        (
            lambda: PopqaTask((OPEN,)).run(ScriptedTarget([""]), [["a"]]),
            "no question has more than 1",
        ),
    ],
)
def test_bad_tasks_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("task", "answers", "error", "message"),
    [
        (PopqaTask((OPEN,)), [], ValueError, "expected 1 answers of flan-t5-base, got 0"),
        (PopqaTask((OPEN,)), [None], TypeError, "must be strings, got NoneType"),
        (
            MmluTask((CHOICE,)),
            [],
            ValueError,
            r"expected 1 choices of flan-t5-base, got shape \(0,",
        ),
        (MmluTask((CHOICE,)), [-1], ValueError, "chose -1 of the 2 options of question 0"),
        (MmluTask((CHOICE,)), [2], ValueError, "chose 2 of the 2 options of question 0"),
    ],
)
def test_what_a_target_returns_is_checked(task, answers, error, message):
    """Anybody may write one; -1 would count as the last option."""
    with pytest.raises(error, match=message):
        task.run(ScriptedTarget(answers))


def test_one_string_is_no_list_of_passages():
    with pytest.raises(TypeError, match="passages of question 0 is one string"):
        PopqaTask((OPEN,)).run(ScriptedTarget([""]), ["a hen"], 1)


def test_an_unknown_lm_needs_its_number_of_passages():
    target = ScriptedTarget([0])
    target.name = "my-lm"
    with pytest.raises(ValueError, match="no number of passages for the LM 'my-lm'"):
        MmluTask((CHOICE,)).run(target, [["a"]])
    assert MmluTask((CHOICE,)).run(target, [["a"]], 1).n_passages == 1


def test_tasks_take_lists():
    assert MmluTask([CHOICE]).questions == (CHOICE,)
    assert PopqaTask([OPEN], pool=[OPEN]).pool == (OPEN,)
