"""The stages of a release in their order: the one table that the command line, preflight, plan, demo and records read.

The Makefile spells the same targets out, so that make can skip what is current; a test holds it against this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: The verb of the command line, and the target of make.
        command: The function that does it, `module:function`, or the script.
        description: What it makes.
        inputs: The stages whose outputs it reads.
        output: The file that says it is done, below build/<family>, with {size}; None where it is done on a Hub.
        record: The kind of the record that it writes, if it measures something.
        facts: The tables and keys of the family file that decide its result, beside those of its inputs; as in release/facts.py.
    """

    name: str
    command: str
    description: str
    inputs: tuple[str, ...] = ()
    output: str | None = None
    record: str | None = None
    facts: tuple[str, ...] = ()

    def file(self, build: Path, size: str) -> Path | None:
        """`output` for one size of the family whose folder is `build`."""
        return build / self.output.format(size=size) if self.output else None

    def facts_file(self, build: Path, size: str) -> Path | None:
        """Where the values of `facts` are kept, which make compares the output's age with."""
        folder = (self.output or "").split("/")[0].format(size=size)
        return build / folder / "facts" / f"{self.name}.json" if self.facts else None


_NAMES = ("family.organization", "family.name", "family.version")
_POSITIVES = "evaluation.always_rerank_positives"
_SETS = ("evaluation.nano", "evaluation.nano_sets", "evaluation.tasks", "evaluation.collections")
_EMBEDDERS = ("evaluation.embedders", "evaluation.packaged_embedders", "models.{embedders}")
_TEACHER = ("teacher.model", "teacher.kind", "teacher.max_length")  # all but the licence, which cards show

STAGES = (
    Stage(
        "mix",
        "release.data.mix:command",
        "sources -> pairs",
        output="data/pairs/manifest.json",
        facts=("data.declaration", "data.mixture", "data.mixture_revision", *_SETS),
    ),
    Stage(
        "score",
        "release.data.score:command",
        "pairs -> teacher logits: the training mixture",
        inputs=("mix",),
        output="data/mixture/manifest.json",
        record="data",
        facts=(*_TEACHER, "models.{teacher}.revision", "evaluation.tasks", "evaluation.collections"),
    ),
    Stage(
        "train",
        "recipes/distill.py",
        "the recipe: encoder + mixture -> model",
        inputs=("score",),
        output="{size}/records/run.json",
        record="run",
        facts=("training", "sizes.{size}", "data.validation", "evaluation.nano", "evaluation.nano_sets", _POSITIVES),
    ),
    Stage(
        "select",
        "release.evaluation.select_checkpoint:command",
        "the better of best and last checkpoint -> record",
        inputs=("train",),
        output="{size}/records/choice.json",
        record="choice",
        facts=(*_SETS, *_EMBEDDERS, "evaluation.top_k", "evaluation.dtype"),
    ),
    Stage(
        "evaluate",
        "release.evaluation.evaluate:command",
        "two-stage NDCG@10 -> record",
        inputs=("select",),
        output="{size}/records/evaluate.json",
        record="evaluate",
        facts=(
            *_NAMES,
            *_TEACHER,
            "models.{teacher}",
            "data.validation",
            *_SETS,
            *_EMBEDDERS,
            "evaluation.top_k",
            "evaluation.dtype",
            "evaluation.nano_dtype",
            _POSITIVES,
        ),
    ),
    Stage(
        "speed",
        "release.speed.benchmark:command",
        "pairs/s, memory and latency -> record",
        inputs=("select",),
        output="{size}/records/speed.json",
        record="speed",
        facts=("speed",),
    ),
    Stage(
        "export",
        "release.export.checkpoint:command",
        "dual root and ONNX, compared with the model -> record",
        inputs=("select",),
        output="{size}/records/export.json",
        record="export",
        facts=("data.validation", "evaluation.tasks", "evaluation.collections", "evaluation.top_k"),
    ),
    Stage(
        "engines",
        "release.engines.measure:command",
        "the export in every engine, the same scores -> record",
        inputs=("export",),
        output="{size}/records/engines.json",
        record="engines",
    ),
    Stage(
        "card",
        "release.card.render:command",
        "family + records -> the model card",
        inputs=("evaluate", "speed", "engines"),
        output="{size}/README.md",
        facts=("family", "teacher", "data", "training", "evaluation", "speed", "card", "sizes"),
    ),
    Stage(
        "stage",
        "release.hub.stage:command",
        "the folder as the Hub will hold it, checked",
        inputs=("card",),
        output="{size}/repo/README.md",
    ),
    Stage(
        "publish",
        "release.hub.change:command",
        "upload to HF_ENDPOINT, private until verified (PUSH=1)",
        inputs=("stage",),
    ),
    Stage(
        "verify",
        "release.hub.verify:command",
        "pull everything back, compare, make public, tag",
        inputs=("publish",),
        output="{size}/records/verify.json",
        record="verify",
    ),
)

RENAMED = {"data": "score", "distill": "train", "choose": "select"}  # former names of stages


def renamed(verb: str) -> str | None:
    """What to say to somebody who uses a former name, or None."""
    return f"{verb!r} is now called {RENAMED[verb]!r}" if verb in RENAMED else None
