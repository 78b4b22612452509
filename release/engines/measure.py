"""Every engine on the same pairs, against the trained model: what is equal, what needs an option, what is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer
from tokenizers import Tokenizer

from release import console, mode, options, records, results
from release.engines import environments, jobs, latency
from release.engines.catalogue import Engine, engines
from release.engines.jobs import EngineJob, Outcome
from release.engines.kept import Kept, kept
from release.errors import CannotRun, ReleaseError
from release.evaluation.judged_pairs import JudgedPairs
from release.export import parity, portable, quantize
from release.export.pairs import Pair, hard_pairs, library_pairs, longest_pairs, sample_pairs
from release.family import Family, load
from release.files import sha256_folder
from release.records import Record
from release.results.engines import ROUNDING, CpuSpeed, EngineResult, EnginesResult, EnginesSubject, Verdict

NATURAL, LIBRARY = 64, 28  # pairs of the family, and of Python's own documentation
JUDGED_QUERIES = 60  # for NDCG@10 of what is narrower than fp32
TIMED = 256
FAST, DEFAULT = "onnxruntime", "sentence-transformers"  # whose speed is measured; the second is the trained model's too
EXACT = "cpu-engines-onnxruntime"  # NDCG@10 of the others is compared with its


def command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    every: Annotated[bool, typer.Option("--all", help="Also the engines with environments of their own.")] = False,
) -> None:
    """Run one exported model in every engine and compare the scores with the trained model's."""
    family = load(family_file)
    record = measure(family, size, every=every)
    show(record.measured)
    lines = wrong(record.measured)
    if mode.active():  # random weights rank by differences that bfloat16 rounds away
        lines = [line for line in lines if "NDCG@10 changes" not in line]
    if lines:
        console.print_json(verdicts(record.measured))
        what = f"not the same scores in {len(lines)} core engine(s): {'; '.join(lines)}"
        rounded = any("NDCG@10 changes" in line for line in lines)
        hint = "more data or epochs: scores lie too close for bf16" if rounded else "make export"
        raise ReleaseError(what, hint=hint)
    records.write(record, family.folder(size) / "records")
    console.print_json(verdicts(record.measured))


def verdicts(result: EnginesResult) -> dict[str, list[str]]:
    """Verdict -> the names of its engines."""
    names = {verdict: [row.name for row in result.engines if row.verdict == verdict] for verdict in get_args(Verdict)}
    return names


def wrong(result: EnginesResult) -> list[str]:
    """The core engines that stop a release, one line each: those that are wrong, and fp32 ones that did not run."""
    return [f"{row.name} ({row.reason})" for row in result.engines if row.core and row.verdict == "wrong"]


def show(result: EnginesResult) -> None:
    """The table for people."""
    rows = [
        [row.name, row.verdict, _number(row.max_score_difference), _number(row.rank_agreement, ".5f")]
        for row in result.engines
    ]
    title = f"{result.pairs} pairs, {result.cut} of them cut; up to {result.allowed:.1e} is equal"
    console.table(title, ["engine", "verdict", "largest difference", "rank agreement"], rows)
    for row in result.engines:
        if note := row.reason or row.option:
            print(*console.wrapped(f"{row.name}: {note}"), sep="\n")
    if speed := result.speed:
        rates = (
            f"{speed.pairs_per_second:.0f} pairs/s, Sentence Transformers' default {speed.default_pairs_per_second:.0f}"
        )
        console.say(f"{speed.name}: {rates}")
    else:
        console.say(
            "pairs/s of the fast snippet: not measured, an engine failed or loading varied more than scoring took"
        )
    for row in result.latency:
        medians = ", ".join(f"{one.documents} documents {one.p50_ms:.0f} ms" for one in row.latency)
        console.say(f"latency of {row.engine}, {row.threads} threads: {medians}")


def _number(value: float | None, form: str = ".1e") -> str:
    return "-" if value is None else format(value, form)


