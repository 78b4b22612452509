"""What people write (family files, declarations) as frozen dataclasses: strict types, no unknown keys, one line per mistake."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from release.errors import ReleaseError

T = TypeVar("T")
STRICT = ConfigDict(strict=True, extra="forbid")  # for pydantic.dataclasses.dataclass(frozen=True, config=STRICT)

# What a number can be, far beyond what anybody needs: a slip of the pen is found where it is read, not after hours.
Rows = Annotated[int, Field(gt=0, le=10**12)]
MaybeRows = Annotated[int, Field(ge=0, le=10**12)]
Pairs = Annotated[int, Field(gt=0, le=10**6)]  # of a batch, or of a query
Ranks = Annotated[int, Field(ge=0, le=10**6)]  # of a query's candidates, from 0; or how many of them
Times = Annotated[int, Field(gt=0, le=10**4)]  # epochs, evaluations, repeats
MaxLength = Annotated[
    int, Field(ge=8, le=10**6)
]  # tokens of a pair; fewer hold no query and document beside the special ones
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's generator takes no other


def parse(kind: type[T], raw: Any, where: str, *, hint: str) -> T:
    """Build the dataclass `kind` from what a YAML or TOML reader gives.

    It is validated as JSON, where pydantic's strict mode still takes a list for a tuple and text for a path.

    Args:
        where: The file, for the message; the key is added to it.
        hint: Where keys are explained.

    Raises:
        ReleaseError: A key is unknown or missing, or a value has the wrong type or is out of range: the first such mistake,
            and how many there are beside it.
    """
    mistakes = _mistakes(kind, raw, where, hint)
    if isinstance(mistakes, list):
        raise _first(kind, raw, mistakes, where, hint)
    return mistakes


def check_part(kind: type[Any], raw: Any, where: str, *, hint: str) -> None:
    """Check what is there of a dataclass `kind` that something else completes, as `parse` would.

    Args:
        where: The file and the key at which it stands.

    Raises:
        ReleaseError: A key is unknown, or a value has the wrong type or is out of range.
    """
    mistakes = _mistakes(kind, raw, where, hint)
    wrong = [one for one in mistakes if not _may_be_completed(one)] if isinstance(mistakes, list) else []
    if wrong:
        first = _first(kind, raw, wrong, where, hint)
        raise ReleaseError(first.what, where=str(first.where).replace(f"{where}, key ", f"{where}."), hint=first.hint)


def _may_be_completed(mistake: ErrorDetails) -> bool:
    """Whether more keys could mend it: one is missing, or those of the whole do not go together yet."""
    return mistake["type"] in ("missing", "union_tag_not_found") or (
        mistake["type"] == "problem" and not mistake["loc"]
    )


def _mistakes(kind: type[T], raw: Any, where: str, hint: str) -> T | list[ErrorDetails]:
    """`kind` of `raw`, or all that pydantic found wrong."""
    try:
        text = json.dumps(raw, default=_refuse_type, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ReleaseError(f"cannot be read ({error})", where=where, hint=hint) from error
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        return error.errors(include_url=False)


def _first(kind: Any, raw: Any, mistakes: list[ErrorDetails], where: str, hint: str) -> ReleaseError:
    """The first mistake, unknown keys before all others, and how many there are beside it."""
    unknown = [one for one in mistakes if one["type"] == "unexpected_keyword_argument"]
    first = _error(kind, raw, (unknown or mistakes)[0], where, hint)
    others = f" ({len(mistakes) - 1} more to correct after this)" if len(mistakes) > 1 else ""
    return ReleaseError(first.what, where=first.where, hint=f"{first.hint}{others}")


def problem(what: str, hint: str) -> PydanticCustomError:
    """What a validator raises about values that do not go together, or a value that is no good."""
    return PydanticCustomError("problem", "{what}", {"what": what, "hint": hint})


def closest(word: str, known: Iterable[str]) -> str:
    """A hint that suggests the nearest known word, or lists all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _refuse_type(value: Any) -> Any:
    raise TypeError(f"{value!r} is a {type(value).__name__}; text needs quotes")


def _error(kind: Any, raw: Any, mistake: ErrorDetails, where: str, hint: str) -> ReleaseError:
    """The first mistake that pydantic found, in our words."""
    path, value, context = _path(raw, mistake), mistake["input"], mistake.get("ctx", {})
    key = path[-1] if path else ""
    parent = f"{where}, key {'.'.join(path[:-1])}" if len(path) > 1 else where
    full = f"{where}, key {'.'.join(path)}" if path else where
    match mistake["type"]:
        case "unexpected_keyword_argument":
            known = (field.name for field in fields(_kind_at(kind, mistake["loc"][:-1])))
            return ReleaseError(f"unknown key {key!r}", where=parent, hint=closest(key, known))
        case "missing":
            return ReleaseError(f"missing key {key!r}", where=parent, hint=f"add it; {hint}")
        case "union_tag_not_found":
            name = context["discriminator"].strip("'")
            if near := difflib.get_close_matches(name, value, n=1):
                return ReleaseError(f"unknown key {near[0]!r}", where=full, hint=f"did you mean {name!r}?")
            return ReleaseError(f"missing key {name!r}", where=full, hint=f"add it; {hint}")
        case "union_tag_invalid":
            name, tags = context["discriminator"].strip("'"), context["expected_tags"].replace("'", "").split(", ")
            return ReleaseError(
                f"unknown value {context['tag']!r}", where=f"{full}.{name}", hint=closest(context["tag"], tags)
            )
        case "literal_error":
            choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return ReleaseError(f"unknown value {value!r}", where=full, hint=closest(str(value), choices))
        case "problem":
            return ReleaseError(context["what"], where=full, hint=context["hint"])
    expected = mistake["msg"].removeprefix("Input should be ")
    return ReleaseError(f"expected {expected}, found {type(value).__name__} {value!r}"[:300], where=full, hint=hint)


def _path(raw: Any, mistake: ErrorDetails) -> list[str]:
    """Where the mistake is as keys of the file: pydantic's location without the tags of unions."""
    path, value = [], raw
    *inner, last = mistake["loc"] or ("",)
    for part in inner:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            path.append(str(part))
            value = value[part]
    if mistake["type"] == "missing" or (isinstance(value, dict) and last in value) or isinstance(last, int):
        path.append(str(last))
    return [key if key.isprintable() else repr(key) for key in path]


def _kind_at(kind: Any, location: Iterable[int | str]) -> Any:
    """The dataclass that stands at pydantic's location."""
    for part in location:
        if is_dataclass(kind):
            kind = get_type_hints(kind)[str(part)]
        elif get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[-1 if get_origin(kind) is dict else 0]
        else:  # the tag of a union
            kind = next(one for one in get_args(kind) if part in get_args(get_type_hints(one)["kind"]))
        options = [one for one in get_args(kind) if one is not NoneType]
        if NoneType in get_args(kind) and len(options) == 1:
            kind = options[0]
    return kind
