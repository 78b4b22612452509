"""Scoring survives a kill, refuses to mix teachers, sets unusable rows aside, and never writes a label that is no number."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from release import family, records, results
from release.data import rejects, score, shards
from release.errors import ReleaseError
from release.evaluation import rerankers
from release.files import sha256_folder, write_json
from release.teachers import cross_encoder
from release.workers import Executor
from tests import forked
from tests.data.lengths import Lengths, Slow
from tests.tiny import PAIRS

ROOT = Path(__file__).resolve().parents[2]
SHARDS, ROWS = 6, 40


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> family.Family:
    monkeypatch.chdir(tmp_path)
    loaded = family.load(ROOT / "recipes/demo.toml")
    make_pairs(loaded)
    return loaded


def make_pairs(facts: family.Family, changed: int | None = None, count: int = SHARDS) -> None:
    folder = facts.build / "data/pairs/docstrings"
    descriptions = []
    for number in range(count):
        word = "changed" if number == changed else "query"
        rows = [(f"{word} {number} {row}", "word " * (row + 1)) for row in range(ROWS)]
        name = f"train-{number:05d}-of-{count:05d}.parquet"
        shards.write_table(folder / name, shards.tables(rows))
        descriptions.append(shards.describe(folder / name).as_dict())
    entry = {"key": "k", "shards": descriptions, "overlaps_declared": ["docstrings", "elsewhere"]}
    write_json(facts.build / "data/pairs/manifest.json", {"name": "n", "configs": {"docstrings": entry}})


def mixture(facts: family.Family) -> Path:
    return facts.build / "data/mixture"


def test_every_pair_gets_the_teachers_logit_and_a_record(facts: family.Family) -> None:
    score.run(facts, Lengths())
    table = pq.read_table(mixture(facts) / "docstrings/train-00002-of-00006.parquet")
    assert table.schema.field("label").type == "float"
    labels = [len(d) - len(q) for q, d in zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True)]
    assert table["label"].to_pylist() == labels
    manifest = json.loads((mixture(facts) / "manifest.json").read_text())
    assert manifest["teacher"] == {"model": "lengths", "revision": "1"}
    assert manifest["in_domain"] == ["docstrings"]  # declared of the same origin, and one of the family's collections
    assert records.read(facts.build / "records", results.DATA).measured.rows == SHARDS * ROWS


def test_a_second_run_asks_the_teacher_nothing(facts: family.Family) -> None:
    score.run(facts, Lengths())
    before, again = sha256_folder(mixture(facts)), Lengths()
    score.run(facts, again)
    assert again.asked == 0
    assert sha256_folder(mixture(facts)) == before


def test_another_teacher_is_refused_and_changes_nothing(facts: family.Family) -> None:
    score.run(facts, Lengths())
    before = sha256_folder(mixture(facts))
    with pytest.raises(ReleaseError, match="begun with another revision"):
        score.run(facts, Lengths(revision="2"))
    assert sha256_folder(mixture(facts)) == before


def give_labels(facts: family.Family, label: float = 1.5) -> None:
    """Let the labels of every pair come with the source."""
    folder = facts.build / "data/pairs"
    for path in folder.glob("docstrings/*.parquet"):
        table = pq.read_table(path, columns=["query", "document"])
        shards.write_table(path, table.append_column("label", pa.array([label] * table.num_rows, pa.float32())))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["configs"]["docstrings"]
    entry |= {
        "labels": "source",
        "shards": [shards.describe(path).as_dict() for path in sorted(folder.glob("*/*.parquet"))],
    }
    write_json(folder / "manifest.json", manifest)


def test_labels_of_the_sources_belong_to_no_teacher(facts: family.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture that was copied on a CPU is the same on a GPU: no dtype, form or revision of a teacher that was not asked."""
    give_labels(facts)
    monkeypatch.setattr(score, "load_teacher", lambda *_: pytest.fail("the teacher is loaded"))
    score.run(facts)
    manifest = json.loads((mixture(facts) / "manifest.json").read_text())
    assert manifest["teacher"] == records.read(facts.build / "records", results.DATA).subject.teacher == {}
    assert manifest["configs"]["docstrings"]["labels_on_bf16_grid"] is True
    before = sha256_folder(mixture(facts))
    for revision in ("1", "2"):  # whatever the family's teacher becomes, nothing is begun anew or refused
        score.run(facts, Lengths(revision))
        rerankers._check_labelled(facts, Lengths(revision).identity)
    assert sha256_folder(mixture(facts)) == before
    give_labels(facts, 1.0001)
    score.run(facts)
    manifest = json.loads((mixture(facts) / "manifest.json").read_text())
    assert manifest["configs"]["docstrings"]["labels_on_bf16_grid"] is False


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (lambda labels: np.where(labels > 0, np.nan, labels), "not a number.*row"),
        (lambda labels: labels * np.float32(np.inf), "not a number"),
        (lambda labels: labels[1:], "39 scores for 40 pairs"),
    ],
)
def test_a_label_that_is_no_number_stops_the_shard(facts: family.Family, scores: Any, says: str) -> None:
    with pytest.raises(ReleaseError, match=says):
        score.run(facts, Lengths(scores=scores))
    assert not list(mixture(facts).glob("**/*.parquet"))
    score.run(facts, Lengths())  # with the teacher mended, the same command goes on
    assert len(list(mixture(facts).glob("**/*.parquet"))) == SHARDS