def measure(family: Family, size: str, *, every: bool = False) -> Record[EnginesResult, EnginesSubject]:
    """The record "engines" of an exported model.

    Raises:
        ReleaseError: No export, not the one of its record, or the trained model cannot be run.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    exported = records.read(folder / "records", results.EXPORT, model_sha256=sha256).measured
    export = folder / "export"
    if not export.is_dir() or sha256_folder(export) != exported.sha256:
        raise ReleaseError(
            "the exported model is missing, or is not the one of its record", where=str(export), hint="make export"
        )
    pairs, alone = comparison_pairs(family, portable.max_length(export))
    judged = quantize.judged_pairs(family, mode.amount(JUDGED_QUERIES, quantize.REHEARSED))
    model_id, rows = family.model_id(size), engines(every=every)
    with (
        kept(folder / "engines", exported.sha256, sha256) as keep,
        jobs.workplace(model_id, export, folder / "model", keep.folder) as root,
    ):
        result = compare(root, model_id, pairs, judged, rows, kinds(pairs, export), keep, alone)
    try:
        result = replace(result, latency=latency.measure(export, family))
    except ReleaseError as error:
        console.say(f"latency: not measured, {error.what}")
    return records.new(
        results.ENGINES,
        family=family.about.name,
        size=size,
        model_sha256=sha256,
        measured=result,
        subject=EnginesSubject(exported.sha256),
    )


def comparison_pairs(family: Family, limit: int) -> tuple[list[Pair], int]:
    """Real pairs of the family and of Python's documentation, and those on which engines disagree most easily.

    Returns:
        The pairs, and how many of them, from the first, are scored one at a time.
    """
    natural = sample_pairs(family, NATURAL) + library_pairs(mode.amount(LIBRARY, 2))
    longest = longest_pairs(natural, limit)
    return longest + natural + hard_pairs(natural, limit), len(longest)


def kinds(pairs: Sequence[Pair], export: Path) -> list[str]:
    """Of each pair "empty" (a text is), "blanks" (at an end of one), "cut" (longer than the model reads), or "plain"."""
    encoded = Tokenizer.from_file(str(export / portable.TOKENIZER)).encode_batch(list(pairs))
    return [_kind(pair, cut=bool(each.overflowing)) for pair, each in zip(pairs, encoded, strict=True)]


def _kind(pair: Pair, *, cut: bool) -> str:
    if "" in pair:
        return "empty"
    if any(text != text.strip() for text in pair):
        return "blanks"
    return "cut" if cut else "plain"


def compare(
    root: Path,
    model_id: str,
    pairs: Sequence[Pair],
    judged: JudgedPairs | None,
    rows: list[Engine],
    kind: list[str],
    keep: Kept,
    alone: int = 0,
) -> EnginesResult:
    """Run those of `rows` of which no outcome is kept, and judge each; the first `alone` pairs are scored one at a time."""
    scored = [*pairs, *(judged.pairs if judged else ())]  # by whatever NDCG@10 is needed of
    default = next(engine for engine in rows if engine.name == DEFAULT)
    trained = EngineJob(default.snippet.replace("MODEL_ID", jobs.TRAINED), pairs, alone=alone)
    work: dict[str, EngineJob | str] = {jobs.TRAINED: trained}  # what all others are compared with comes first
    for engine in rows:
        try:
            program, environment = environments.program(engine)
        except CannotRun as error:
            work[engine.name] = str(error)
            continue
        own_pairs = scored if engine.rounding or engine.name == EXACT else pairs
        timed = library_pairs(_timed()) if engine.name in (FAST, DEFAULT) else ()
        work[engine.name] = EngineJob(engine.snippet, own_pairs, engine.versions, timed, program, environment, alone)
        if engine.without_option and not engine.core:  # not the longest pairs: by default nothing may cut them
            by_default = EngineJob(engine.without_option, pairs[alone:], (), (), program, environment)
            work[f"{engine.name} by default"] = by_default
    outcomes = _run(root, model_id, work, keep)
    reference = jobs.scores_of(outcomes.pop(jobs.TRAINED), "the trained model")
    allowed = parity.allowed(reference, mode.active())
    exact = outcomes[EXACT].scores
    baseline = judged.ndcg(np.array(exact[len(pairs) :])) if judged and exact else None
    judgements = (judged, baseline) if judged and baseline is not None else None
    return EnginesResult(
        pairs=len(pairs),
        cut=kind.count("cut"),
        score_range=(min(reference), max(reference)),
        allowed=allowed,
        judged=judged.description if judgements and judged else None,
        engines=tuple(
            judge(engine, outcomes[engine.name], outcomes.get(f"{engine.name} by default"), reference, kind, judgements)
            for engine in rows
        ),
        speed=_speed(outcomes),
    )


def _run(root: Path, model_id: str, work: dict[str, EngineJob | str], keep: Kept) -> dict[str, Outcome]:
    """Two at once; what is timed is alone on the machine, and last. Each outcome is kept as it comes."""
    todo = {name: job for name, job in work.items() if isinstance(job, EngineJob)}
    outcomes = {name: Outcome(None, {}, error=reason) for name, reason in work.items() if isinstance(reason, str)}
    if before := keep.read(todo):
        console.say(f"{len(before)} of {len(todo)} outcomes are of an earlier run, kept in {keep.folder}")
    todo = {name: job for name, job in todo.items() if name not in before}
    with console.Bar("engines", len(todo)) as bar, ThreadPoolExecutor(2) as pool:

        def run(name: str, threads: int | None) -> Outcome:
            outcome = jobs.run(root, model_id, todo[name], threads)
            keep.write(name, todo[name], outcome)
            bar.advance()
            console.note(f"{name}: {outcome.error or 'scored'}")
            return outcome

        half = max(1, len(os.sched_getaffinity(0)) // 2)
        plain = [name for name, job in todo.items() if not job.timed]
        outcomes |= before | dict(zip(plain, pool.map(lambda name: run(name, half), plain), strict=True))
        return outcomes | {name: run(name, None) for name, job in todo.items() if job.timed}


def _timed() -> int:
    return mode.amount(TIMED, 16)


def _speed(outcomes: dict[str, Outcome]) -> CpuSpeed | None:
    fast, default = (outcomes[name].pairs_per_second for name in (FAST, DEFAULT))
    return CpuSpeed(FAST, fast, default, _timed()) if fast and default else None


def judge(
    engine: Engine,
    outcome: Outcome,
    by_default: Outcome | None,
    reference: Sequence[float],
    kind: Sequence[str],
    judgements: tuple[JudgedPairs, np.ndarray] | None,
) -> EngineResult:
    """The row of one engine.

    Args:
        kind: Of each pair.
        by_default: What it gave without its option, where that was run, on the last pairs of `reference`.
        judgements: The judged pairs, whose scores follow the others', and NDCG@10 of each query in fp32.
    """
    allowed = parity.allowed(reference, mode.active())
    indices = [at for at, each in enumerate(kind) if each not in engine.unequal]
    expected, scores = (
        [reference[at] for at in indices],
        [outcome.scores[at] for at in indices] if outcome.scores else [],
    )
    difference = _difference(scores, expected) if scores else None
    rest: dict[str, Any] = {"ndcg": None, "ndcg_change": None}
    verdict, reason = _verdict(engine, outcome, difference, allowed)
    if verdict == "rounding" and judgements and outcome.scores:
        judged, before = judgements
        after = judged.ndcg(np.array(outcome.scores[len(reference) :]))
        rest = {"ndcg": float(after.mean()), "ndcg_change": float((after - before).mean())}
        if rest["ndcg_change"] < -ROUNDING:
            verdict, reason = "wrong", f"NDCG@10 changes by {rest['ndcg_change']:+.4f}"
    elif verdict == "rounding":
        verdict, reason = "not_run", "not in fp32, and nothing is here to measure NDCG@10 on"
    return EngineResult(
        name=engine.name,
        title=engine.titled(outcome.versions),
        core=engine.core,
        verdict=verdict,
        reason=reason,
        option=engine.option,
        max_score_difference=difference,
        rank_agreement=_rank_agreement(scores, expected) if scores and difference is not None else None,
        default_difference=_difference(by_default.scores, reference[-len(by_default.scores) :])
        if by_default and by_default.scores
        else None,
        versions=outcome.versions,
        language=engine.language,
        snippet=engine.snippet.strip(),
        unequal=engine.unequal,
        **rest,
    )


def _verdict(engine: Engine, outcome: Outcome, difference: float | None, allowed: float) -> tuple[Verdict, str | None]:
    if outcome.scores is None:
        return ("wrong" if engine.core else "not_run"), outcome.error
    if difference is not None and difference <= allowed:
        return ("option" if engine.option else "equal"), None
    if engine.rounding and difference is not None:
        return "rounding", None
    return "wrong", engine.wrong or ("scores that are no numbers" if difference is None else "other scores")


def _difference(scores: Sequence[float], reference: Sequence[float]) -> float | None:
    """The largest difference in logits, None where one is no number."""
    largest = max(abs(a - b) for a, b in zip(scores, reference, strict=True))
    return largest if math.isfinite(largest) and all(map(math.isfinite, scores)) else None


def _rank_agreement(scores: Sequence[float], reference: Sequence[float]) -> float | None:
    from scipy.stats import spearmanr

    correlation = float(spearmanr(scores, reference).statistic)
    return correlation if math.isfinite(correlation) else None
