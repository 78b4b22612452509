"""A rehearsal does what a page says, in its order, and stops where a command fails; it knows no command of its own."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from huggingface_hub import constants

from release.agents import bundle, check, rehearsal
from release.agents.rehearsal import UserData, Workplace, rehearse
from release.localhub import Account, running_hub

TOKEN = "hf_" + "rehearse" * 4
PAGE = """\
---
name: finetune-ettin-reranker
description: A page of another content.
---

```sh
pip --version > installed
echo "$DATA $BASE $REPO" > asked
```

```sh file
echo one >> done
```

```sh beir
echo two >> done
```

```sh lora
echo three >> done
```

```sh account
test -n "$HF_TOKEN" && mkdir -p tuned/records && cp RECORD tuned/records/finetune.json
echo 'VERDICT: WIN | score=0.5'
false  # an error
echo four >> done
```
"""
COMPARED = {"score": 0.5, "baseline": 0.25, "delta": 0.25, "ci_low": 0.125, "ci_high": 0.375, "first_stage": 0.1}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Workplace]:
    """A workplace on a Hub whose bucket holds a skill of other commands."""
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"measured": {"test": COMPARED, "guard": {**COMPARED, "delta": -0.01}}}))
    bucket = tmp_path / "hub/buckets" / bundle.BUCKET
    (bucket / f"skills/{check.NAME}").mkdir(parents=True)
    (bucket / f"skills/{check.NAME}/SKILL.md").write_text(PAGE.replace("RECORD", str(record)))
    entry = {"name": check.NAME, "source": f"./skills/{check.NAME}"}
    (bucket / "marketplace.json").write_text(json.dumps({"plugins": [entry]}))
    monkeypatch.setattr(rehearsal, "ROOT", tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (tmp_path / "data.jsonl").write_text("{}\n")
    with running_hub(tmp_path / "hub", [Account("somebody", TOKEN, ())]) as (endpoint, _):
        yield Workplace(tmp_path / "work", tmp_path / "wheels", endpoint, TOKEN, 1)


def test_commands_are_read_out_of_the_page_and_the_first_failure_ends_it(workplace: Workplace, tmp_path: Path) -> None:
    outcome = rehearse(UserData("mine", "file", tmp_path / "data.jsonl"), workplace)
    assert (workplace.folder / "asked").read_text() == f"data.jsonl {rehearsal.BASE} somebody/mine-reranker\n"
    assert "agent" not in (workplace.folder / "installed").read_text() and (workplace.folder / "installed").read_text()
    assert (workplace.folder / "done").read_text() == "one\n"
    assert outcome["failed"] == "false: no message" and outcome["commands"] == 5
    assert (outcome["verdict"], outcome["delta"], outcome["guard_delta"]) == ("WIN", 0.25, -0.01)
    assert outcome["published"] is False


def test_a_regression_that_is_not_published_is_no_failure_of_the_rehearsal(
    workplace: Workplace, tmp_path: Path
) -> None:
    page = tmp_path / "hub/buckets" / bundle.BUCKET / f"skills/{check.NAME}/SKILL.md"
    refusal = "echo 'error: worse than its base: VERDICT: REGRESSION; hint: keep it' >&2; false"
    page.write_text(page.read_text().replace("false  # an error", refusal))
    outcome = rehearse(UserData("mine", "file", tmp_path / "data.jsonl"), workplace)
    assert outcome["failed"] is None and "VERDICT: REGRESSION" in outcome["refused"] and not outcome["published"]


def test_a_skill_that_cannot_be_installed_is_said(workplace: Workplace, tmp_path: Path) -> None:
    (tmp_path / "hub/buckets" / bundle.BUCKET / "marketplace.json").write_text('{"plugins": []}')
    outcome = rehearse(UserData("mine", "file", tmp_path / "data.jsonl"), workplace)
    assert outcome["commands"] == 0 and outcome["failed"].startswith("hf skills add")
    assert outcome["verdict"] is None
