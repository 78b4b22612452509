"""`make kills`: publisher, verifier and Hub are killed at random moments; one undisturbed run must end like an undisturbed release.

A Hub that was killed is started again over its folder, in which every hash must agree. The last line is JSON: `tried`, `converged`,
`diverged`; with `names` of what diverged, `looks` at the Hub after its writes, and what any of them saw `incomplete` in public or
under a tag.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from release.family import Family
from release.localhub import fsck
from tests import built
from tests.hub import disturbed
from tests.localhub.faults import running_faulty_hub

WHO = ("publisher", "verifier", "hub while publishing", "hub while verifying")


class Kills:
    """Tries kills over a Hub in `root`."""

    def __init__(self, family: Family, root: Path, log: Path) -> None:
        self.family, self.root, self.log = family, root, log
        self.looks, self.incomplete = 0, []
        with running_faulty_hub(root, disturbed.ACCOUNTS) as (endpoint, _):
            times: list[float] = []
            begin = time.monotonic()
            end = disturbed.Attempt(family, endpoint, log).run(lambda _: times.append(time.monotonic()))
            if end != disturbed.DONE:
                raise RuntimeError(f"an undisturbed release ends with {end}: {log.read_text()}")
            now = time.monotonic()
            self.seconds = (times[1] - begin, now - times[1])  # of the publisher and of the verifier
            self.expected = disturbed.found(family, endpoint)
            disturbed.clear(family, endpoint)

    def kill(self, who: str, moment: float) -> str:
        """What is wrong after a kill `moment` of the way (0 to 1) through what it interrupts, and one undisturbed run."""
        self.log.write_text("")
        part = 1 if "verif" in who else 0
        after, wrong = moment * self.seconds[part], []
        with running_faulty_hub(self.root, disturbed.ACCOUNTS) as (endpoint, _):
            disturbed.clear(self.family, endpoint)
            self._watch(endpoint)
            first = self._attempt(endpoint, who, part, after)
            if not who.startswith("hub"):
                wrong += self._again(endpoint)
        if who.startswith("hub"):
            wrong += fsck(self.root).problems
            with running_faulty_hub(self.root, disturbed.ACCOUNTS) as (endpoint, _):
                self._watch(endpoint)
                wrong += self._again(endpoint)
        wrong += [first] if first in (disturbed.BROKEN, disturbed.HUNG) else []
        print(f"{who} after {after:.2f} s: {first}{'; ' + ', '.join(wrong) if wrong else ''}", flush=True)
        return ", ".join(wrong)

    def _attempt(self, endpoint: str, who: str, part: int, after: float) -> str:
        numbers: list[int] = []
        timers: list[threading.Timer] = []

        def begin(number: int) -> None:
            numbers.append(number)
            if len(numbers) == part + 1:
                victim = int((self.root / ".lock").read_text()) if who.startswith("hub") else number
                timers.append(threading.Timer(after, _kill, (victim,)))
                timers[-1].start()

        end = disturbed.Attempt(self.family, endpoint, self.log).run(begin)
        for timer in timers:
            timer.cancel()
            timer.join()
        return end

    def _again(self, endpoint: str) -> list[str]:
        """One undisturbed run, and what is wrong after it."""
        end = disturbed.Attempt(self.family, endpoint, self.log).run()
        wrong = [] if end == disturbed.DONE else [f"ends with {end}"]
        wrong += [] if disturbed.found(self.family, endpoint) == self.expected else ["another end"]
        watched = disturbed.ask(endpoint, "/_test/incomplete")
        self.looks += watched["looks"]
        self.incomplete += watched["seen"]
        return wrong

    def _watch(self, endpoint: str) -> None:
        disturbed.ask(endpoint, "/_test/complete", "POST", disturbed.whole(self.expected))


def _kill(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def try_part(part: int, parts: int, count: int, seed: int) -> dict[str, Any]:
    """Every `parts`-th of `count` kills, each victim as often as the others, with a line for each."""
    with tempfile.TemporaryDirectory(prefix="kills-", dir=disturbed.MEMORY) as folder:
        log = Path(folder) / "said"
        kills, names = Kills(built.family(), Path(folder) / "hub", log), []
        rows = {who: {"tried": 0, "converged": 0} for who in WHO}
        for number in range(part, count, parts):
            who = WHO[number // parts % len(WHO)]
            wrong = kills.kill(who, random.Random(f"{seed} {number}").random())
            rows[who]["tried"] += 1
            rows[who]["converged"] += not wrong
            if wrong:
                names.append(f"{who}, kill {number} of seed {seed}: {wrong}")
                print("\n".join(f"    {line}" for line in log.read_text().splitlines()[-4:]), flush=True)
    return {"rows": rows, "names": names, "looks": kills.looks, "incomplete": kills.incomplete}


def main(arguments: list[str] | None = None) -> int:
    """Try kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, help="a folder with a build/ of the demo family, instead of a tiny new one"
    )
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=disturbed.jobs())
    args = parser.parse_args(arguments)
    with disturbed.staged(args.work):
        result = disturbed.in_parts(args.jobs, lambda part: try_part(part, args.jobs, args.count, args.seed))
    return disturbed.report("kills", result)


if __name__ == "__main__":
    sys.exit(main())
