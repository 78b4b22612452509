"""make runs what has to be run: the stages of the table, in their order, when a fact that they rest on has changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from release import stages
from release.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/docstring-reranker")
LOCAL = STAGES[:-2]  # the others are done on a Hub


class Project:
    """The Makefile in a folder of its own, with the embedded family as family.toml and every stage done."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.family = folder, folder / "family.toml"
        for name in ("release", "recipes"):
            (folder / name).symlink_to(ROOT / name)
        for name in ("cards", "datasets"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)
        shutil.copy(ROOT / "recipes/demo.toml", self.family)
        for path in [self.family, *folder.glob("cards/**/*"), *folder.glob("datasets/*")]:
            os.utime(path, (self.now - 1000,) * 2)
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/python").symlink_to(sys.executable)
        (folder / ".venv/.ready").touch()

    @property
    def now(self) -> float:
        return time.time()

    def finish(self) -> None:
        """Every stage's output, each younger than the one before."""
        for age, stage in enumerate(LOCAL):
            path = stage.file(self.folder / BUILD, "mini")
            assert path is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path, (self.now - 500 + age,) * 2)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        command = ["make", "FAMILY=family.toml", *words]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)

    def would_run(self, *words: str) -> list[str]:
        """The stages that `make` would run, in their order."""
        done = self.make("-n", *(words or ("stage",)))
        assert done.returncode == 0, done.stderr
        lines = "\n".join(line for line in done.stdout.splitlines() if "--goals" not in line)  # a question, no stage
        matches = re.findall(r"-m release (\S+)|recipes/(distill)\.py", lines)
        return [verb or "train" for verb, _ in matches if verb != "check"]

    def use_python(self, flags: str = "") -> None:
        """Let make call this Python; -S hides every package from it."""
        python = self.folder / ".venv/bin/python"
        python.unlink()
        python.write_text(f'#!/bin/sh\nexec {sys.executable} {flags} "$@"\n')
        python.chmod(0o755)

    @property
    def declaration(self) -> Path:
        return self.folder / "datasets/docstring-reranker-data.yaml"

    def size(self, name: str) -> str:
        """Another size, as the family file says it."""
        text = self.family.read_text()
        return f"\n[sizes.{name}]\n{text[text.index('encoder = ') :]}"

    def edit(self, old: str, new: str) -> None:
        text = self.family.read_text()
        assert old in text
        self.family.write_text(text.replace(old, new, 1))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def done(project: Project) -> Project:
    """A project with nothing left to do."""
    project.finish()
    assert project.would_run() == []
    return project


def test_the_makefile_is_the_table_of_stages(project: Project) -> None:
    shown = project.make("-n", "-p", "verify").stdout
    text = (ROOT / "Makefile").read_text()
    assert re.search(r"^STAGES := (.*)$", text, re.MULTILINE)[1].split() == [stage.name for stage in STAGES]
    assert re.findall(r"^(\w+): .*## ", text[text.index("\nmix:") : text.index("\ndata:")], re.MULTILINE) == [
        stage.name for stage in STAGES
    ]
    named = {stage.name: stage for stage in STAGES}
    for stage in STAGES:
        assert re.search(rf"^{stage.name}: .*## {re.escape(stage.description)}$", text, re.MULTILINE), stage.name
        target = stage.file(BUILD, "mini") if stage in LOCAL else stage.name
        rule = re.search(rf"^{target}: ([^|\n]*)", shown, re.MULTILINE)
        assert rule, target
        inputs = {str(named[name].file(BUILD, "mini") or name) for name in stage.inputs}
        facts = {str(file)} if (file := stage.facts_file(BUILD, "mini")) else set()
        assert {word for word in rule[1].split() if not word.startswith("cards/")} == inputs | facts, stage.name


def test_help_names_every_verb_in_80_columns(project: Project) -> None:
    lines = project.make("help").stdout.splitlines()
    assert {stage.name for stage in STAGES} <= {line.split()[1] for line in lines if line.startswith("  make ")}
    assert max(map(len, lines)) <= 80


def test_everything_runs_in_order_where_nothing_is_done(project: Project) -> None:
    assert project.would_run("verify") == [stage.name for stage in STAGES]
    assert project.would_run("evaluate") == ["mix", "score", "train", "select", "evaluate"]


