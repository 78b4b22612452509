"""`make faults`: a release meets every fault of every kind of request, runs again without it, and must end like an undisturbed one.

A fault stays until the attempt that meets it has ended, from the first request of its kind or from the last one on. The last line
is JSON: `tried`, `converged`, `diverged`; with `names` of what diverged, `looks` at the Hub after its writes, and what any of them
saw `incomplete` in public or under a tag.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release.family import Family
from tests import built
from tests.hub import disturbed
from tests.localhub.faults import running_faulty_hub

HTML = "<!doctype html><html><body>Sign in to the network</body></html>"
FAULTS: dict[str, dict[str, Any]] = {
    "429 with Retry-After": {"action": "answer", "status": 429, "headers": {"Retry-After": "1"}},
    "429 for two hours": {"action": "answer", "status": 429, "headers": {"Retry-After": "7200"}},
    "429": {"action": "answer", "status": 429, "body": "slow down"},
    "500": {"action": "answer", "status": 500},
    "503": {"action": "answer", "status": 503},
    "cut before": {"action": "drop"},
    "cut in the answer": {"action": "cut"},
    "answer lost": {"action": "lose"},
    "HTML with 200": {"action": "answer", "status": 200, "headers": {"Content-Type": "text/html"}, "body": HTML},
    "redirect": {"action": "answer", "status": 302, "headers": {"Location": "/static/page.css"}, "body": ""},
    "bit flipped in the answer": {"action": "flip"},
    "bit flipped in the request": {"action": "spoil"},
    "{}": {"action": "answer", "status": 200, "headers": {"Content-Type": "application/json"}, "body": "{}"},
}
CLASSES = {  # of requests: method and path
    "repo": ("GET", r"^/api/(?:models|datasets)/[^/]+/[^/]+$"),
    "refs": ("GET", r"/refs$"),
    "tree": ("GET", r"/tree/[0-9a-f]+$"),
    "commits": ("GET", r"/commits/main$"),
    "create": ("POST", r"^/api/repos/create$"),
    "validate-yaml": ("POST", r"^/api/validate-yaml$"),
    "preupload": ("POST", r"/preupload/"),
    "xet-write-token": ("GET", r"/xet-write-token/"),
    "chunks": ("GET", r"/v1/chunks/"),
    "xorb-grants": ("POST", r"/v1/xorb-grants/"),
    "xorbs": ("POST", r"/v1/xorbs/"),
    "shards v2": ("POST", r"/v2/shards$"),
    "shards": ("POST", r"/v1/shards$"),
    "commit": ("POST", r"/commit/main$"),
    "resolve HEAD": ("HEAD", r"/resolve/"),
    "resolve": ("GET", r"/resolve/"),
    "xet-read-token": ("GET", r"/xet-read-token/"),
    "reconstructions": ("GET", r"/v2/reconstructions/"),
    "xorb bytes": ("GET", r"/-/xorbs/"),
    "tag": ("POST", r"/tag/"),
    "settings": ("PUT", r"/settings$"),
    "collections": ("GET", r"^/api/collections$"),
    "new collection": ("POST", r"^/api/collections$"),
    "collection": ("GET", r"^/api/collections/[^/]+/[^/]+$"),
    "item": ("POST", r"/items$"),
    "telemetry": ("POST", r"/v1/telemetry$"),
}
LATER = {
    "repo",
    "create",
    "commit",
    "tag",
    "settings",
    "item",
}  # classes whose last request is another one than the first
RUNS = 4  # until what was disturbed must have converged


def kinds(log: list[list[Any]]) -> dict[str, int]:
    """How often each class of request is in the log of a release.

    Raises:
        LookupError: A request belongs to none.
    """
    counts: dict[str, int] = {}
    for method, path, _, _ in log:
        names = [name for name, (verb, pattern) in CLASSES.items() if verb == method and re.search(pattern, path)]
        if len(names) != 1:
            raise LookupError(f"{method} {path} is in {names or 'no class'}")
        counts[names[0]] = counts.get(names[0], 0) + 1
    return counts


def cases(counts: dict[str, int]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every fault from the first request of every class on, and for some from the last one on, when much is done already."""
    for kind, count in counts.items():
        method, path = CLASSES[kind]
        for name, fault in FAULTS.items():
            if fault["action"] == "spoil" and method not in ("POST", "PUT"):
                continue
            for position, nth in {"first": 1, "last": count}.items():
                if position == "first" or (kind in LATER and count > 1):
                    yield (
                        f"{kind}, {position}",
                        name,
                        fault | {"method": method, "path": path, "nth": nth, "times": 10_000},
                    )