def test_poisoned_rows_are_set_aside_with_their_reason(facts: family.Family) -> None:
    folder = facts.build / "data/pairs/docstrings"
    rows = [("good", "document"), ("", "document"), ("query", " "), ("query", "x" * (rejects.LONGEST + 1))]
    shards.write_table(folder / "train-00000-of-00006.parquet", shards.tables(rows))
    score.run(facts, Lengths())
    table = pq.read_table(mixture(facts) / "docstrings/train-00000-of-00006.parquet")
    assert table["query"].to_pylist() == ["good"]
    lines = (mixture(facts) / "docstrings/train-00000-of-00006.quarantine.jsonl").read_text().splitlines()
    reasons = {line["row"]: line["reason"] for line in map(json.loads, lines)}
    assert reasons == {1: "empty query", 2: "empty document", 3: f"document of {rejects.LONGEST + 1} characters"}
    assert rejects.reject_reason("a\ud800".encode(errors="surrogatepass"), b"b") == "invalid unicode in the query"


def test_text_that_is_no_utf8_is_set_aside_wherever_the_pairs_came_from(facts: family.Family) -> None:
    path = facts.build / "data/pairs/docstrings/train-00000-of-00006.parquet"
    queries = pa.array([b"good", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"query": queries, "document": ["a", "b"]}), path)
    score.run(facts, Lengths())
    assert pq.read_table(mixture(facts) / "docstrings" / path.name)["query"].to_pylist() == ["good"]
    line = json.loads((mixture(facts) / f"docstrings/{path.stem}.quarantine.jsonl").read_text())
    assert line == {"row": 1, "reason": "invalid unicode in the query"}


def test_pairs_that_cannot_be_read_are_one_clear_line(facts: family.Family) -> None:
    path = facts.build / "data/pairs/docstrings/train-00002-of-00006.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ReleaseError, match=r"the pairs are unreadable .*docstrings/train-00002.*make mix") as caught:
        score.run(facts, Lengths())
    assert "\n" not in str(caught.value)


def scoring(facts: family.Family, workers: int) -> None:
    """Score slowly, as the command would."""
    try:
        score.run(facts, Slow(), executor=Executor(workers=workers))
    except ReleaseError as error:
        sys.exit(f"error: {error}")


def kill_and_continue(facts: family.Family, workers: int, kills: int, said: Path, seed: int = 12) -> int:
    """Start scoring and kill -9 it while it works, `kills` times at random moments; returns the shards made by then."""
    draw = random.Random(seed)

    def made() -> int:
        return len(list(mixture(facts).glob("*/train-*.parquet")))

    for _ in range(kills):
        moment = made() + draw.randint(0, 2)  # shards to wait for before the blow
        child = forked.start(partial(scoring, facts, workers), said)
        while forked.runs(child) and made() <= moment:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert forked.wait(child) == -signal.SIGKILL, (said / "stderr").read_text()
    return made()


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_anywhere_it_ends_with_the_same_shards(facts: family.Family, tmp_path: Path, workers: int) -> None:
    make_pairs(facts, count=20)
    made = kill_and_continue(facts, workers, kills=3, said=tmp_path)
    assert 3 <= made < 20
    rest = Lengths()
    score.run(facts, rest)
    assert rest.asked <= (20 - made) * ROWS  # what was finished is not asked again
    disturbed = sha256_folder(mixture(facts))
    other = tmp_path / "undisturbed"
    other.mkdir()
    os.chdir(other)
    make_pairs(facts, count=20)
    score.run(facts, Lengths())
    assert sha256_folder(mixture(facts)) == disturbed


