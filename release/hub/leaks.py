"""What must not leave with a release: tokens and keys, and paths that say on whose machine it was made."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow.parquet as parquet

# Beside those of detect-secrets, which knows none of these; each begins with what its provider chose to be found by.
TOKENS = (
    r"hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{50,}|gh[pousr]_[A-Za-z0-9]{30,}|glpat-[\w-]{20,}",
    r"sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{40,}|gsk_[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{36,}|xai-[A-Za-z0-9]{60,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|GOCSPX-[\w-]{28}|ya29\.[\w-]{60,}|dapi[0-9a-f]{32}|dop_v1_[0-9a-f]{64}",
    r"dckr_pat_[\w-]{27}|npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{50,}|xox[abeoprs]-[\w-]{20,}|[rs]k_live_[A-Za-z0-9]{20,}",
    r"SG\.[\w-]{20,24}\.[\w-]{39,50}|AGE-SECRET-KEY-1[0-9A-Z]{58}|hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{20,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
)
NAMED = re.compile(  # only where whoever wrote it says so
    r"(?i)(?:api_?key|secret_?key|access_?key|account_?key|passw(?:or)?d|client_?secret)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9/+_=.-]{16,}"
)
LOOSE = ("IPPublicDetector", "KeywordDetector")  # of detect-secrets: what they find is rarely secret
HOMES = re.compile(
    rb"(?<![\w.-])(?:/(?:var/|usr/)?home/|/Users/|/export/home/|/mnt/[a-z]/Users/|/cygdrive/[a-z]/Users/|/Workspace/Users/)[\w.@-]+/"
    rb"|(?<![\w.-])/root/[\w.]|/(?:site|dist)-packages/|/private/var/folders/|(?<![\w.-])/content/drive/|(?<![\w.-])/kaggle/working"
    rb"|\b[A-Za-z]:(?:\\{1,2}|/)(?:Users|Documents and Settings)(?:\\{1,2}|/)[\w.@ -]+(?:\\|/)"
)
READABLE = re.compile(rb"[\x20-\x7e]{12,}")
ROWS = 1000  # of a shard, from its beginning, middle and end


def in_file(path: Path) -> Iterator[str]:
    """One line per kind of leak in a file; of a shard, which is other people's text, a sample is read."""
    if path.name.endswith(".parquet"):
        yield from _in_columns(path)
        return
    if path.suffix in (".md", ".json", ".yaml", ".toml"):
        text = path.read_bytes()
        yield from in_text(text.decode("utf-8", "replace"))
    else:  # only what can be read, and no weights, of which a gigabyte takes minutes
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            numbers = 8 + int.from_bytes(content[:8], "little") if path.suffix == ".safetensors" else len(content)
            text = b"\n".join(READABLE.findall(content, 0, numbers))
        if _tokens().search(text.decode("ascii")):
            yield "holds what looks like a token or a private key"
    if match := _own().search(text) or HOMES.search(text):
        yield f"holds a path of the build machine ({match.group().decode(errors='replace')})"


def in_text(text: str) -> Iterator[str]:
    """One line if a text of this project holds a secret of any kind that is known."""
    for kind, pattern in {"token or private key": _tokens(), "named secret": NAMED, **_maintained()}.items():
        if pattern.search(text):
            yield f"holds what looks like a token or a private key ({kind})"
            return


def _in_columns(path: Path) -> Iterator[str]:
    file = parquet.ParquetFile(path)
    last = file.num_row_groups - 1
    for group in sorted({0, last // 2, last} - {-1}):
        for name, values in file.read_row_group(group).slice(0, ROWS).to_pydict().items():
            texts = "\n".join(value for value in values if isinstance(value, str))
            if any("EXAMPLE" not in match.group() for match in _tokens().finditer(texts)):
                yield f"column {name} holds what looks like a token or a private key"
                return


@cache
def _tokens() -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(TOKENS)})")


@cache
def _maintained() -> dict[str, re.Pattern[str]]:
    """What detect-secrets knows by its form, by kind; not what it only guesses from entropy, which every hash and weight has."""
    # Late: a third of a second that only what checks a folder needs.
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    patterns: dict[str, re.Pattern[str]] = {}
    for kind, detector in get_mapping_from_secret_type_to_class().items():
        if issubclass(detector, RegexBasedDetector) and detector.__name__ not in LOOSE:
            for number, pattern in enumerate(detector().denylist):
                patterns[f"{kind} {number}" if number else kind] = pattern
    return patterns


def _own() -> re.Pattern[bytes]:
    """The home and the working folder of whoever runs this, wherever they lie."""
    folders = {Path.home().as_posix(), Path.cwd().as_posix()} - {"/"}
    ends = {folder: rb"/[\w.]" if folder.count("/") == 1 else rb"/[\w.]|[\"'\s]|$" for folder in sorted(folders)}
    own = b"|".join(re.escape(folder.encode()) + b"(?=" + end + b")" for folder, end in ends.items())
    return re.compile(own or rb"(?!)")
