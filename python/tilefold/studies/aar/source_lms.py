"""Opens source LMs of both families, and builds the preference signals that each of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from .aar_settings import SignalName

if TYPE_CHECKING:
    from ...aar import PreferenceSignal
    from ...models import CausalLM, FusionInDecoder
    from ...models.cross_attention import AttentionKind

_KINDS: dict[SignalName, AttentionKind] = {
    "attention": "logits",
    "attention mass": "mass",
    "value norm": "value norm",
}
# The authors read 500 characters of a passage and 10,000 of a prompt, and cut no tokens: MMLU has
# questions beyond the 512 tokens that T5's tokenizer names.
_FUSED_TOKENS = 4096
_ENCODER_DECODER, _DECODER_ONLY = "an encoder-decoder", "a decoder-only LM"
# Signals of one family; all others are likelihoods, which both have.
_FAMILIES: dict[SignalName, str] = {
    **dict.fromkeys(_KINDS, _ENCODER_DECODER),
    "leave one out": _ENCODER_DECODER,
    "causal attention": _DECODER_ONLY,
}


class SourcePrompt(NamedTuple):
    """How a source LM reads a question with its passages."""

    question: str  # template with the field {question}
    separator: str  # after a passage
    answer: str = "{answer}"  # template of an answer, with the field {answer}


def source_prompt(model: FusionInDecoder | CausalLM) -> SourcePrompt:
    """Returns AAR's prompt for an encoder-decoder, and that of a target LM for a decoder-only LM.

    Args:
        model: the source LM.
    """
    from ...aar.prompt_templates import PASSAGE_SEPARATOR, POPQA_PROMPT, SOURCE_PROMPT
    from ...models import CausalLM

    if isinstance(model, CausalLM):
        return SourcePrompt(POPQA_PROMPT, PASSAGE_SEPARATOR, " {answer}")
    return SourcePrompt(SOURCE_PROMPT, "")


def open_source_lm(name: str, signal: SignalName) -> FusionInDecoder | CausalLM:
    """Loads a source LM: for fusion in decoder, or as a decoder-only LM if its configuration is.

    Args:
        name: folder or Hugging Face name.
        signal: that it is to give.

    Raises:
        OSError: no such model.
        ValueError: a model that cannot be read, or whose family does not have the signal.
    """
    from ...models import CausalLM
    from ...models.checkpoints.language_model_checkpoint import is_encoder_decoder

    fused = is_encoder_decoder(name)
    family = _ENCODER_DECODER if fused else _DECODER_ONLY
    if not _has(family, signal):
        others = ", ".join(one for one in get_args(SignalName) if _has(family, one))
        raise ValueError(
            f"signal: {signal!r} needs {_FAMILIES[signal]}, and the source LM {name} is {family}, "
            f"which has: {others}"
        )
    return fused_lm(name) if fused else CausalLM.from_pretrained(name)


def fused_lm(name: str) -> FusionInDecoder:
    """Loads an LM for fusion in decoder, which reads long prompts whole if its positions allow it.

    Args:
        name: folder or Hugging Face name of an encoder-decoder.

    Raises:
        OSError, ValueError: as of `FusionInDecoder.from_pretrained`.
    """
    from ...models import FusionInDecoder

    model = FusionInDecoder.from_pretrained(name)
    return model.with_options(max_length=min(model.longest, _FUSED_TOKENS))


def signal_of(
    name: SignalName,
    model: FusionInDecoder | CausalLM,
    *,
    batch_size: int,
    prompt: SourcePrompt | None = None,
) -> PreferenceSignal:
    """Builds a preference signal.

    Args:
        name: of the signal.
        model: the source LM.
        batch_size: questions, or prompts, in a forward pass.
        prompt: by default that of `source_prompt`.

    Raises:
        TypeError: a model whose family does not have the signal.
    """
    from ... import aar

    read = prompt or source_prompt(model)
    options: dict[str, Any] = {"batch_size": batch_size}
    if name == "causal attention":
        text = "{passages}" + read.separator + read.question
        return aar.CausalAttention(model, template=text, **options)  # type: ignore[arg-type]
    options["template"] = "{passage}" + read.separator + read.question
    if name in _KINDS:
        return aar.FusedAttention(model, kind=_KINDS[name], **options)  # type: ignore[arg-type]
    options["answer_template"] = read.answer
    if name == "graded perplexity reduction":
        options["closed_book_template"] = read.question
    likelihoods: dict[SignalName, Any] = {
        "likelihood": aar.AnswerLikelihood,
        "perplexity distillation": aar.PerplexityDistillation,
        "graded perplexity reduction": aar.GradedPerplexityReduction,
        "leave one out": aar.LeaveOneOut,
    }
    signal: PreferenceSignal = likelihoods[name](model, **options)
    return signal


def has_signal(model: Any, signal: SignalName) -> bool:
    """Returns whether an LM is of a family that has a signal.

    Args:
        model: of a target LM; None for one behind an API, which has no signal.
        signal: its name.
    """
    from ...models import CausalLM, FusionInDecoder

    if isinstance(model, FusionInDecoder):
        return _has(_ENCODER_DECODER, signal)
    return isinstance(model, CausalLM) and _has(_DECODER_ONLY, signal)


def _has(family: str, signal: SignalName) -> bool:
    return _FAMILIES.get(signal, family) == family
