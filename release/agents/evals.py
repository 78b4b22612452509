"""`skill-evals`: the tasks of evals/evals.json done once by their own commands, in a folder each, and checked by evals/check.py.

It shows that each task can be done with the skill and that each outcome can be checked. How an agent does is another question:
for that the same folders are made, an agent gets the prompt, and check.py judges what it left.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from release.agents import answers, check
from release.console import print_json
from release.errors import ReleaseError
from release.files import PACKAGE, exclusive_lock

ROOT = Path("build/skill-evals")
DEMO = Path("build/docstring-reranker")
QUERIES = 200  # of a task's data: enough to see the path
Row = dict[str, Any]


def command(
    base: Annotated[Path, typer.Option(help="The folder of a released model.")] = DEMO / "mini/repo",
    encoder: Annotated[Path, typer.Option(help="The folder of an encoder without a head.")] = Path("recipes/encoder"),
    only: Annotated[int | None, typer.Option(help="One task, by its number.")] = None,
) -> None:
    """Do every task of the skill's evaluations by its own commands, and check what came out."""
    if not (base / "modules.json").is_file():
        raise ReleaseError("no released model", where=str(base), hint="make demo makes one, or pass --base FOLDER")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its report calls the second form of the head unexpected
    with exclusive_lock(ROOT):
        results = {}
        for task in check.evals(check.folder()):
            if only in (None, task["id"]):
                work = ROOT / str(task["id"])
                shutil.rmtree(work, ignore_errors=True)
                Materials(base.resolve(), encoder.resolve(), ROOT / "answers.jsonl").write(task, work)
                results[str(task["id"])] = do(task, work, base.resolve())
    print_json(results)
    if failed := [name for name, result in results.items() if result["failed"]]:
        raise ReleaseError(f"task {failed[0]} fails its checks", where=str(ROOT / failed[0]), hint="read its eval.log")


def do(task: Row, work: Path, base: Path) -> Row:
    """Run the commands of a task in its folder, then its checks."""
    variables = {"SKILL": ".agents/skills/" + check.NAME, "BASE": str(base), "PYTHONPATH": str(PACKAGE.parent)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {name: text for name, text in os.environ.items() if name not in ("HF_ENDPOINT", "HF_TOKEN")}
    environment |= variables | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [*task["commands"], f'python "$SKILL/evals/check.py" {task["id"]}']
    with (work / "eval.log").open("w", encoding="utf-8") as log:
        for line in lines:
            done = subprocess.run(["bash", "-c", line], cwd=work, env=environment, capture_output=True, text=True)
            log.write(f"$ {line}\n{done.stdout}{done.stderr}(status {done.returncode})\n")
            if done.returncode:
                break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    print(f"task {task['id']}: {'failed' if done.returncode else 'done'}, {spent:.1f} CPU s", flush=True)
    return {
        "commands": len(task["commands"]),
        "checks": len(task["checks"]),
        "cpu_seconds": spent,
        "failed": bool(done.returncode),
    }


class Materials:
    """The files that the tasks name, made of the answers that every machine has."""

    def __init__(self, base: Path, encoder: Path, every: Path) -> None:
        self.base, self.encoder = base, encoder
        if not every.is_file():
            answers.write(every)
        self.rows: list[Row] = [json.loads(line) for line in every.read_text(encoding="utf-8").splitlines()][:QUERIES]

    def write(self, task: Row, work: Path) -> None:
        """Put the skill and the task's files into the folder `work`.

        Raises:
            ReleaseError: A task names a file that nothing makes.
        """
        shutil.copytree(check.folder(), work / ".agents/skills" / check.NAME)
        makers: dict[str, Callable[[Path], Any]] = {
            "answers.jsonl": lambda path: _write(path, self.rows),
            "scores.jsonl": lambda path: _write(path, self._scored()),
            "train.jsonl": lambda path: _write(path, self.rows[:150]),
            "test.jsonl": lambda path: _write(path, self.rows[140:]),  # ten of them are in train.jsonl
            "pairs.csv": self._pairs,
            "encoder-only/": lambda path: shutil.copytree(self.encoder, path),
            "sigmoid-model/": self._sigmoid,
            "judged/": self._judged,
            "tuned/": self._worse,
        }
        for name in task["files"]:
            if name not in makers:
                raise ReleaseError(
                    f"nothing makes the file {name!r}", where="evals/evals.json", hint=f"one of {', '.join(makers)}"
                )
            makers[name](work / name.rstrip("/"))

    def _scored(self) -> list[Row]:
        """Each query's documents with the base's own logits in a teacher's place."""
        from release.finetuning import model  # torch takes seconds to import

        documents = [(row["query"], text) for row in self.rows for text in row["positives"] + row["negatives"]]
        scores = model.scores(model.load(self.base), documents).tolist()
        return [
            {"query": query, "document": text, "score": score}
            for (query, text), score in zip(documents, scores, strict=True)
        ]

    def _pairs(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["query", "document", "label"])
            writer.writerows([row["query"], row["positives"][0], 1] for row in self.rows)

    def _sigmoid(self, path: Path) -> None:
        shutil.copytree(self.base, path)
        config = path / "config_sentence_transformers.json"
        about = json.loads(config.read_text(encoding="utf-8"))
        about["activation_fn"] = "torch.nn.modules.activation.Sigmoid"
        config.write_text(json.dumps(about), encoding="utf-8")

    def _judged(self, path: Path) -> None:
        """A folder in BEIR's form."""
        path.mkdir()
        texts = list(dict.fromkeys(text for row in self.rows for text in row["positives"] + row["negatives"]))
        _write(
            path / "corpus.jsonl",
            [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(texts)],
        )
        _write(
            path / "queries.jsonl",
            [{"_id": f"q{number}", "text": row["query"]} for number, row in enumerate(self.rows)],
        )
        lines = [f"q{number}\td{texts.index(row['positives'][0])}\t1\n" for number, row in enumerate(self.rows)]
        (path / "qrels.tsv").write_text("".join(lines), encoding="utf-8")

    def _worse(self, path: Path) -> None:
        """A fine-tuning that lost: trained on labels that are upside down."""
        from release.finetuning.finetune import FinetuneOptions, finetune
        from release.finetuning.prepare import prepare

        wrong = [
            row | {"positives": row["negatives"][:1], "negatives": row["positives"]}
            for row in self.rows
            if row["negatives"]
        ]
        with contextlib.chdir(path.parent):
            _write(Path("wrong.jsonl"), wrong)
            _write(Path("right.jsonl"), self.rows[:60])
            prepare(Path("wrong.jsonl"), Path("prepared"), test=Path("right.jsonl"), drop_leaks=True)
            finetune(
                str(self.base),
                Path("prepared"),
                Path("tuned"),
                FinetuneOptions(learning_rate=1e-3, epochs=1, guard="prepared/test"),
            )


def _write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
