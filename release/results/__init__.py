"""What each record holds: one kind per measurement, with the dataclass of its result and that of its subject.

A result is what was measured; a subject is what makes it comparable with others: data, dtype, protocol. A number has the
same name where it is measured, in the record and on the card. A field that can be empty holds None: no key is ever left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from release.results.data import DataResult, DataSubject
from release.results.engines import EnginesResult, EnginesSubject
from release.results.evaluation import EvaluationResult, EvaluationSubject
from release.results.export import ExportResult, ExportSubject, VerifyResult, VerifySubject
from release.results.finetuning import FinetuneResult, FinetuneSubject
from release.results.speed import SpeedResult, SpeedSubject
from release.results.training import CheckpointChoice, ChoiceSubject, RunSubject, TrainingRun

Result = TypeVar("Result")
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Kind(Generic[Result, Subject]):
    """One kind of record: its name, which is its file's name too, and the dataclasses of what it holds."""

    name: str
    result: type[Result]
    subject: type[Subject]


DATA = Kind("data", DataResult, DataSubject)
RUN = Kind("run", TrainingRun, RunSubject)
CHOICE = Kind("choice", CheckpointChoice, ChoiceSubject)
EVALUATE = Kind("evaluate", EvaluationResult, EvaluationSubject)
SPEED = Kind("speed", SpeedResult, SpeedSubject)
EXPORT = Kind("export", ExportResult, ExportSubject)
ENGINES = Kind("engines", EnginesResult, EnginesSubject)
VERIFY = Kind("verify", VerifyResult, VerifySubject)
FINETUNE = Kind("finetune", FinetuneResult, FinetuneSubject)  # of a model that somebody fine-tuned, not of a stage

KINDS: dict[str, Kind[Any, Any]] = {
    kind.name: kind for kind in (DATA, RUN, CHOICE, EVALUATE, SPEED, EXPORT, ENGINES, VERIFY, FINETUNE)
}
