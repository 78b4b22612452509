"""The table of engines says what was run: equal scores, rounded ones by rank and NDCG@10, and what is wrong stops a release."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from release import mode, records, results
from release.card import acceptance
from release.engines import catalogue, environments, jobs, latency, measure
from release.engines.catalogue import Engine
from release.engines.jobs import EngineJob, Outcome
from release.engines.kept import kept
from release.errors import CannotRun, ReleaseError
from release.evaluation.judged_pairs import JudgedPairs
from release.export import pairs, parity, portable
from release.files import list_files
from release.runtime.cpu_engines import CpuEngine
from release.speed import latency as speed_latency
from tests import built

ROWS = {engine.name: engine for engine in catalogue.engines()}
REFERENCE = [-4.0, 0.5, 2.0, 6.0]
KINDS = ["plain", "cut", "empty", "plain"]


@pytest.fixture(scope="module")
def folder(reranker: Path) -> Path:
    """What belongs to one size in a build folder, with an exported model."""
    return built.template(reranker) / built.family().folder(built.SIZE)


def test_every_snippet_names_the_model_and_the_pairs_once_and_leaves_scores() -> None:
    for engine in ROWS.values():
        assert bool(engine.read) != bool(engine.core or engine.packages), engine.name
        if engine.read:
            continue
        assert engine.snippet.count("pairs = PAIRS") == 1, engine.name
        assert "MODEL_ID" in engine.snippet and "scores" in engine.snippet, engine.name
        assert not engine.default or engine.without_option != engine.snippet, engine.name
        assert engine.language != "python" or compile(engine.snippet, engine.name, "exec")
    assert {measure.FAST, measure.DEFAULT, measure.EXACT} <= {name for name, engine in ROWS.items() if engine.core}


def test_an_export_has_every_key_that_the_readers_ask_for_which_cannot_be_run_here(folder: Path) -> None:
    keys = json.loads((folder / "export/config.json").read_text())
    assert not {key for engine in ROWS.values() for key in engine.keys} - keys.keys()
    assert keys["layer_norm_eps"] == keys["norm_eps"]


def test_an_export_requires_the_oldest_versions_of_which_a_row_needs_no_option() -> None:
    pinned: dict[str, set[str]] = {"sentence-transformers": set(), "transformers": set()}
    for engine in ROWS.values():
        for package in engine.packages if not (engine.option or engine.wrong) else ():
            name, _, version = package.partition("==")
            if version and name in pinned:
                pinned[name].add(version.rstrip(".*"))
    oldest = {name: min(versions, key=lambda each: [*map(int, each.split("."))]) for name, versions in pinned.items()}
    assert {name: f">={version}" for name, version in oldest.items()} == portable.REQUIREMENTS


@pytest.mark.parametrize(("seconds", "rate"), [(0.01, 100.0), (0.0, None), (-0.01, None)])
def test_loading_is_no_part_of_a_rate_and_noise_gives_none(tmp_path: Path, seconds: float, rate: float | None) -> None:
    clock = (
        "now = getattr(time, 'now', 0.0) + 5 + SECONDS * len(pairs); time.now = now; time.perf_counter = lambda: now"
    )
    snippet = "import time\npairs = PAIRS\nscores = [0.0] * len(pairs)\n" + clock.replace("SECONDS", str(seconds))
    some = [("a query", "a document")] * 16
    assert jobs.run(tmp_path, "some/model", EngineJob(snippet, some, [], some), 1).pairs_per_second == (
        None if rate is None else pytest.approx(rate)
    )


def test_the_fast_snippet_runs_as_it_is_printed_and_scores_as_the_trained_model(folder: Path) -> None:
    compared = pairs.hard_pairs(pairs.library_pairs(8), 64)[-12:]
    with jobs.workplace("some/model", folder / "export", folder / "model") as root:
        engine = ROWS[measure.FAST]
        outcome = jobs.run(root, "some/model", EngineJob(engine.snippet, compared, engine.versions, compared * 2), 1)
    assert outcome.error is None
    assert set(outcome.versions) == set(engine.versions)
    assert outcome.scores == pytest.approx(parity.cross_encoder(str(folder / "model"), compared), abs=1e-5)


def test_how_long_a_query_waits_is_measured_by_the_protocol_of_speed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, predict = set(), CpuEngine.predict

    def look(engine: CpuEngine, some: list[pairs.Pair]) -> np.ndarray:
        cut.add(max(len(each.ids) for each in engine.tokenizer.encode_batch_fast(some)))
        return predict(engine, some)

    monkeypatch.setattr(CpuEngine, "predict", look)
    monkeypatch.setattr(speed_latency, "REPEATS", 3)
    row = latency.of_engine("onnxruntime", folder / "export", pairs.library_pairs(4), 16)
    assert row.engine == "ONNX Runtime, fp32" and cut == {16}
    assert [one.documents for one in row.latency] == list(speed_latency.DOCUMENTS)
    assert all(0 < one.p50_ms <= one.p95_ms and one.repeats == 3 for one in row.latency)


def test_engines_read_from_a_cache_as_the_hubs_client_makes_it_and_from_plain_files(folder: Path) -> None:
    with jobs.workplace("some/model", folder / "export", folder / "model") as root:
        snapshot = root / "home/hub/models--some--model/snapshots" / jobs.COMMIT
        linked = snapshot / "onnx/model.onnx"
        assert linked.is_symlink() and linked.resolve().parent == root / "home/hub/models--some--model/blobs"
        assert list_files(snapshot) == list_files(folder / "export") == list_files(root / jobs.DOWNLOADED)
        assert linked.samefile(folder / "export/onnx/model.onnx") or linked.read_bytes()
        assert not (root / jobs.DOWNLOADED / "onnx/model.onnx").is_symlink()


def test_an_environment_that_was_not_finished_is_built_anew_and_a_finished_one_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built_: list[Path] = []

    def build(engine: Engine, path: Path) -> None:
        assert not path.exists()
        path.mkdir()
        (path / "half").touch()
        built_.append(path)
        if len(built_) == 1:
            raise KeyboardInterrupt

    engine = Engine("x", "x", packages=("some-package==1", "another"))
    with pytest.raises(KeyboardInterrupt):
        environments._built(engine, build)
    assert environments._built(engine, build) == environments._built(engine, build) == built_[1]
    monkeypatch.setattr(environments, "ROOT", tmp_path / "file/engines")
    (tmp_path / "file").touch()
    with pytest.raises(CannotRun, match=r"cannot be built \(Not a directory"):
        environments._built(engine, build)
    assert (
        len(built_) == 2 and built_[1].parent == Path("build/engines") and built_[1].name.startswith("some-package-1-")
    )


def test_why_an_environment_cannot_be_built_names_no_place_of_this_machine() -> None:
    said = "npm error code X\nnpm error request to https://packages.example/a%2fb failed: no network\n"
    log = "npm error A complete log of this run can be found in: /home/someone/.npm/_logs/debug-0.log\n"
    assert environments._reason(said + log) == "npm error request to the registry failed: no network"
    assert environments._reason("getaddrinfo EAI_AGAIN packages.example") == "getaddrinfo EAI_AGAIN the registry"
    assert environments._reason("\n") == "no message"


def test_an_engine_that_stops_says_why_in_one_line_without_paths(folder: Path) -> None:
    with jobs.workplace("some/model", folder / "export", folder / "model") as root:
        outcome = jobs.run(root, "some/model", EngineJob("open('nothing/MODEL_ID')", [("a", "b")]))
        short = jobs.run(root, "some/model", EngineJob("scores = [1.0]", [("a", "b"), ("c", "d")]))
    assert outcome.scores is None and outcome.error is not None
    assert "nothing/some/model" in outcome.error and "\n" not in outcome.error and str(root) not in outcome.error
    assert short.scores is None and short.error == "1 scores of 2 pairs"


def test_the_longest_pairs_are_scored_in_a_process_of_their_own_each(tmp_path: Path) -> None:
    compared = [(text, "") for text in "aabc"]
    job = EngineJob("assert '' not in PAIRS[0][:1]\nscores = [len(PAIRS)] * len(PAIRS)", compared, alone=2)
    assert jobs.run(tmp_path, "some/model", job, 1).scores == [1, 1, 2, 2]
    assert jobs.run(tmp_path, "some/model", EngineJob(job.snippet, [("", ""), *compared], alone=1), 1).scores is None


def test_a_run_that_was_stopped_runs_what_is_missing_and_nothing_of_another_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = tmp_path / "ran"
    snippet = f"pairs = PAIRS\nopen({str(ran)!r}, 'a').write(NAME)\nscores = [1.5] * len(pairs)\n"

    def run(export: str, names: str, pair: tuple[str, str] = ("a", "b")) -> str:
        """Run engines of one letter each, of which x stops; say which of them were run."""
        ran.write_text("")
        code = {name: snippet.replace("NAME", repr(name)) + ("1 / 0" if name == "x" else "") for name in names}
        with kept(tmp_path / "kept", export, "model") as keep:
            outcomes = measure._run(tmp_path, "m", {name: EngineJob(code[name], [pair]) for name in names}, keep)
        assert {name for name, outcome in outcomes.items() if outcome.scores == [1.5]} == set(names) - {"x"}
        return "".join(sorted(ran.read_text()))

    assert run("export", "ax") == "ax"
    assert run("export", "bx") == "bx"
    assert run("export", "ab") == "" and run("export", "a", ("a", "c")) == "a"
    for file in (tmp_path / "kept").glob("*.json"):
        file.write_text('{"subject": "export model", "identity"')
    assert run("export", "b") == "b" and run("another", "a") == "a"
    assert len(list((tmp_path / "kept").glob("*.json"))) == 1
    with pytest.raises(KeyboardInterrupt), kept(tmp_path / "kept", "another", "model"):
        with pytest.raises(ReleaseError, match="another run"), kept(tmp_path / "kept", "another", "model"):
            pass
        raise KeyboardInterrupt
    assert f"outcomes kept in {tmp_path / 'kept'}: 1;" in capsys.readouterr().err


def judged(engine: Engine, scores: list[float] | None) -> str:
    outcome = Outcome(scores, {"sentence-transformers": "1"}, error=None if scores else "ImportError: no")
    return measure.judge(engine, outcome, None, REFERENCE, KINDS, None).verdict


def test_equal_is_within_a_hundred_thousandth_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Engine("x", "x", "", core=True)
    assert judged(core, [score + 0.9e-4 for score in REFERENCE]) == "equal"
    assert judged(core, [score + 1.1e-4 for score in REFERENCE]) == "wrong"
    assert judged(core, [*REFERENCE[:3], float("nan")]) == "wrong"
    sigmoid = [1 / (1 + np.exp(-score)) for score in REFERENCE]
    assert judged(core, sigmoid) == "wrong" and judged(Engine("x", "x", "", core=True, option="y"), sigmoid) == "wrong"
    assert judged(Engine("x", "x", "", option="y"), REFERENCE) == "option"
    monkeypatch.setenv(mode.VARIABLE, "1")  # whose logits are close to each other, so that ten times as far is the same
    assert judged(core, [score + 1.1e-4 for score in REFERENCE]) == "equal"
    assert judged(core, [score + 1.1e-3 for score in REFERENCE]) == "wrong"


def test_a_core_engine_that_does_not_run_is_wrong_and_another_is_not_run() -> None:
    assert judged(Engine("x", "x", "", core=True), None) == "wrong"
    assert judged(Engine("x", "x", ""), None) == "not_run"


def test_pairs_that_an_engine_reads_differently_are_left_out_only_where_it_is_said() -> None:
    scores = [REFERENCE[0], REFERENCE[1], 99.0, REFERENCE[3]]
    assert judged(Engine("x", "x", "", option="no empty text", unequal=("empty",)), scores) == "option"
    assert judged(Engine("x", "x", "", option="no long text", unequal=("cut",)), scores) == "wrong"


@pytest.mark.parametrize(("worse", "verdict"), [(False, "rounding"), (True, "wrong")])
def test_what_is_rounded_is_judged_by_ndcg(worse: bool, verdict: str) -> None:
    queries = {f"q{at}": ["a", "b"] for at in range(4)}
    pairs_of = JudgedPairs("x", "bm25", 2, queries, {query: {"a": 1} for query in queries}, [("q", "d")] * 8)
    exact = [2.0, 1.0] * 4
    before = pairs_of.ndcg(np.array(exact))
    rounded = [1.0, 2.0, *exact[2:]] if worse else [score + 0.01 for score in exact]
    outcome = Outcome([score + 0.01 for score in REFERENCE] + rounded, {})
    row = measure.judge(Engine("x", "x", "", rounding=True), outcome, None, REFERENCE, KINDS, (pairs_of, before))
    assert row.verdict == verdict and row.ndcg_change == pytest.approx(-0.0923 if worse else 0.0, abs=1e-3)
    assert (
        measure.judge(Engine("x", "x", "", rounding=True), outcome, None, REFERENCE, KINDS, None).verdict == "not_run"
    )


def test_kinds_of_pairs_are_found_by_the_exports_own_tokenizer(folder: Path) -> None:
    natural = pairs.library_pairs(28)
    compared = natural + pairs.hard_pairs(natural, 512)
    pair_kinds = measure.kinds(compared, folder / "export")
    assert (
        pair_kinds[28 : 28 + pairs.CUT] == ["cut"] * pairs.CUT
        and pair_kinds.count("empty") == 2
        and "blanks" in pair_kinds
    )
    assert pairs.longest_pairs(natural, 512) == []


def test_a_model_that_reads_more_than_a_batch_can_hold_is_given_pairs_that_it_cuts_one_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "LONG", 100)
    natural = pairs.library_pairs(28)
    longest = pairs.longest_pairs(natural, 512)
    assert measure.kinds(longest, folder / "export") == ["cut", "cut"]
    assert len(longest[1][0].split()) > 512 > len(longest[0][0].split())
    monkeypatch.setenv(mode.VARIABLE, "1")
    assert pairs.longest_pairs(natural, 512) == []


def test_a_record_of_another_export_is_not_shown(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    folder = family.folder(built.SIZE) / "records"
    built.edit(folder / "engines.json", lambda record: record["subject"].update(export_sha256="0" * 64))
    with pytest.raises(ReleaseError, match=r"another export.*make engines"):
        acceptance.card_records(family, built.SIZE)
    shutil.rmtree(family.folder(built.SIZE) / "export")
    with pytest.raises(ReleaseError, match="make export"):
        measure.measure(family, built.SIZE)
    assert records.read(folder, results.ENGINES).measured.pairs == 132


def test_the_worker_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(
        '{"snippet": "scores = [len(a + b) for a, b in PAIRS]", "pairs": [["a", "bc"]], "timed": [], "versions": []}'
    )
    subprocess.run([sys.executable, "-I", "-S", str(jobs.WORKER), str(tmp_path)], check=True)
    assert (tmp_path / "result.json").read_text() == '{"scores": [3.0], "versions": {}}'
