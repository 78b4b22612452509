"""Measured results as JSON files with provenance. The only reader and writer of results in the project.

A record is checked against its kind's dataclasses (release/results) when it is written and when it is read: types are
exact, unknown and missing keys, NaN and infinity are refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError, with_config

from release import mode, stages
from release.errors import ReleaseError
from release.files import PACKAGE, RESOURCES, sha256_file, write_json
from release.results import KINDS, Kind, Result, Subject
from release.results.ranges import STRICT, Amount, Positive, Time

Parsed = TypeVar("Parsed")

PACKAGES = (
    "torch",
    "sentence-transformers",
    "transformers",
    "datasets",
    "mteb",
    "huggingface_hub",
    "flash-attn",
    "kernels",
)
STAGES = {stage.record: stage.name for stage in stages.STAGES if stage.record}  # the kind -> the stage that measures it


@dataclass(frozen=True)
class Machine:
    """The hardware of a measurement.

    Attributes:
        device: The accelerator's name, or "CPU".
        cores: Usable by the process; `memory_gib` is the machine's, in GiB.
        system: Operating system and architecture.
    """

    device: str
    cpu: str
    cores: Positive
    memory_gib: Amount
    system: str


@with_config(STRICT)
@dataclass(frozen=True)
class Record(Generic[Result, Subject]):
    """One measurement.

    Attributes:
        kind: The name of one of `KINDS`.
        family, size: Whom it belongs to (`size` is "" for a record of the whole family, such as `data`).
        model_sha256: `model_hash` of the measured model, "" where no model is involved.
        measured: The numbers.
        subject: What makes the numbers comparable: dtype, data revision, first stage, top_k, protocol.
        machine: The hardware it ran on.
        versions: Package -> version, Python's included.
        commit: The project's git commit, with "+changes" where the work tree differed, "" outside git.
        command: The command that measured it, without secrets.
        created: When, UTC, ISO 8601 in seconds.
        sha256: Over all else in the file, written with it: an edit by hand shows (`is_sealed`).
        rehearsal: Whether it was measured in a rehearsal (release/mode.py): no card but a rehearsed one shows it.
    """

    kind: str
    family: str
    size: str
    model_sha256: str
    measured: Result
    subject: Subject
    machine: Machine
    versions: dict[str, str]
    commit: str
    command: str
    created: Time
    rehearsal: bool = False
    sha256: str = field(default="", compare=False)


def model_hash(folder: Path) -> str:
    """The sha256 that names a model: over its weights, configuration and tokenizer, not its card or training leftovers.

    Raises:
        ReleaseError: `folder` holds no saved model.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file()}
    hashes = {name: sha256_file(folder / name) for name in names if in_model_hash(name)}
    if not any(name.endswith(".safetensors") for name in hashes):
        raise ReleaseError("no model (no safetensors file)", where=str(folder), hint="make train")
    return model_hash_of(hashes)


def in_model_hash(name: str) -> bool:
    """Whether the file of this name in a model's folder is one of those over which `model_hash` is."""
    last = name.split("/")[-1]
    settings = last.endswith(".json") and "config" in last.removesuffix(".json")
    return last.endswith(".safetensors") or settings or name in ("modules.json", "tokenizer.json")


def model_hash_of(hashes: dict[str, str]) -> str:
    """`model_hash` from the sha256 of every such file, by name."""
    return hashlib.sha256("\n".join(sorted(f"{name} {sha256}" for name, sha256 in hashes.items())).encode()).hexdigest()


