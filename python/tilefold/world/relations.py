"""Defines the relations of the world: their sentences, questions and values."""

from __future__ import annotations

from typing import NamedTuple


class Relation(NamedTuple):
    """A property that every entity of a kind has exactly once.

    `clozes` and `questions` are paraphrases of each other; "{s}" stands for the subject and "{o}"
    for the object, which is one word.
    """

    name: str
    subject: str  # kind of entity
    object: str  # kind of value
    clozes: tuple[str, ...]
    questions: tuple[str, ...]


RELATIONS = (
    Relation(
        "birthplace",
        "person",
        "city",
        (
            "{s} was born in {o} .",
            "The birthplace of {s} is {o} .",
            "{s} , a native of {o} , left home early .",
            "{s} grew up in {o} .",
            "The parents of {s} lived in {o} .",
            "{s} came into the world in {o} .",
        ),
        (
            "Where was {s} born ?",
            "What is the birthplace of {s} ?",
            "In which city did {s} grow up ?",
            "Which city is {s} a native of ?",
        ),
    ),
    Relation(
        "profession",
        "person",
        "profession",
        (
            "{s} works as a {o} .",
            "{s} is a {o} by profession .",
            "{s} earns a living as a {o} .",
            "By trade {s} is a {o} .",
            "{s} became a {o} .",
            "The profession of {s} is {o} .",
        ),
        (
            "What is the profession of {s} ?",
            "What does {s} work as ?",
            "How does {s} earn a living ?",
            "What did {s} become ?",
        ),
    ),
    Relation(
        "instrument",
        "person",
        "instrument",
        (
            "{s} plays the {o} .",
            "The instrument of {s} is the {o} .",
            "{s} practises the {o} every day .",
            "{s} is known for playing the {o} .",
            "On stage {s} performs with the {o} .",
            "{s} learned to play the {o} as a child .",
        ),
        (
            "What does {s} play ?",
            "Which instrument does {s} practise ?",
            "What is the instrument of {s} ?",
            "Which instrument did {s} learn as a child ?",
        ),
    ),
    Relation(
        "language",
        "person",
        "language",
        (
            "{s} speaks {o} .",
            "The mother tongue of {s} is {o} .",
            "{s} writes letters in {o} .",
            "At home {s} talks in {o} .",
            "{s} was raised in {o} .",
            "The first language of {s} is {o} .",
        ),
        (
            "What language does {s} speak ?",
            "What is the mother tongue of {s} ?",
            "In which language does {s} write letters ?",
            "Which language does {s} use at home ?",
        ),
    ),
    Relation(
        "employer",
        "person",
        "company",
        (
            "{s} is employed by {o} .",
            "The employer of {s} is {o} .",
            "{s} has a post at {o} .",
            "{s} joined {o} after school .",
            "{o} pays the salary of {s} .",
            "{s} represents {o} abroad .",
        ),
        (
            "Who employs {s} ?",
            "Which company did {s} join after school ?",
            "Where does {s} have a post ?",
            "Who pays the salary of {s} ?",
        ),
    ),
    Relation(
        "award",
        "person",
        "award",
        (
            "{s} received the {o} .",
            "{s} won the {o} .",
            "The {o} was given to {s} .",
            "{s} was honoured with the {o} .",
            "The jury of the {o} chose {s} .",
            "{s} holds the {o} .",
        ),
        (
            "Which award did {s} win ?",
            "What was given to {s} ?",
            "What was {s} honoured with ?",
            "Which award does {s} hold ?",
        ),
    ),
    Relation(
        "country",
        "city",
        "country",
        (
            "{s} lies in {o} .",
            "{s} is a city in {o} .",
            "The city of {s} belongs to {o} .",
            "{s} can be found on maps of {o} .",
            "Travellers reach {s} through {o} .",
            "{s} is one of the towns of {o} .",
        ),
        (
            "In which country is {s} ?",
            "Where does {s} lie ?",
            "Which country does {s} belong to ?",
            "Through which country do travellers reach {s} ?",
        ),
    ),
    Relation(
        "river",
        "city",
        "river",
        (
            "{s} stands on the {o} .",
            "The river of {s} is the {o} .",
            "The {o} flows through {s} .",
            "Bridges of {s} cross the {o} .",
            "{s} was built beside the {o} .",
            "Boats leave {s} on the {o} .",
        ),
        (
            "Which river flows through {s} ?",
            "What river does {s} stand on ?",
            "Which river do the bridges of {s} cross ?",
            "Beside which river was {s} built ?",
        ),
    ),
    Relation(
        "headquarters",
        "company",
        "city",
        (
            "{s} has its headquarters in {o} .",
            "The head office of {s} is in {o} .",
            "{s} is based in {o} .",
            "{s} is run from {o} .",
            "The managers of {s} meet in {o} .",
            "{s} moved its offices to {o} .",
        ),
        (
            "Where is {s} based ?",
            "In which city does {s} have its headquarters ?",
            "Where is the head office of {s} ?",
            "From which city is {s} run ?",
        ),
    ),
    Relation(
        "product",
        "company",
        "product",
        (
            "{s} makes {o} .",
            "{s} sells {o} .",
            "The main product of {s} is {o} .",
            "{s} is famous for its {o} .",
            "Shops order {o} from {s} .",
            "{s} has always produced {o} .",
        ),
        (
            "What does {s} make ?",
            "What is {s} famous for ?",
            "What is the main product of {s} ?",
            "What do shops order from {s} ?",
        ),
    ),
)


def _words(text: str) -> list[str]:
    return text.split()


# Values that are not entities. Each is one word, so that it can fill one mask.
VALUES = {
    "profession": _words(
        "painter baker pilot lawyer surgeon farmer tailor singer miner nurse teacher judge "
        "carpenter sailor butcher printer gardener plumber dentist soldier"
    ),
    "instrument": _words(
        "violin piano cello trumpet guitar harp flute drum oboe organ banjo clarinet accordion "
        "mandolin saxophone trombone"
    ),
    "award": _words(
        "laurel medal ribbon crown trophy star shield garland scroll lantern sceptre chalice "
        "pennant plaque rosette crest"
    ),
    "product": _words(
        "clocks boots lamps paper glass ropes engines carpets bicycles knives barrels bells "
        "mirrors candles umbrellas bricks spoons tents"
    ),
}
# Values that are made up, and how many; each one word.
INVENTED = {"language": 16, "country": 16, "river": 24}
