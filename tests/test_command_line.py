"""What a newcomer types: help, plan, a wrong option; and a release that says early what this machine lacks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from release import family
from release.__main__ import main
from release.errors import ReleaseError, disk_is_full
from release.files import exclusive_lock, write_atomic
from release.preflight.check import missing
from release.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "120"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_help_names_every_verb() -> None:
    shown = run("make", "help").stdout
    for verb in (
        "setup",
        "demo",
        "release",
        "train",
        "evaluate",
        "speed",
        "export",
        "engines",
        "card",
        "stage",
        "plan",
        "publish",
    ):
        assert verb in shown
    for verb in ("verify", "hub", "test", "check", "clean"):
        assert verb in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "SIZE=69m"), "unknown size '69m'"),
        (("release", "FAMILY=absent.toml"), "no family file 'absent.toml'"),
    ],
)
def test_a_wrong_option_is_one_line(words: tuple[str, ...], says: str) -> None:
    done = run("make", *words)
    assert done.returncode != 0
    assert says in done.stderr and "hint" in done.stderr


def test_make_n_release_shows_every_stage() -> None:
    shown = run("make", "-n", "release", "SIZE=68m", "PUSH=1").stdout
    names = [stage.name for stage in STAGES if stage.name != "train"]
    for stage in ("preflight", *(f"release {name}" for name in names), "distill.py"):
        assert stage in shown, stage


def test_a_release_that_cannot_run_here_says_everything_that_is_missing() -> None:
    done = run(sys.executable, "-m", "release", "preflight", "--size", "68m", "--push")
    assert done.returncode == 1
    assert "jhu-clsp/ettin-encoder-68m" in done.stderr  # the client is offline here, and cannot ask for anything
    assert "no token" in done.stderr
    assert done.stderr.count("hint") >= 3


def test_plan_says_what_would_be_published() -> None:
    done = run(sys.executable, "-m", "release", "plan", "--size", "68m")
    assert done.returncode == 0
    assert "cross-encoder/ettin-reranker-68m-v1" in done.stdout
    assert "to run" in done.stdout


def test_the_demo_misses_nothing_not_even_a_token_where_nothing_is_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    demo = family.load(Path("recipes/demo.toml"))
    assert [*missing(demo, "mini")] == []


def test_ctrl_c_inside_a_verb_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("release.data.plan.command", interrupted)
    assert main(["plan-data"]) == 130
    assert capsys.readouterr().err.startswith("stopped; nothing half written was kept: run the same command again")


def test_a_file_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def plan() -> None:
        (tmp_path / ("x" * 300)).stat()

    monkeypatch.setattr("release.data.plan.command", plan)
    assert main(["plan-data"]) == 1
    assert capsys.readouterr().err.startswith("error: cannot be read or written (File name too long); in ")
    for number, said in (
        (errno.EIO, "cannot be read or written ([Errno 5] while writing); in build"),
        (errno.EFBIG, "the disk is full"),
    ):

        def write(number: int = number) -> None:
            raise OSError(number, "while writing")  # as pyarrow does, which names no file

        monkeypatch.setattr("release.data.plan.command", write)
        assert main(["plan-data"]) == 1
        assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_second_run_over_the_same_folder_stops_at_once(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from release.files import exclusive_lock\nwith exclusive_lock(Path({!r})): pass"
    )
    with exclusive_lock(tmp_path):
        done = run(sys.executable, "-c", program.format(str(tmp_path)))
    assert f"process {os.getpid()}" in done.stderr
    assert run(sys.executable, "-c", program.format(str(tmp_path))).returncode == 0


def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    write_atomic(tmp_path / "kept", "old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReleaseError, match=r"cannot write.*folder"):
        write_atomic(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "kept"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReleaseError, match=r"no file, but a device or a pipe.*pipe"):  # such as /dev/null
        write_atomic(tmp_path / "pipe", "new")
    assert (tmp_path / "pipe").is_fifo()


def test_the_folder_of_declarations_can_never_shadow_the_library() -> None:
    assert {path.suffix for path in (ROOT / "datasets").iterdir()} <= {".yaml", ".md"}
    assert not (ROOT / "datasets.py").exists()
    done = run(sys.executable, "-c", "import datasets; print(datasets.__file__)")
    assert "site-packages" in done.stdout


def test_a_full_disk_is_known_however_it_is_said() -> None:
    with pytest.raises(OSError) as plain, Path("/dev/full").open("w") as stream:
        stream.write("x")
    assert disk_is_full(plain.value)
    assert disk_is_full(SafetensorError("I/O error: No space left on device (os error 28)"))  # it carries no errno
    assert not disk_is_full(PermissionError(13, "no"))