def test_two_workers_make_the_shards_that_one_makes(facts: family.Family, tmp_path: Path) -> None:
    score.run(facts, Lengths(), executor=Executor(workers=2))
    together = sha256_folder(mixture(facts))
    other = tmp_path / "alone"
    other.mkdir()
    os.chdir(other)
    make_pairs(facts)
    score.run(facts, Lengths())
    assert sha256_folder(mixture(facts)) == together


def test_a_workers_error_is_the_same_clear_line(facts: family.Family) -> None:
    with pytest.raises(ReleaseError, match=r"39 scores for 40 pairs.*docstrings/train-0000"):
        score.run(facts, Lengths(scores=Short()), executor=Executor(workers=2))
    assert not (mixture(facts) / "manifest.json").exists()


def test_a_worker_that_is_killed_is_missed_at_once_and_the_same_command_continues(
    facts: family.Family, tmp_path: Path
) -> None:
    make_pairs(facts, count=20)
    parent, victim = forked.start(partial(scoring, facts, 2), tmp_path), 0
    while forked.runs(parent) and not victim:
        time.sleep(0.01)
        if any(mixture(facts).glob("*/train-*.parquet")):
            victim = next((pid for pid in children(parent) if b"spawn_main" in command_line(pid)), 0)
    os.kill(victim, signal.SIGKILL)
    assert forked.wait(parent) == 1
    errors = (tmp_path / "stderr").read_text()
    assert "was killed (SIGKILL)" in errors.splitlines()[-1] and "run the same command again" in errors
    assert not (mixture(facts) / "manifest.json").exists()
    made = len(list(mixture(facts).glob("*/train-*.parquet")))
    rest = Lengths()
    score.run(facts, rest)
    assert 0 < rest.asked <= (20 - made) * ROWS


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class Short:
    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return scores[1:]


def test_only_shards_whose_pairs_changed_are_made_again_and_old_ones_go(facts: family.Family) -> None:
    score.run(facts, Lengths())
    (mixture(facts) / "docstrings/train-00009-of-00010.parquet").write_bytes(b"of an older mixture")
    make_pairs(facts, changed=2)
    again = Lengths()
    score.run(facts, again)
    assert again.asked == ROWS
    assert len(list(mixture(facts).glob("*/*.parquet"))) == SHARDS
    table = pq.read_table(mixture(facts) / "docstrings/train-00002-of-00006.parquet")
    assert table["query"][0].as_py().startswith("changed")


def test_a_damaged_shard_is_made_again(facts: family.Family) -> None:
    score.run(facts, Lengths())
    before = sha256_folder(mixture(facts))
    path = mixture(facts) / "docstrings/train-00001-of-00006.parquet"
    whole, aside = path.read_bytes(), path.with_name(f"{path.stem}.quarantine.jsonl")
    path.write_bytes(whole[:100])
    score.run(facts, Lengths())
    assert sha256_folder(mixture(facts)) == before
    for junk in (b"null\n", b"\xff\n"):
        aside.write_bytes(junk)
        score.run(facts, Lengths())
        assert sha256_folder(mixture(facts)) == before
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])  # its footer is whole
    with pytest.raises(
        ReleaseError, match=r"the labelled pairs are damaged.*train-00001-of-00006\.parquet; hint: remove"
    ):
        score.run(facts, Lengths())
    path.unlink()
    score.run(facts, Lengths())
    assert sha256_folder(mixture(facts)) == before


def test_labels_that_come_with_the_source_are_kept(facts: family.Family) -> None:
    path = facts.build / "data/pairs/docstrings/train-00000-of-00006.parquet"
    rows = {"query": ["a", "b"], "document": ["c", "d"], "label": [1.5, -2.5]}
    shards.write_table(path, pa.table(rows, schema=shards.ROWS))
    again = Lengths()
    score.run(facts, again)
    assert again.asked == (SHARDS - 1) * ROWS
    table = pq.read_table(mixture(facts) / "docstrings" / path.name)
    assert table.to_pydict() == rows


def test_a_run_that_scores_nothing_keeps_the_measured_speed(facts: family.Family) -> None:
    score.run(facts, Lengths())
    first = records.read(facts.build / "records", results.DATA)
    score.run(facts, Lengths())
    assert records.read(facts.build / "records", results.DATA) == first


def test_a_teacher_that_is_not_here_is_one_clear_line(facts: family.Family) -> None:
    absent = dataclasses.replace(facts.teacher, model="nobody/nothing", kind="cross-encoder")
    with pytest.raises(ReleaseError, match=r"cannot load the teacher.*nobody/nothing"):
        score.run(dataclasses.replace(facts, teacher=absent))
    assert not mixture(facts).exists()


