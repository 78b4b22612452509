"""Measured results as JSON files with provenance. The only reader and writer of results in the project."""

from __future__ import annotations

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
from typing import Any

from release.errors import ReleaseError
from release.files import sha256_file, write_json

PACKAGES = ("torch", "sentence-transformers", "transformers", "datasets", "mteb", "huggingface_hub", "flash-attn")
STAGES = {  # the record's kind -> the make target that measures it
    "data": "data",
    "run": "train",
    "choice": "choose",
    "evaluate": "evaluate",
    "speed": "speed",
    "export": "export",
    "verify": "verify",
}


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        kind: What was measured: one of `STAGES`.
        family, size: Whom it belongs to (`size` is "" for a record of the whole family, such as `data`).
        model_sha256: `model_hash` of the measured model, "" where no model is involved.
        measured: The numbers, JSON types only; each room documents its own keys.
        subject: What makes the numbers comparable: dtype, data revision, first stage, top_k, protocol.
        machine: The hardware it ran on; `device` is the accelerator's name, or "CPU".
        versions: Package versions.
        commit: The project's git commit, with "+changes" where the work tree differed, "" outside git.
        command: The command that measured it, without secrets.
        created: When, UTC, ISO 8601 in seconds.
    """

    kind: str
    family: str
    size: str
    model_sha256: str
    measured: dict[str, Any]
    subject: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    command: str = ""
    created: str = ""


def model_hash(folder: Path) -> str:
    """The sha256 that names a model: over its weights, configuration and tokenizer, not its card or training leftovers.

    Raises:
        ReleaseError: `folder` holds no saved model.
    """
    files = [*folder.glob("**/*.safetensors"), *folder.glob("**/*config*.json")]
    files += [folder / name for name in ("modules.json", "tokenizer.json") if (folder / name).is_file()]
    if not any(file.suffix == ".safetensors" for file in files):
        raise ReleaseError("no model (no safetensors file)", where=str(folder), hint="make train")
    lines = sorted({f"{file.relative_to(folder).as_posix()} {sha256_file(file)}" for file in files})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def new(
    kind: str,
    *,
    family: str,
    size: str = "",
    model_sha256: str = "",
    measured: dict[str, Any],
    subject: dict[str, Any] | None = None,
    device: str = "CPU",
) -> Record:
    """A record of something measured just now, by this process, on this machine."""
    return Record(
        kind=kind,
        family=family,
        size=size,
        model_sha256=model_sha256,
        measured=measured,
        subject=subject or {},
        machine=machine(device),
        versions=versions(),
        commit=git_commit(),
        command=" ".join(["python", *(re.sub(r"hf_\w+", "hf_***", word) for word in _argv())]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write(record: Record, folder: Path) -> Path:
    """Write `record` to `<folder>/<kind>.json`, atomically."""
    return write_json(folder / f"{record.kind}.json", asdict(record))


def read(folder: Path, kind: str, *, model_sha256: str | None = None) -> Record:
    """Read the record of `kind` in `folder`.

    Args:
        model_sha256: Refuse a record that was measured on another model than this one.

    Raises:
        ReleaseError: Missing, damaged or foreign; the message names the command that makes it again.
    """
    path = folder / f"{kind}.json"
    hint = f"make {STAGES[kind]}"
    if not path.is_file():
        raise ReleaseError(f"no record of {kind!r}", where=str(path), hint=hint)
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ReleaseError(f"damaged record ({error})", where=str(path), hint=f"remove it, then {hint}") from error
    if model_sha256 is not None and record.model_sha256 != model_sha256:
        raise ReleaseError(
            f"the record of {kind!r} was measured on another model ({record.model_sha256[:12] or 'none'})",
            where=f"{path}, model {model_sha256[:12]}",
            hint=f"remove it, then {hint}",
        )
    return record


def machine(device: str = "CPU") -> dict[str, Any]:
    """The hardware of this process: accelerator or CPU name, cores usable, memory in GiB, operating system."""
    return {
        "device": device,
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python's and the installed packages' versions; absent packages are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """The commit of the project's work tree, with "+changes" where it differs, or "" where there is no git."""

    def git(*words: str) -> str:
        root = Path(__file__).resolve().parent.parent
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "HEAD").strip() + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _argv() -> list[str]:
    """The words after `python`: a module that was started with -m by its name, a script by its file's name."""
    program, *words = sys.argv
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["-m", spec.name.removesuffix(".__main__"), *words]
    return [Path(program).name, *words]


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()
