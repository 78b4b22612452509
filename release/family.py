"""A family of rerankers: its TOML file as frozen dataclasses. Nothing else in the project knows a size."""

from __future__ import annotations

import difflib
import tomllib
import types
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from release.errors import ReleaseError


@dataclass(frozen=True)
class About:
    """Table `[family]`: names, licence and language. Repositories are called `<name>-<size>-<version>`."""

    name: str
    title: str
    version: str
    organization: str
    license: str
    language: str
    collection: str
    summary: str


@dataclass(frozen=True)
class Teacher:
    """Table `[teacher]`: what labels the pairs. `kind` is `cross-encoder`, or `stand-in` for the embedded default."""

    model: str
    kind: str
    license: str
    max_length: int


@dataclass(frozen=True)
class Data:
    """Table `[data]`: the declaration of sources, the dataset repository, and the config with a validation split."""

    declaration: Path
    repository: str
    license: str
    validation: str


@dataclass(frozen=True)
class Training:
    """Table `[training]`: what all sizes share. `warmup` is a share of the steps, `evaluations` a count per run."""

    loss: Literal["mse", "margin-mse"]
    epochs: int
    warmup: float
    precision: Literal["bf16", "fp32"]
    max_length: int
    evaluations: int
    checkpoints: int
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """Table `[evaluation]`: NanoBEIR sets for training, tasks or BEIR collections and first stages for the card."""

    nano: str
    nano_sets: tuple[str, ...]
    tasks: tuple[str, ...]
    collections: tuple[str, ...]
    embedders: tuple[str, ...]
    top_k: int
    compared: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Table `[speed]`: the protocol, and the device (a part of its name) that an official card requires."""

    device: str
    pairs: str
    max_length: int
    first_batch: int
    passes: int


@dataclass(frozen=True)
class Size:
    """Table `[sizes.<name>]`: the only three facts that differ between the members of a family."""

    name: str
    encoder: str
    learning_rate: float
    global_batch_size: int


@dataclass(frozen=True)
class Family:
    """One family file. `build` is where everything generated for it goes (build/<family>)."""

    path: Path
    about: About
    teacher: Teacher
    data: Data
    training: Training
    evaluation: Evaluation
    speed: Speed
    sizes: dict[str, Size]

    @property
    def build(self) -> Path:
        return Path("build") / self.about.name

    @property
    def data_id(self) -> str:
        """The dataset's repository id, `organization/name`."""
        return f"{self.about.organization}/{self.data.repository}"

    def size(self, name: str) -> Size:
        """The size called `name`.

        Raises:
            ReleaseError: The family has no such size.
        """
        if name not in self.sizes:
            raise ReleaseError(
                f"unknown size {name!r}", where=str(self.path), hint=f"SIZE is one of {', '.join(self.sizes)}"
            )
        return self.sizes[name]

    def model_name(self, size: str) -> str:
        """The repository's name without its organisation, `<name>-<size>-<version>`."""
        return f"{self.about.name}-{self.size(size).name}-{self.about.version}"

    def model_id(self, size: str) -> str:
        """The model's repository id, `organization/<name>-<size>-<version>`."""
        return f"{self.about.organization}/{self.model_name(size)}"

    def folder(self, size: str) -> Path:
        """Where everything about one size goes: model/, records/, export/ and repo/ lie in it."""
        return self.build / self.size(size).name

    def compared_folder(self, name: str) -> Path:
        """Where everything about a public reranker goes that the family is compared with: records/ lies in it."""
        return self.build / "compared" / name.replace("/", "--")


_TABLES: dict[str, type] = {
    "family": About,
    "teacher": Teacher,
    "data": Data,
    "training": Training,
    "evaluation": Evaluation,
    "speed": Speed,
}


def load(path: Path) -> Family:
    """Read and check a family file.

    Raises:
        ReleaseError: No such file, no TOML, an unknown or missing key, or a value of the wrong type; the key is named.
    """
    if not path.is_file():
        known = ", ".join(sorted(str(file) for file in Path("recipes").glob("*.toml")))
        raise ReleaseError(f"no family file {path}", hint=f"FAMILY is a TOML file such as {known or 'family.toml'}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReleaseError(f"not a TOML file: {error}", where=str(path), hint="correct that line") from error
    _check_keys(raw, {*_TABLES, "sizes"}, f"{path}", "table")
    tables = {name: _table(kind, raw[name], f"{path} [{name}]") for name, kind in _TABLES.items()}
    if not isinstance(raw["sizes"], dict) or not raw["sizes"]:
        raise ReleaseError("a family needs at least one size", where=str(path), hint="add a table [sizes.<name>]")
    sizes = {
        name: _table(Size, {"name": name, **_mapping(table, f"{path} [sizes.{name}]")}, f"{path} [sizes.{name}]")
        for name, table in raw["sizes"].items()
    }
    about = tables.pop("family")
    return Family(path=path, about=about, sizes=sizes, **tables)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReleaseError("expected a table", where=where, hint=f"write it as {where.split()[-1]}")
    return value


def _check_keys(raw: dict[str, Any], known: set[str], where: str, noun: str) -> None:
    for key in raw:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"
            raise ReleaseError(f"unknown {noun} {key!r}", where=where, hint=hint)
    for key in sorted(known - raw.keys()):
        raise ReleaseError(f"missing {noun} {key!r}", where=where, hint="add it; recipes/ettin.toml shows its form")


def _table(kind: Any, raw: Any, where: str) -> Any:
    """Build the dataclass `kind` from a TOML table; its annotations are the schema."""
    raw = _mapping(raw, where)
    hints = get_type_hints(kind)
    _check_keys(raw, {field.name for field in fields(kind)}, where, "key")
    return kind(**{key: _value(hints[key], value, f"{where} {key}") for key, value in raw.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its annotation; integers are welcome where a float is asked, booleans are not."""
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if isinstance(value, list):
            return tuple(_value(item, entry, f"{where}[{index}]") for index, entry in enumerate(value))
    elif get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ReleaseError(f"unknown value {value!r}", where=where, hint=f"one of {', '.join(get_args(hint))}")
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type | types.UnionType) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    wanted = "a list" if get_origin(hint) is tuple else getattr(hint, "__name__", str(hint))
    raise ReleaseError(f"expected {wanted}, found {type(value).__name__} {value!r}", where=where, hint="correct it")