# --- Real teachers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["flash_attn_2", "kernels"])
def test_on_a_gpu_a_teacher_takes_flash_attention_from_whichever_package_is_here(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU exists where tests run: what is asked of the library is looked at."""
    calls: list[dict[str, Any]] = []

    def away(*_: Any, model_kwargs: dict[str, Any], **__: Any) -> None:
        calls.append(model_kwargs)
        raise ImportError("no kernel for this GPU")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("sentence_transformers.CrossEncoder", away)
    for other in ("flash_attn_2", "kernels"):
        monkeypatch.setattr(f"transformers.utils.is_{other}_available", lambda other=other: other == package)
    with pytest.raises(ReleaseError, match=r"cannot load the teacher .no kernel for this GPU"):
        cross_encoder.CrossEncoderTeacher("acme/teacher", max_length=64)
    assert calls == [{"dtype": "bfloat16", "attn_implementation": "flash_attention_2"}]


def test_a_cross_encoder_gives_its_raw_logits(reranker: Path) -> None:
    from sentence_transformers import CrossEncoder
    from torch import nn

    teacher = cross_encoder.CrossEncoderTeacher(str(reranker), max_length=64)
    told: list[int] = []
    scores = teacher.predict(PAIRS, told.append)
    raw = CrossEncoder(str(reranker), device="cpu", max_length=64, activation_fn=nn.Identity()).predict(PAIRS)
    assert scores == pytest.approx(raw, abs=1e-5)
    assert sum(told) == len(PAIRS)
    assert teacher.identity["revision"] == records.model_hash(reranker)
    assert teacher.identity["dtype"] == "float32"
    assert teacher.batch == 32  # on a CPU; 128 on a GPU


TEMPLATE = (
    "<|im_start|>user\nquery: {{ messages | selectattr('role','eq','query') | map(attribute='content') | first }}\n"
    "document: {{ messages | selectattr('role','eq','document') | map(attribute='content') | first }}\n"
    "Relevance:<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny causal reranker in the published teacher's form, once comparing "1" with "0" and once the wrong way round."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("causal")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["query: document: relevance 0 1"] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        eos_token=special[2],
        model_max_length=256,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder / "body")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
        initializer_range=0.5,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "body")
    one, zero = fast.convert_tokens_to_ids("1"), fast.convert_tokens_to_ids("0")
    for name, ids in {"good": (one, zero), "wrong": (zero, one)}.items():
        body = Transformer(str(folder / "body"), transformer_task="text-generation")
        CrossEncoder(modules=[body, LogitScore(*ids)], activation_fn=torch.nn.Sigmoid()).save_pretrained(
            str(folder / name)
        )
    return {name: folder / name for name in ("good", "wrong")}


def test_a_causal_teacher_must_compare_1_with_0(causal: dict[str, Path]) -> None:
    teacher = cross_encoder.CrossEncoderTeacher(str(causal["good"]), max_length=200)
    scores = teacher.predict(PAIRS)
    assert (scores.min() < 0) or (scores.max() > 1)  # logits, although it was saved with a sigmoid
    assert teacher.model.keep_in_fp32_modules == ["0.model.lm_head"]
    with pytest.raises(ReleaseError, match=r"compares the tokens \['0', '1'\]"):
        cross_encoder.CrossEncoderTeacher(str(causal["wrong"]), max_length=200)


def test_a_teacher_that_is_asked_nothing_or_has_random_weights_is_refused(
    causal: dict[str, Path], tmp_path: Path, encoder: Path
) -> None:
    mute = Path(shutil.copytree(causal["good"], tmp_path / "mute"))
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(ReleaseError, match="the teacher has no chat template: nothing would be asked"):
        cross_encoder.CrossEncoderTeacher(str(mute), max_length=200)
    with pytest.raises(ReleaseError, match=r"of its weights are in none of its files and would be random, such as "):
        cross_encoder.CrossEncoderTeacher(str(encoder), max_length=200)


def test_the_headless_form_gives_the_same_scores(causal: dict[str, Path]) -> None:
    teacher = cross_encoder.CrossEncoderTeacher(str(causal["good"]), max_length=200)
    assert cross_encoder.headless(teacher.model).predict(PAIRS) == pytest.approx(teacher.predict(PAIRS), abs=1e-4)


def test_another_template_is_another_teacher(causal: dict[str, Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(causal["good"], tmp_path / "other"))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("Relevance", "Match"))
    first, second = (cross_encoder.CrossEncoderTeacher(str(path), max_length=200) for path in (causal["good"], other))
    assert first.identity["template_sha256"] != second.identity["template_sha256"]
