"""English text for stand-in data: short passages about made-up things, each with a title and a question that it answers.

Passages share nouns, places and materials, so that a word index finds several candidates for a question and a reranker has
something to do. Everything follows from a name: the same name gives the same text on every machine.
"""

from __future__ import annotations

import math
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

WORDS = {
    key: tuple(value.split(", "))
    for key, value in tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8")).items()
}


@dataclass(frozen=True)
class Passage:
    """One document, and a question that it answers."""

    title: str
    text: str
    question: str


def passages(name: str, count: int, *, sentences: int = 2) -> list[Passage]:
    """`count` different passages of about `sentences` sentences (a dozen words each); `name` is the seed."""
    draw = random.Random(f"passages {name}")
    kinds = [WORDS[kind] for kind in ("adjectives", "nouns", "places")]
    chosen = draw.sample(range(math.prod(map(len, kinds))), count)
    return [_passage(draw, *_thing(number, *kinds), sentences) for number in chosen]


def _thing(
    number: int, adjectives: tuple[str, ...], nouns: tuple[str, ...], places: tuple[str, ...]
) -> tuple[str, str, str]:
    """The adjective, noun and place of one of all combinations."""
    rest, place = divmod(number, len(places))
    adjective, noun = divmod(rest, len(nouns))
    return adjectives[adjective], nouns[noun], places[place]


def _passage(draw: random.Random, adjective: str, noun: str, place: str, sentences: int) -> Passage:
    material, other = draw.sample(WORDS["materials"], 2)
    person, use, cause = (draw.choice(WORDS[kind]) for kind in ("people", "uses", "causes"))
    year, height, visitors = draw.randrange(1400, 1990), draw.randrange(3, 90), draw.randrange(200, 90_000)
    statements = [
        (
            f"The {adjective} {noun} of {place} was built in {year} by {person}.",
            f"who built the {noun} of {place}",
        ),
        (
            f"The {noun} is made of {material} and {other}, and it was used to {use}.",
            f"what was the {adjective} {noun} of {place} used for",
        ),
        (
            f"It stands {height} metres above the river {place}, where the old {material} works once were.",
            f"how high does the {noun} of {place} stand",
        ),
        (
            f"After {cause} in {year + draw.randrange(2, 30)} the {noun} had to be repaired with {other}.",
            f"why was the {adjective} {noun} of {place} repaired",
        ),
        (
            f"Today about {visitors} people a year visit {place} to see the {adjective} {noun}.",
            f"how many people visit the {noun} of {place}",
        ),
    ]
    order = [0, *draw.sample(range(1, len(statements)), len(statements) - 1)]
    told = [statements[order[number % len(order)]] for number in range(max(sentences, 1))]
    text = " ".join(sentence for sentence, _ in told)
    return Passage(f"{adjective.capitalize()} {noun} of {place}", text, draw.choice(told)[1])
