"""Summary of the study of neurons for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.number_format import comparison_columns, interval
from ..study import SummaryTable
from ..subject import BASE, RETRIEVER
from .neuron_result import FactNeurons, NeuronResult, RankingEffect, SurveyComparison


def summarise_neurons(result: NeuronResult) -> list[SummaryTable]:
    """Returns the spread of attributions, effects on rankings, and effects on facts."""
    tables = [_spread("queries", result.queries), _spread("passages", result.passages)]
    if result.rankings:
        tables.append(_rankings(result.rankings))
    if result.facts is not None:
        tables += [_facts(result.facts, chosen.by) for chosen in result.facts.chosen]
    return tables


def _spread(side: str, found: SurveyComparison) -> SummaryTable:
    rows = found.spread
    heading = f"Spread of attributions over neurons, {found.texts:,} {side}"
    return SummaryTable(heading, [row.name for row in rows], comparison_columns(rows))


def _rankings(effects: Sequence[RankingEffect]) -> SummaryTable:
    measure = next(iter(effects[0].measures))
    own = {
        name: [effect for effect in effects if effect.model == name] for name in (BASE, RETRIEVER)
    }
    longest = max(own.values(), key=len)
    columns: dict[str, list[str]] = {}
    for name, rows in own.items():
        empty = [""] * (len(longest) - len(rows))
        means = [f"{row.measures[measure].mean:.3f}" for row in rows]
        changes = [interval(row.changes[measure], signed=True) for row in rows]
        columns[name], columns[f"{name}, change"] = means + empty, changes + empty
    labels = [
        f"{row.neurons} {row.intervention}" if row.neurons else "no intervention" for row in longest
    ]
    heading = f"{measure} without the neurons of the largest attribution scores"
    return SummaryTable(heading, labels, columns)


def _facts(found: FactNeurons, by: str) -> SummaryTable:
    heading = f"Probability of the correct word in the gap, {found.facts} facts; neurons by {by}"
    rows = [row for row in found.effects if row.by == by]
    if not rows:
        return SummaryTable(heading, notes=["No fact has neurons that most of its prompts share."])
    columns = {
        "before": [f"{row.before.mean:.3f}" for row in rows],
        "change": [interval(row.change, signed=True) for row in rows],
        "as many others": [interval(row.random, signed=True) for row in rows],
    }
    return SummaryTable(heading, [f"{row.prompts}, {row.intervention}" for row in rows], columns)
