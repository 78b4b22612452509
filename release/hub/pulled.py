"""What verification does outside of its own process: pull files into an empty cache, then score them and run the cards' snippets.

Two processes, one after the other. The first has the token, and runs nothing but the client. The second runs what a card says, and
has neither the token nor anything else of this machine's environment: what is still private it reads through `reading.ReadProxy`.
A third one, the guard, owns their folder: it ends them and removes it when this process is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token, snapshot_download

from release import console, keyless
from release.errors import ReleaseError
from release.export import parity
from release.files import write_atomic
from release.hub import patience
from release.hub.reading import ReadProxy
from release.hub.state import DesiredRepo, RepoType, same, tree
from release.start_up import load_modules
from release.truth import manifest

ROOT = Path(__file__).resolve().parents[2]
FETCH = "from release.hub.pulled import fetch; fetch()"
SCORE = "from release.hub.pulled import score; score()"
SECONDS = 3600.0  # for scores and snippets
KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
KEPT += ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
}
LARGE = "*.parquet"
GUARD = """
import os, shutil, signal, sys, tempfile
folder = tempfile.mkdtemp(prefix="verify-")
print(folder, flush=True)
for group in [int(line) for line in sys.stdin]:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
while os.path.exists(folder):
    shutil.rmtree(folder, ignore_errors=True)
"""


def elsewhere(task: dict[str, Any], api: Any, size: int) -> list[dict[str, Any]]:
    """The forms of `task["model"]` and how far they are from `task["export"]`, from `size` bytes that were pulled back.

    Without a model, only the snippets are run.

    Raises:
        ReleaseError: A file, a score or a snippet that differs, or that takes too long; one line.
    """
    with _scratch() as (folder, own):
        write_atomic(folder / "task.json", json.dumps(task))
        with patience.limited("pull everything back", size, hub=str(api.endpoint)):
            _run(FETCH, folder, _with_token(api, folder), own, api)
        with (
            patience.limited("score what was pulled back", seconds=SECONDS),
            ReadProxy(api, task["repositories"]) as proxy,
        ):
            _run(SCORE, folder, _without_token(proxy.address, folder), own, api)
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@contextmanager
def _scratch() -> Generator[tuple[Path, Any]]:
    """A folder, and a stream that takes the number of every process to be ended with this one."""
    command = [sys.executable, "-S", "-c", GUARD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as guard:
        assert guard.stdin and guard.stdout
        try:
            yield Path(guard.stdout.readline().strip()), guard.stdin
        finally:
            guard.stdin.close()


def _with_token(api: Any, folder: Path) -> dict[str, str]:
    removed = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_XET_CACHE")
    removed += (keyless.RESOURCE, *keyless.IDENTITY)  # the token that was given for them is passed on
    own = {"HF_ENDPOINT": str(api.endpoint), "HF_HOME": f"{folder}/home", "HF_TOKEN": get_token() or ""}
    return {key: value for key, value in os.environ.items() if key not in removed} | QUIET | own


def _without_token(address: str, folder: Path) -> dict[str, str]:
    """As little as a snippet needs. What was fetched is in the cache, so that Xet is not needed again."""
    own = {"HF_ENDPOINT": address, "HF_HOME": f"{folder}/home", "HOME": str(folder), "HF_HUB_DISABLE_XET": "1"}
    return {key: os.environ[key] for key in KEPT if key in os.environ} | QUIET | own


def _run(code: str, folder: Path, environment: dict[str, str], own: Any, api: Any) -> None:
    """Run `code` in a fresh process.

    Raises:
        ReleaseError: It failed, with the last line that it said.
    """
    imports = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with (folder / "said").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env=environment | imports,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            print(process.pid, file=own, flush=True)
            status = process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        reason = (said.read().strip().splitlines() or ["no message"])[-1]
    if status:
        what = f"the release does not work when it is pulled back ({reason})"
        raise ReleaseError(what, where=str(api.endpoint), hint="correct what it names, then run it again")


@contextmanager
def _one_line() -> Generator[None]:
    """An error ends the process with its kind and its first line, not with a traceback whose last line says nothing."""
    try:
        yield
    except ReleaseError as error:
        sys.exit(str(error))
    except Exception as error:  # whatever libraries and snippets raise
        lines = str(error).strip().splitlines()
        sys.exit(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")


def fetch() -> None:
    """In the first process: every file of every repository, compared with the Hub's own list; adds "folders" to `task.json`."""
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    patience.be_patient_with_limits()
    with _one_line():
        task["folders"] = {repo["id"]: str(_download(**repo)) for repo in task["repositories"]}
    write_atomic(Path("task.json"), json.dumps(task))


def _download(id: str, type: RepoType, commit: str) -> Path:
    """One repository; the staged folder was compared with the Hub's list before, by which the gigabytes of data are known too.

    Raises:
        ReleaseError: A file came back different, is missing, or is not in the list.
    """
    ignored = LARGE if type == "dataset" else None
    folder = Path(snapshot_download(id, repo_type=type, revision=commit, ignore_patterns=ignored))
    differ = sorted(_differing(DesiredRepo(id, type, folder, ""), commit, ignored))
    if differ:
        raise ReleaseError(f"{id}: {', '.join(differ[:3])} came back different")
    return folder


def _differing(repo: DesiredRepo, commit: str, ignored: str | None) -> set[str]:
    """The files that are not as release.json or the Hub's list names them; each is hashed once, small ones twice."""
    listed, present = tree(HfApi(), repo, commit), {*repo.files} - {".gitattributes"}
    known: dict[str, manifest.FileEntry] = {}
    others: set[str] = set()
    if (repo.folder / manifest.FILE).is_file():
        made = manifest.read(repo.folder)
        others = {name for name, _ in manifest.differences(made, repo.folder)}
        known = {name: entry for name, entry in made.files.items() if name not in others}
    for name in {*listed, *present}:
        here, there = name in present, listed.get(name)
        entry, lfs = known.get(name), there.lfs if there else None
        if here and entry and lfs:
            alike = (entry.sha256, entry.bytes) == (lfs.sha256, lfs.size)
        else:
            alike = here and there is not None and same(repo.folder / name, there)
        if not alike:
            others.add(name)
    return {name for name in others if not (ignored and name not in present and fnmatch(name, ignored))}


def score() -> None:
    """In the second process: score every form, run the snippets; `task.json` in, `result.json` out."""
    task = json.loads(Path("task.json").read_text(encoding="utf-8"))
    forms = []
    with _one_line(), console.quiet():
        if task["model"]:
            load_modules("onnxruntime", "sentence_transformers")
            pairs = [(query, document) for query, document in task["pairs"]]
            reference = parity.cross_encoder(task["export"], pairs)
            forms = parity.differences(reference, task["folders"][task["model"]], pairs)
        for snippet in task["snippets"]:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(snippet, "README.md", "exec"), {})
            if not output.getvalue().strip():
                raise ReleaseError("a snippet of the card prints nothing")
    write_atomic(Path("result.json"), json.dumps([asdict(form) for form in forms]))
