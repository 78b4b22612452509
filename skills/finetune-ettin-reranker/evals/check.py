# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Check what a task of evals.json left behind: `python check.py ID --work FOLDER`. The last line is JSON; status 1 where it fails.

The folder holds the agent's files and its report to the user as report.md. A check names a file and what must be true of it:
`equals`, `one_of`, `above` or `below` a value under `key` of a JSON file, a text that `matches`, or `absent`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

TASKS = Path(__file__).with_name("evals.json")


def passes(check: dict[str, Any], work: Path) -> bool:
    """Whether one check holds in the folder `work`."""
    path = work / check["file"]
    if check.get("absent"):
        return not path.exists()
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8")
    if "matches" in check:
        return re.search(check["matches"], text, re.IGNORECASE) is not None
    value: Any = json.loads(text)
    for name in check["key"].split("."):
        value = value[name]
    if "one_of" in check:
        return value in check["one_of"]
    if "above" in check or "below" in check:
        return check.get("above", float("-inf")) < value < check.get("below", float("inf"))
    return value == check["equals"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("id", type=int)
    parser.add_argument("--work", type=Path, default=Path())
    options = parser.parse_args()
    tasks = {task["id"]: task for task in json.loads(TASKS.read_text(encoding="utf-8"))["evals"]}
    if options.id not in tasks:
        sys.exit(f"error: no task {options.id}; hint: one of {', '.join(map(str, tasks))}")
    failed = []
    for check in tasks[options.id]["checks"]:
        try:
            passed = passes(check, options.work)
        except (ValueError, KeyError, TypeError):  # another content than a check can look at
            passed = False
        print("ok  " if passed else "FAIL", json.dumps(check, ensure_ascii=False))
        failed += [] if passed else [check]
    print(json.dumps({"id": options.id, "checks": len(tasks[options.id]["checks"]), "failed": failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
