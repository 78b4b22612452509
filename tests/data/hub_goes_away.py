"""Mixing from a Hub that goes away while a config streams, as a script: run by test_mix_hub_away.py."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from release.data import mix
from release.family import load
from tests.data.test_mix import ROOT, declared, upstream
from tests.localhub.hub_fixtures import Http
from tests.localhub.hub_mixing import FILTERS, publish, refusal


def main(endpoint: str) -> dict[str, Any]:
    """Mix one config, lose the Hub in the middle of another, and mix again."""
    import dataclasses

    os.chdir(tempfile.mkdtemp())
    family = load(ROOT / "recipes/demo.toml")
    family = dataclasses.replace(
        family, evaluation=dataclasses.replace(family.evaluation, collections=(), nano_sets=(), tasks=())
    )
    Path("acme-streamed/a").mkdir(parents=True)
    Path("acme-streamed/b").mkdir(parents=True)
    upstream("acme-streamed/a/all.parquet", 300)
    upstream("acme-streamed/b/all.parquet", 30_000)
    publish(HfApi(), "acme/streamed", {"a": "a/*.parquet", "b": "b/*.parquet"})
    source = {"kind": "hf", "repository": "acme/streamed", "split": "train"}
    mixture = declared(
        10_000, a={"source": {**source, "config": "a"}, **FILTERS}, b={"source": {**source, "config": "b"}, **FILTERS}
    )
    http, results = Http(endpoint), {}
    for name, fault in {"drop": {"action": "drop"}, "503": {"action": "answer", "status": 503}}.items():
        http.faults({"method": "*", "path": "b/all.parquet", "nth": 2, "times": 10_000, **fault})
        sleep, time.sleep = time.sleep, lambda _: None  # the client waits half a minute before it gives up
        results[name] = refusal(lambda: mix.run(family, mixture))
        time.sleep = sleep
        results[f"{name} left"] = sorted(path.name for path in (family.build / "data/pairs").iterdir())
    http.faults()
    results["then"] = json.loads(mix.run(family, mixture).read_text())["configs"]["b"]["rows_in"]
    return results


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