def test_all_sizes_are_made_one_after_the_other_and_other_goals_take_no_size(project: Project) -> None:
    project.family.write_text(project.family.read_text().replace("[sizes.mini]", "[sizes.tiny]") + project.size("mini"))
    done = project.make("-n", "card", "stage", "SIZE=all", "PUSH=1")
    assert done.returncode == 0, done.stderr
    made = [line.split("--size ")[1] for line in done.stdout.splitlines() if "-m release stage" in line]
    assert made == ["tiny", "mini"]
    (summary,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(summary)["done"] == ["tiny", "mini"]
    assert "release.every_size" not in project.make("-n", "test", "SIZE=all").stdout


def test_what_is_changed_on_a_hub_is_said_on_the_command_line_only(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHAT", "card")
    assert "--what" not in project.make("-n", "plan").stdout
    assert (
        "release plan --family family.toml --size mini --what 'card'" in project.make("-n", "plan", "WHAT=card").stdout
    )


def test_stages_never_run_beside_each_other(project: Project) -> None:
    assert ".NOTPARALLEL" in project.make("-n", "-p", "help").stdout
    assert project.would_run("-j8", "verify") == [stage.name for stage in STAGES]


def test_a_comment_or_a_touch_remakes_nothing(done: Project) -> None:
    done.edit("epochs = 1", "epochs = 1  # one is enough")
    assert done.would_run() == []
    done.family.touch()
    assert done.would_run() == []
    done.use_python()  # which stages this machine can do is asked even then
    assert done.make("-n", "release").returncode == 0
    assert done.would_run("release") == ["preflight", "plan"]


def test_a_key_that_stages_begin_to_read_remakes_nothing_where_the_family_does_not_give_it(done: Project) -> None:
    path = done.folder / BUILD / "mini/facts/select.json"
    facts = json.loads(path.read_text())
    assert facts.pop("models.{embedders}") is None
    path.write_text(json.dumps(facts))
    os.utime(path, (done.now - 1000,) * 2)
    assert done.would_run() == []
    done.edit("[sizes.mini]", '[models."sentence-transformers/all-MiniLM-L6-v2"]\nmax_length = 99\n\n[sizes.mini]')
    assert done.would_run()[0] == "select"


def test_a_table_of_which_stages_read_only_a_part_from_now_on_remakes_nothing(done: Project) -> None:
    path = done.folder / BUILD / "data/facts/score.json"
    facts = json.loads(path.read_text())
    teacher = {key: facts.pop(f"teacher.{key}") for key in ("model", "kind", "max_length")}
    path.write_text(json.dumps(facts | {"teacher": teacher | {"license": "apache-2.0"}}))
    os.utime(path, (done.now - 1000,) * 2)
    assert done.would_run() == []
    path.write_text(json.dumps(facts | {"teacher": teacher | {"max_length": 128}}))
    assert done.would_run()[0] == "score"


def test_a_model_that_was_trained_elsewhere_is_not_trained_again(done: Project) -> None:
    """Its folder was copied here, the data was not: nothing is mixed, scored or trained before it is evaluated."""
    shutil.rmtree(done.folder / BUILD / "data")
    assert done.would_run() == []
    (done.folder / BUILD / "mini/records/choice.json").unlink()
    assert done.would_run("select") == ["select"]
    (done.folder / BUILD / "mini/records/run.json").unlink()
    assert done.would_run("select") == ["mix", "score", "train", "select"]


def test_an_untouched_build_folder_without_facts_is_judged_by_the_age_of_its_family_file(done: Project) -> None:
    for folder in (done.folder / BUILD / "data/facts", done.folder / BUILD / "mini/facts"):
        shutil.rmtree(folder)
    assert done.would_run() == []


@pytest.mark.parametrize(
    ("old", "new", "remade"),
    [
        ("passes = 3", "passes = 5", "speed card stage"),
        ("top_k = 20", "top_k = 30", "select evaluate speed export engines card stage"),
        ('summary = "A small', 'summary = "The small', "card stage"),
        ("compared = []", 'compared = ["some/reranker"]', "card stage"),
        ("learning_rate = 4e-4", "learning_rate = 3e-4", "train select evaluate speed export engines card stage"),
        ("seed = 12", "seed = 13", "train select evaluate speed export engines card stage"),
        ('version = "v1"', 'version = "v2"', "evaluate card stage"),
        ('kind = "stand-in"\nlicense = "apache-2.0"', 'kind = "stand-in"\nlicense = "mit"', "card stage"),
        ("[sizes.mini]", '[models."some/reranker"]\nmax_length = 9\n\n[sizes.mini]', ""),
        ("max_length = 256", "max_length = 128", "score train select evaluate speed export engines card stage"),
        ('collections = ["docstrings"]', 'collections = ["others"]', " ".join(stage.name for stage in LOCAL)),
    ],
)
def test_a_fact_remakes_the_stages_that_rest_on_it(done: Project, old: str, new: str, remade: str) -> None:
    done.edit(old, new)
    assert done.would_run() == remade.split()


def test_every_engine_is_run_again_only_where_this_command_line_asks(
    done: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert done.would_run("engines") == []
    assert "release engines --family family.toml --size mini --all" in done.make("-n", "engines", "ALL=1").stdout
    monkeypatch.setenv("ALL", "1")  # as a rehearsal of all sizes hands it down
    assert done.would_run("engines") == []


def test_another_declaration_is_mixed_anew(done: Project) -> None:
    (done.folder / "other.yaml").write_text("name: other\n")
    done.edit("datasets/docstring-reranker-data.yaml", "other.yaml")
    assert done.would_run("score") == ["mix", "score"]
    done.finish()
    os.utime(done.folder / BUILD / "data/facts/mix.json", (done.now - 1000,) * 2)
    assert done.would_run("score") == []
    (done.folder / "other.yaml").write_text("name: changed\n")
    assert done.would_run("score") == ["mix", "score"]


def test_another_commit_of_the_teacher_is_asked_anew_and_prompts_of_an_embedder_are_not(done: Project) -> None:
    done.edit("[sizes.mini]", '[models."sentence-transformers/all-MiniLM-L6-v2"]\nmax_length = 64\n\n[sizes.mini]')
    assert done.would_run("train") == []
    done.edit("[sizes.mini]", f'[models.bm25-minilm-hybrid]\nrevision = "{"1" * 40}"\n\n[sizes.mini]')
    assert done.would_run("train") == ["score", "train"]


def test_a_comment_in_the_declaration_remakes_nothing(project: Project) -> None:
    project.finish()
    facts, declaration = project.folder / BUILD / "data/facts/mix.json", project.declaration
    text = declaration.read_text()
    assert project.would_run() == []
    declaration.write_text(f"# said anew\n{text}\n")
    assert project.would_run() == []
    assert project.would_run() == []
    declaration.write_text(text.replace("shard_rows:", "shard_rows:  # of a shard\n "))
    assert project.would_run() == []
    declaration.write_text(text.replace("seed: ", "seed: 1"))
    assert project.would_run()[0] == "mix"
    project.finish()
    os.utime(facts, (project.now - 1000,) * 2)
    declaration.write_text(f"{text}]")  # no YAML: the stage says so
    assert project.would_run()[0] == "mix"


def test_facts_without_the_content_of_the_declaration_are_completed_and_remake_nothing(project: Project) -> None:
    project.use_python("-S")
    project.finish()
    assert project.would_run() == []  # there was no package yet that reads YAML
    facts = project.folder / BUILD / "data/facts/mix.json"
    assert json.loads(facts.read_text())["says"] is None
    project.use_python()
    assert project.would_run() == []
    assert json.loads(facts.read_text())["says"]
    project.declaration.write_text(f"# said anew\n{project.declaration.read_text()}")
    assert project.would_run() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "docstring-reranker"', "name = 'docstring-reranker'"),
        ('name = "docstring-reranker"', '"name"  =  "docstring-reranker" # a name'),
        ('[family]\nname = "docstring-reranker"', '[ family ]\nname="""docstring-reranker"""'),
        ("[sizes.mini]", '[sizes."mini"]'),
        ("[sizes.mini]", "[ sizes . 'mini' ]"),
        (
            '[sizes.mini]\nencoder = "recipes/encoder"\nlearning_rate = 4e-4\nglobal_batch_size = 64',
            '[sizes]\nmini = { encoder = "recipes/encoder", learning_rate = 4e-4, global_batch_size = 64 }',
        ),
    ],
)
def test_any_legal_toml_is_read(done: Project, old: str, new: str) -> None:
    done.edit(old, new)
    assert done.would_run() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "docstring-reranker"', 'name = "../../elsewhere"', "'../../elsewhere' is no name"),
        ('name = "docstring-reranker"', 'name = "two words"', "'two words' is no name"),
        ('name = "docstring-reranker"', 'name = "$(shell touch x)"', "is no name"),
        ("[sizes.mini]", '[sizes."."]', "'.' is no name"),
        ('name = "docstring-reranker"', f'name = "{"a" * 300}"', "is no name"),
        ("[family]", "[family", "not a TOML file"),
        ("[sizes.mini]", "[others.mini]", "a family needs at least one size"),
    ],
)
def test_a_wrong_family_file_is_one_line_before_anything_is_made(
    project: Project, old: str, new: str, says: str
) -> None:
    project.edit(old, new)
    done = project.make("stage")
    assert done.returncode != 0 and done.stdout == ""
    assert says in done.stderr and "hint" in done.stderr and done.stderr.count("\n") == 1
    assert not (project.folder / "build").exists()


