"""UTF-8 text files line by line, in constant memory: plain or gzipped, with or without a byte order mark."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release.errors import ReleaseError


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, none of whose keys occurs twice: Python would take the last one without a word, and another reader the first."""
    if len(row := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def ending(path: Path) -> str:
    """What a file's name ends with, in small letters and without .gz: `.csv` of `A.CSV.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number, from 1, and with its end.

    Raises:
        ReleaseError: The file cannot be read, is cut short, or holds a line that is not UTF-8; file and row are named.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                yield number, (line.removeprefix(BOM_UTF8) if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        what = f"not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start + 1} of the line)"
        raise ReleaseError(what, where=f"{path} row {number}", hint="save the file as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"the gzipped file is cut short or damaged ({error})"
        raise ReleaseError(what, where=f"{path} after row {number}", hint="fetch it again") from error
    except OSError as error:
        raise ReleaseError(f"cannot be read ({error.strerror or error})", where=str(path), hint="look at it") from error


def toml_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, with or without a byte order mark.

    Raises:
        ReleaseError: It is no TOML, or cannot be read.
    """
    import tomllib  # late: Python 3.10 has none, which make says in words

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReleaseError(f"not a TOML file: {error}", where=str(path), hint="correct that line") from error
    except OSError as error:
        raise ReleaseError(f"cannot be read ({error.strerror})", where=str(path), hint="look at it") from error


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of every line that is not empty, with the line's number.

    Raises:
        ReleaseError: As `lines`, or a line holds no JSON object.
    """
    for number, line in lines(path):
        if line.isspace():
            continue
        try:
            row = DECODER.decode(line.strip())
        except (ValueError, RecursionError) as error:
            raise damaged(path, number, error) from error
        if not isinstance(row, dict):
            raise damaged(path, number, f"a {type(row).__name__} where an object is expected")
        yield number, row


def damaged(path: Path, number: int, why: object, hint: str = "one JSON object per line") -> ReleaseError:
    """What to raise about a row."""
    return ReleaseError(f"damaged row ({why})", where=f"{path} row {number}", hint=hint)


def number(text: str) -> float:
    """A finite number in ASCII digits; Python's own `float` also takes 1_000, nan and the digits of other scripts.

    Raises:
        ValueError: It is none.
    """
    if not NUMBER.fullmatch(text := text.strip(" \r\n")) or not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]!r} is no finite number")
    return value


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: a lone surrogate, which JSON can escape, cannot, and reaches no tokenizer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
