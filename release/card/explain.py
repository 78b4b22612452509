"""`make explain SIZE=.. FIGURE=..`: where a number on the card or in the collection comes from."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Annotated, Any

import typer

from release import console, options
from release.card import acceptance, beside, origins, render
from release.card.acceptance import CardRecords
from release.card.origins import Origin
from release.errors import ReleaseError
from release.evaluation import queries
from release.family import Family, load
from release.records import Record

Figure = Annotated[
    str, typer.Option(help="A number as the card or the collection shows it, such as 0.605 or 4,189,761.")
]
EVALUATE = "records/evaluate.json"
MIXTURE = "records/mixture.json"  # what the data's manifest is called in a repository


def command(size: options.Size, figure: Figure, family_file: options.Family = options.ETTIN) -> None:
    """Say of a number on the card or in the collection what it is: record, key, command, machine, commit, scores."""
    family = load(family_file)
    explained = Explained(family, size)
    all_origins = explained.origins(number(figure, explained))
    for shown in explained.lines(number(figure, explained)):
        print(*console.wrapped(shown[:400], indent="  "), sep="\n")
    rows = [[origin.file, origin.key, explained.says(origin)] for origin in all_origins]
    console.table(f"{figure} comes from", ["file", "key", "there"], rows)
    measured = [fact for fact in map(explained.measurement, all_origins) if fact]
    for fact in {fact["file"]: fact for fact in measured}.values():
        print(*console.wrapped(f"{fact['file']}: {fact['command']}; on {fact['machine']}", indent="  "), sep="\n")
        print(f"  at commit {fact['commit'] or 'unknown'}, {fact['created']}")
    facts = [dataclasses.asdict(origin) | (explained.measurement(origin) or {}) for origin in all_origins]
    console.print_json({"figure": figure, "origins": facts})


def number(figure: str, explained: Explained) -> Decimal:
    """The number that somebody means.

    Raises:
        ReleaseError: It is none, or neither the card nor the collection shows it: the nearest one that is shown.
    """
    given = origins.numbers(figure)
    if len(given) != 1:
        raise ReleaseError(
            f"{figure!r} is no number", where="FIGURE", hint="write it as the card shows it, such as 0.605"
        )
    if given[0] not in explained.shown:
        nearest = min(explained.shown, key=lambda each: abs(each - given[0]))
        where = f"the card and the collection of {explained.family.model_id(explained.size)}"
        raise ReleaseError(f"no {figure} there", where=where, hint=f"the nearest that is shown is {nearest:f}")
    return given[0]


class Explained:
    """The card and the collection of one size, and the origins of all their numbers."""

    def __init__(self, family: Family, size: str) -> None:
        self.family, self.size = family, size
        measured = acceptance.card_records(family, size)
        family = dataclasses.replace(family, tables={})  # the same numbers a second time
        self.records = _files(measured)
        with origins.tracing() as self.prints:
            known = origins.traced(family, family.path.as_posix())
            numbered = _traced(measured)
            texts = render.model_card(known, size, numbered), render.collection_text(known, size, numbered)
        if texts != (render.model_card(family, size, measured), render.collection_text(family, size, measured)):
            raise AssertionError("a traced card is another card")
        self.card, self.collection = texts
        self.shown = {each for text in texts for each in origins.numbers(text)}
        self.sources: dict[str, Any] = {family.path.as_posix(): family, MIXTURE: measured.manifest, **self.records}
        if shown := beside.read(family, size, measured):
            self.sources[f"records/{beside.FILE}"] = shown

    def origins(self, figure: Decimal) -> list[Origin]:
        """Where a number comes from: what was printed of records and family, else their texts, else the card's own."""
        printed = self.prints.origins.get(figure, [])
        return printed or origins.mentioned(figure, self.sources) or origins.constants(figure)

    def lines(self, figure: Decimal) -> list[str]:
        """The lines of card and collection that show a number."""
        lines = [*self.card.splitlines(), *self.collection.splitlines()]
        return [line.strip() for line in lines if figure in origins.numbers(line)]

    def says(self, origin: Origin) -> str:
        """What stands at an origin."""
        if origin.how == "constant":
            return "the text's own"
        value: Any = self.sources[origin.file]
        for part in _parts(value, origin.key):
            value = _inner(value, part)
        return f"{len(value)} of them" if origin.how == "count" else str(value)[:80]

    def measurement(self, origin: Origin) -> dict[str, str] | None:
        """What measured it, None where no record is meant."""
        record = self.records.get(origin.file)
        if record is None:
            return None
        machine = record.machine
        fact = {
            "file": origin.file,
            "command": record.command,
            "commit": record.commit,
            "created": record.created,
            "machine": f"{machine.device} ({machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB)",
        }
        scored = origin.file == EVALUATE and any(part in origin.key for part in ("tasks.", "means."))
        return fact | ({"queries": f"records/{queries.FILE}"} if scored else {})


def _files(measured: CardRecords) -> dict[str, Record[Any, Any]]:
    """Every record by its name in the repository."""
    named = {f"records/{kind}.json": getattr(measured, kind) for kind in acceptance.KINDS}
    further = {f"records/devices/{record.machine.device}/speed.json": record for record in measured.further_speeds}
    return named | further


def _traced(measured: CardRecords) -> CardRecords:
    """The same records, whose numbers know their place."""
    traced = {file: origins.traced(record, file) for file, record in _files(measured).items()}
    parts = {kind: traced.pop(f"records/{kind}.json") for kind in acceptance.KINDS}
    further = tuple(traced.values())
    return CardRecords(**parts, further_speeds=further, manifest=origins.traced(measured.manifest, MIXTURE))


def _parts(value: Any, key: str) -> list[str]:
    """The steps of a key, of which some have dots themselves."""
    steps: list[str] = []
    rest = key
    while rest:
        names = [str(name) for name in (vars(value) if dataclasses.is_dataclass(value) else _names(value))]
        step = max((name for name in names if rest == name or rest.startswith(f"{name}.")), key=len)
        steps.append(step)
        value, rest = _inner(value, step), rest[len(step) + 1 :]
    return steps


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value)))


def _inner(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value[step]
    return value[int(step)] if isinstance(value, tuple | list) else getattr(value, step)