def test_make_starts_python_once(project: Project) -> None:
    python = project.folder / ".venv/bin/python"
    python.unlink()
    python.write_text(f'#!/bin/sh\necho "$@" >> {project.folder}/started\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for goal in ("help", "verify", "plan"):
        project.make("-n", goal)
        assert len((project.folder / "started").read_text().splitlines()) == 1, goal
        (project.folder / "started").unlink()
    project.make("-n", "test")
    assert not (project.folder / "started").exists()


def test_names_are_read_before_there_is_an_environment(project: Project) -> None:
    shutil.rmtree(project.folder / ".venv")
    assert "sizes: mini" in project.make("help", f"PYTHON={sys.executable}").stdout


@pytest.mark.parametrize(("old", "new"), stages.RENAMED.items())
def test_a_former_name_says_the_new_one(project: Project, old: str, new: str) -> None:
    for command in (["make", old], [sys.executable, "-m", "release", old, "--size", "mini"]):
        done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
        assert done.returncode != 0
        assert f"is now called `make {new}`" in done.stderr or f"is now called {new!r}" in done.stderr
        assert done.stderr.count("\n") == 1


READERS = {  # stage -> the code that makes its output
    "mix": ("release/data",),
    "score": ("release/data/score.py", "release/data/score_shard.py", "release/teachers"),
    "train": ("release/training",),
    "select": ("release/evaluation/select_checkpoint.py",),
    "evaluate": ("release/evaluation",),
    "speed": ("release/speed",),
    "export": ("release/export",),
}
ELSEWHERE = {  # read for other models than the size that is released
    "evaluate": {"evaluation.compared"},
    "speed": {"evaluation.compared", "teacher.model"},
}


@pytest.mark.parametrize("name", READERS)
def test_whatever_a_stage_reads_of_the_family_is_a_fact_of_it_or_of_what_it_rests_on(name: str) -> None:
    named = {stage.name: stage for stage in STAGES}

    def facts(stage: stages.Stage) -> set[str]:
        return set(stage.facts).union(*(facts(named[each]) for each in stage.inputs))

    paths = [ROOT / path for path in READERS[name]]
    files = [file for path in paths for file in ([path] if path.suffix else path.rglob("*.py"))]
    others = {ROOT / path for path in READERS["score"]} if name == "mix" else set()
    pattern = r"\bfamily\.(teacher|data|training|evaluation|speed)\.([a-z_]+)"
    read = {".".join(key) for file in files if file not in others for key in re.findall(pattern, file.read_text())}
    known = facts(named[name]) | ELSEWHERE.get(name, set())
    assert read, "nothing is read: the pattern above is out of date"
    assert {key for key in read if key not in known and key.split(".")[0] not in known} == set()


def test_make_hub_lets_the_account_local_publish_for_the_family(project: Project) -> None:
    command = project.make("--dry-run", "hub").stdout
    assert '--account "local::local,$organization"' in command
    ask = [sys.executable, "-S", "-m", "release.facts", "--organization"]
    done = subprocess.run([*ask, "family.toml"], cwd=project.folder, capture_output=True, text=True)
    assert done.stdout == "local\n"
    done = subprocess.run([*ask, "none.toml"], cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: no family file 'none.toml'")