def new(
    kind: Kind[Result, Subject],
    *,
    family: str,
    size: str = "",
    model_sha256: str = "",
    measured: Result,
    subject: Subject,
    device: str = "CPU",
) -> Record[Result, Subject]:
    """A record of something measured just now, by this process, on this machine."""
    return Record(
        kind=kind.name,
        family=family,
        size=size,
        model_sha256=model_sha256,
        measured=measured,
        subject=subject,
        machine=machine(device),
        versions=versions(),
        commit=git_commit(),
        command=" ".join(re.sub(r"hf_\w+", "hf_***", word) for word in _command_line()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rehearsal=mode.active(),
    )


def write(record: Record[Any, Any], folder: Path) -> Path:
    """Write `record` to `<folder>/<kind>.json`, atomically."""
    return write_file(record, folder / f"{record.kind}.json")


def write_file(record: Record[Any, Any], path: Path) -> Path:
    """Write `record` to `path`, atomically.

    Raises:
        ReleaseError: It would be refused when it is read: the key is named, and nothing is written.
    """
    value = sealed(asdict(record))
    _checked(KINDS[record.kind], json.dumps(value), path)
    return write_json(path, value)


def is_sealed(path: Path) -> bool:
    """Whether a record is as it was written: nobody edited it since."""
    value = json.loads(path.read_bytes())
    return value.get("sha256") == _seal(value)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """A record as JSON with the `sha256` over all else in it."""
    return value | {"sha256": _seal(value)}


def _seal(value: dict[str, Any]) -> str:
    rest = {key: part for key, part in value.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read(folder: Path, kind: Kind[Result, Subject], *, model_sha256: str | None = None) -> Record[Result, Subject]:
    """Read the record of `kind` in `folder`.

    Args:
        model_sha256: Refuse a record that was measured on another model than this one.

    Raises:
        ReleaseError: Missing, damaged, of another form or foreign; the message names the key, and the command that makes
            the record again.
    """
    path = folder / f"{kind.name}.json"
    if not path.is_file():
        raise ReleaseError(f"no record of {kind.name!r}", where=str(path), hint=_command(kind.name))
    record = _checked(kind, path.read_bytes(), path)
    if model_sha256 is not None and record.model_sha256 != model_sha256:
        raise ReleaseError(
            f"the record of {kind.name!r} was measured on another model ({record.model_sha256[:12] or 'none'})",
            where=f"{path}, model {model_sha256[:12]}",
            hint=remake_hint(kind.name),
        )
    return record


def remake_hint(kind: str) -> str:
    """How a record that cannot be used is made again."""
    return f"remove it, then {_command(kind)}"


def _command(kind: str) -> str:
    """What makes a record of this kind: a stage, or for a model of somebody's own data the skill's script."""
    return f"make {STAGES[kind]}" if kind in STAGES else "run finetune again"


def parse(form: type[Parsed], text: str | bytes) -> Parsed:
    """JSON text as an instance of a dataclass that carries `STRICT`.

    Raises:
        ValueError: The text is no JSON, or not of this form.
    """
    return _adapter(form).validate_json(text)


@functools.cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)


def _checked(kind: Kind[Result, Subject], text: str | bytes, path: Path) -> Record[Result, Subject]:
    form: Any = Record
    try:
        record = parse(form[kind.result, kind.subject], text)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        what = f"damaged record: {_fault(first)}{more}"
        raise ReleaseError(what, where=str(path), hint=remake_hint(kind.name)) from error
    if record.kind != kind.name:
        what = f"a record of {record.kind!r}, where one of {kind.name!r} belongs"
        raise ReleaseError(what, where=str(path), hint=remake_hint(kind.name))
    return record


def _fault(error: Any) -> str:
    """What pydantic found, as half a sentence that names the key."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"no key {key!r}"
    if error["type"] == "unexpected_keyword_argument":
        return f"unknown key {key!r}"
    value = "" if isinstance(error["input"], dict | list | bytes) else f", found {error['input']!r:.60}"
    return f"{key}: {error['msg']}{value}" if key else error["msg"]


def machine(device: str = "CPU") -> Machine:
    """The hardware of this process; `device` is the accelerator's name, or "CPU"."""
    return Machine(
        device=device,
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
    )


def versions() -> dict[str, str]:
    """Python's and the installed packages' versions; absent packages are left out."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_commit() -> str:
    """The commit of the project's work tree, with "+changes" where it differs, or "" for a wheel and where there is no git."""

    if PACKAGE.parent != RESOURCES:
        return ""  # a repository around an installed package is somebody else's
    command = ["git", "-C", str(PACKAGE.parent), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return ""
    (commit,) = (line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    changed = any(not line.startswith("#") for line in lines)
    return "" if commit == "(initial)" else f"{commit}{'+changes' if changed else ''}"


def _command_line() -> list[str]:
    """The words of this process: the installed command, what python was started with by -m, or a script by its path here."""
    program, *arguments = sys.argv
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["python", "-m", spec.name.removesuffix(".__main__"), *arguments]
    path = Path(program).resolve()
    name = path.relative_to(RESOURCES).as_posix() if path.is_relative_to(RESOURCES) else path.name
    return [path.name, *arguments] if path.name == "ettin-release" else ["python", name, *arguments]


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name.group(1).strip() if name else platform.machine()
