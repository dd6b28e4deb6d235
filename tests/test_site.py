"""The documentation site: every public name is on a page, and has a docstring with an example."""

import importlib
import importlib.util
import inspect
import re
from enum import Enum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded(path: Path):
    """Imports a file of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = loaded(ROOT / "docs" / "site_pages.py")

# Packages whose names are for tilefold itself; the last has what `tilefold --help` shows.
INTERNAL = {"tilefold.placement", "tilefold.torch_ops", "tilefold.cli"}

# Public names without a doctest, and why one would say nothing or could not run.
NO_EXAMPLE = {
    "needs a model or files, and has tests of its own": {
        "tilefold.data": "detect read_beir read_collection read_msmarco read_query_texts write_run",
        "tilefold.exposure": "exposed_training_set order_by_knowledge",
        "tilefold.invar": "GeneratorTrainer",
        "tilefold.mechanisms": "feed_forwards layer_rows layers_of link_effects masked_word "
        "present probe_layers retrieval scaled_neurons",
        "tilefold.models": "find_model minilm",
        "tilefold.report.evaluation": "scores_of_run",
        "tilefold.service": "IndexSlot open_served",
        "tilefold.studies.findings": "run_findings",
        "tilefold.train": "RetrieverTrainer WeightedObjective hold_out train_step",
    },
    "one formula, which the docstring states": {
        "tilefold.aar": "answer_deletion causal_flops compare_losses decoding_flops "
        "delete_from_passages encoding_flops fusion_flops mmlu_demonstrations "
        "popqa_demonstrations popularity_thresholds scoring_flops",
        "tilefold.confidence": "first_is_relevant",
        "tilefold.data": "check_run_names",
        "tilefold.evaluate": "average_rank_of mean",
        "tilefold.mechanisms": "against_base shuffle_queries",
    },
    "a part of what a documented class or function shows": {
        "tilefold.mechanisms": "BilinearProbe ConcatenationProbe DotProductProbe InteractionProbe",
        "tilefold.integrations.faiss_style": "IndexFlatIP IndexFlatL2",
    },
}
EXCUSED = {
    f"{module}.{name}"
    for modules in NO_EXAMPLE.values()
    for module, names in modules.items()
    for name in names.split()
}


def public() -> dict[str, object]:
    """Public names of every module of the reference that can be imported here."""
    found = {}
    for name in site.API:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        found |= {f"{name}.{own}": getattr(module, own) for own in site.names_of_page(name)}
    return found


def is_result(value: object) -> bool:
    """Whether a class is what functions return, or is for subclasses: its fields document it."""
    if not inspect.isclass(value):
        return False
    plain = hasattr(value, "__dataclass_fields__") or issubclass(value, tuple | Enum | Exception)
    abstract = inspect.isabstract(value) or getattr(value, "_is_protocol", False)
    return plain or abstract


def test_every_package_with_public_names_has_a_page():
    folders = {path.parent for path in (ROOT / "python" / "tilefold").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT / "python").parts) for folder in folders}
    exported = {id(value) for value in public().values()}
    for name in sorted(names - site.API.keys()):
        if any(name.startswith(internal) for internal in INTERNAL):
            continue
        module = importlib.import_module(name)
        for member in getattr(module, "__all__", ()):
            assert id(getattr(module, member)) in exported, f"{name}.{member} is on no page"


@pytest.mark.parametrize("name", site.API)
def test_every_public_name_is_on_the_page_of_its_module(name):
    pytest.importorskip(name, exc_type=ImportError)
    page = site.api_page(name)
    module = importlib.import_module(name)
    assert site.public_names(module)
    for member in site.names_of_page(name):
        assert re.search(rf"^::: [\w.]+\.{member}$", page, re.M), member


def test_every_public_class_and_function_has_a_docstring_with_an_example_or_a_reason():
    without = set()
    for name, value in public().items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        text = inspect.getdoc(value)
        assert text, f"{name} has no docstring"
        methods = vars(value).values() if inspect.isclass(value) else ()
        texts = [text, *(inspect.getdoc(m) or "" for m in methods if inspect.isroutine(m))]
        if not any(">>>" in text for text in texts) and not is_result(value):
            without.add(name)
    assert without == EXCUSED


def test_arguments_that_share_a_line_are_documented_one_by_one():
    sections = loaded(ROOT / "docs" / "docstring_sections.py")
    text = "Args:\n    a, b,\n        c: text\n        that goes on.\n    d: more.\n\nx, y: prose"
    entries = "".join(f"    {name}: text\n        that goes on.\n" for name in "abc")
    assert sections.split_arguments(text) == f"Args:\n{entries}    d: more.\n\nx, y: prose"


def test_doctests_outside_of_a_section_are_fenced():
    sections = loaded(ROOT / "docs" / "docstring_sections.py")
    text = "Reads.\n\n>>> 1 + 1\n2\n\nMore.\n\nExample:\n    >>> 3\n    3"
    fenced = "Reads.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore.\n\nExamples:\n    >>> 3\n    3"
    assert sections.marked_examples(text) == fenced


def test_links_between_files_become_links_between_pages():
    class Page:
        def __init__(self, place):
            self.file = type("File", (), {"src_uri": place})

    readme = site.on_page_markdown(
        "[a](docs/search.md#x) [b](LICENSE) [c](CHANGELOG.md)", Page("index.md")
    )
    assert readme == "[a](search.md#x) [b](LICENSE) [c](CHANGELOG.md)"
    search = site.on_page_markdown(
        "[a](../ARCHITECTURE.md) [b](../README.md#y) [c](a://b)", Page("search.md")
    )
    assert search == "[a](ARCHITECTURE.md) [b](index.md#y) [c](a://b)"


def test_the_picture_of_the_certificate_is_drawn_by_its_script():
    drawn = loaded(ROOT / "docs" / "certificate_figure.py")
    assert (ROOT / "docs" / "certificate.svg").read_text() == drawn.figure()
    threshold = sorted(score for *_, score in drawn.DOCUMENTS if score is not None)[-drawn.K]
    for approximate, radius, score in drawn.DOCUMENTS:
        if score is None:
            assert approximate + radius < threshold
        else:
            assert abs(score - approximate) <= radius
