"""What is written is whole or absent: the package writes through release/files.py, or where half a file harms nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from release import files

PACKAGE = Path(files.__file__).parent
PLAIN = re.compile(
    r"\.write_(?:text|bytes)\(|open\([^)\n]*[\"'](?:[wax]b?|r\+b?)[\"']|np\.save\w*\(|json\.dump\(|\.savefig\((?!drawn)"
    r"|shutil\.(?:copy|copy2|copyfile|copytree|move)\b|\bsave_file\(|ParquetWriter\(|pq\.write_table\("
)
REASONS = {
    "a folder that atomic_directory makes whole": [
        *("agents/bundle.py", "export/dual_root.py", "finetuning/division.py"),
    ],
    "a folder that lasts as long as one run": [
        *(
            "agents/evals.py",
            "agents/rehearsal.py",
            "engines/jobs.py",
            "engines/worker.py",
            "finetuning/losses.py",
            "data/sources/retrieval.py",
        ),
    ],
    "a folder that counts only where its mark was set last": ["engines/environments.py"],
    "stand-ins of a rehearsal, in a folder of its own that begins empty": [
        *("rehearsal/hub.py", "rehearsal/models.py", "rehearsal/run.py", "rehearsal/tables.py"),
        *("rehearsal/workspace.py",),
    ],
    "a temporary file that is moved in place when it is whole": [
        *("files.py", "data/shards.py", "localhub/http.py", "localhub/storage/blobs.py", "localhub/storage/xet.py"),
    ],
    "a log, to which lines are added": ["localhub/server.py", "training/energy.py"],
    "a switch of the kernel, which is no file": ["runtime/memory.py"],
}


def test_a_file_is_written_whole_or_in_a_place_where_half_of_it_harms_nobody() -> None:
    excepted = [name for names in REASONS.values() for name in names]
    paths = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if PLAIN.search(path.read_text(encoding="utf-8"))
    }
    assert paths - {*excepted} == set()
    assert {*excepted} - paths == set()  # an exception that is no longer needed goes
    assert len(excepted) == len({*excepted})


def test_a_copy_that_breaks_off_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_bytes(b"new" * 1000)
    (tmp_path / "old").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("release.files.fcntl.ioctl", full)
    monkeypatch.setattr("release.files.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        files.copy_file(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("moment", ["inside", "before the first move", "between the two", "killed between the two"])
def test_a_folder_that_is_made_again_is_the_former_one_or_the_new_one_whenever_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = tmp_path / "made"
    with files.atomic_directory(folder) as made:
        (made / "a").write_text("former")
    if moment == "killed between the two":
        folder.rename(tmp_path / ".made.earlier.tmp")
    moves = iter([moment == "before the first move", moment == "between the two"])

    def replace(path: Path, target: Path) -> None:
        if next(moves, False):
            raise KeyboardInterrupt
        path.rename(target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), files.atomic_directory(folder) as made:
        (made / "a").write_text("new")
        if "two" not in moment and moment != "before the first move":
            raise KeyboardInterrupt
        patched.setattr(Path, "replace", replace)
        if moment == "killed between the two":
            raise KeyboardInterrupt
    assert (folder / "a").read_text() == "former"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with files.atomic_directory(folder) as made:
        (made / "a").write_text("new")
    assert (folder / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["made/../made", "~/made", "~"])
def test_a_folder_has_any_name_that_a_shell_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "HOME", "/nowhere"
    )  # of which `--output=~/made` says nothing, in a shell that leaves it as it is
    Path("made").mkdir()
    for text in ("former", "new"):
        with files.atomic_directory(Path(name)) as made:
            pq.write_table(pa.table({"text": [text]}), made / "a.parquet")
        assert (tmp_path / name / "a.parquet").is_file()
    assert not list(tmp_path.rglob(".*"))