def disturb(
    family: Family, endpoint: str, log: Path, fault: dict[str, Any], expected: dict[str, Any]
) -> tuple[str, str]:
    """How the attempt that meets the fault ends, and what is wrong in the end; nothing where it converges."""
    disturbed.clear(family, endpoint)
    attempt = disturbed.Attempt(family, endpoint, log)
    disturbed.ask(endpoint, "/_test/faults", "POST", [fault])
    end = first = attempt.run()
    (met,) = disturbed.ask(endpoint, "/_test/faults")
    disturbed.ask(endpoint, "/_test/faults", "POST", [])
    runs = 1
    while runs == 1 or (end != disturbed.DONE and runs < RUNS):
        end, runs = attempt.run(), runs + 1
    wrong = [first] if first in (disturbed.BROKEN, disturbed.HUNG) else []
    wrong += ["not met"] if met["seen"] < met["nth"] else []
    wrong += [f"ends with {end}"] if end != disturbed.DONE else []
    wrong += ["another end"] if disturbed.found(family, endpoint) != expected else []
    return first, ", ".join(wrong)


def try_part(part: int, parts: int, only: str = "") -> dict[str, Any]:
    """Every `parts`-th fault, on a Hub of its own, with a line for each: what became of each class, and names of what diverged."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir=disturbed.MEMORY) as folder:
        log, family = Path(folder) / "said", built.family()
        with running_faulty_hub(Path(folder) / "hub", disturbed.ACCOUNTS) as (endpoint, _):
            disturbed.ask(endpoint, "/_test/log", "DELETE")
            if disturbed.Attempt(family, endpoint, log).run() != disturbed.DONE:
                raise RuntimeError(f"an undisturbed release: {log.read_text()}")
            counts, expected = kinds(disturbed.ask(endpoint, "/_test/log")), disturbed.found(family, endpoint)
            disturbed.clear(family, endpoint)
            disturbed.ask(endpoint, "/_test/complete", "POST", disturbed.whole(expected))
            chosen = [case for case in cases(counts) if re.search(only, f"{case[0]}: {case[1]}")]
            rows: dict[str, dict[str, int]] = {}
            names = []
            for number, (kind, name, fault) in list(enumerate(chosen, 1))[part::parts]:
                log.write_text("")
                first, wrong = disturb(family, endpoint, log, fault, expected)
                row = rows.setdefault(kind.partition(",")[0], {"tried": 0, "converged": 0})
                row["tried"] += 1
                row["converged"] += not wrong
                print(f"{number}/{len(chosen)} {kind}: {name}: {first}{'; ' + wrong if wrong else ''}", flush=True)
                if wrong:
                    names.append(f"{kind}: {name}: {wrong}")
                    print("\n".join(f"    {line}" for line in log.read_text().splitlines()[-4:]), flush=True)
            watched = disturbed.ask(endpoint, "/_test/incomplete")
    return {"rows": rows, "names": names, "looks": watched["looks"], "incomplete": watched["seen"]}


def main(arguments: list[str] | None = None) -> int:
    """Try every fault, or those whose name holds `--only`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, help="a folder with a build/ of the demo family, instead of a tiny new one"
    )
    parser.add_argument("--only", default="", help="a regular expression for CLASS, PLACE: FAULT")
    parser.add_argument("--jobs", type=int, default=disturbed.jobs())
    args = parser.parse_args(arguments)
    with disturbed.staged(args.work):
        result = disturbed.in_parts(args.jobs, lambda part: try_part(part, args.jobs, args.only))
    return disturbed.report("faults", result)


if __name__ == "__main__":
    sys.exit(main())
