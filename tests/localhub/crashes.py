"""A Hub that is ended before every one of its statements, flushes and renames: run by test_crashes.py.

`python -m tests.localhub.crashes FOLDER`, in a process of its own because it is small: a child of the tests' own process, where
torch is loaded, takes a tenth of a second to make and to end. The last line is JSON: the moments, and the states that were seen.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request

from release.localhub import fsck
from release.localhub.api.collections import add_item, create_collection, visible_collections
from release.localhub.http import RequestContext
from release.localhub.pulls import list_pulls, merge_pull, open_pull
from release.localhub.service import Hub
from release.localhub.storage.database import Database
from tests import forked
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, add_file

CRASHED = 77


def crash_at(moment: int, root: Path) -> None:
    """Release to a Hub in `root`, and end this process, as a kill would, before the `moment`-th statement, flush or rename."""
    count = 0

    def before(action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                os._exit(CRASHED)
            return action(*arguments, **options)

        return counted

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "replace"), (Database, "__call__")):
        setattr(owner, name, before(getattr(owner, name)))
    release(Hub(root, ACCOUNTS))


def release(hub: Hub) -> None:
    """Everything that changes what is on the disk, one after the other."""
    repo = hub.create("model", "acme/m", ALICE, private=False)
    add_file(hub, repo, "main", "a.txt", b"a")
    repo.add_ref("tags", "v1.0", repo.resolve("main").id)
    with repo.db.change():
        pull = open_pull(repo, "p", "", "alice")
        add_file(hub, repo, pull.ref, "b.txt", b"b")
    merge_pull(repo, pull.number, "alice")
    context = RequestContext(hub, Request({"type": "http", "method": "POST"}), ALICE, {"ns": "acme"})
    with hub.store.temporary_file() as context.body_path:
        context.body_path.write_text(json.dumps({"title": "T", "namespace": "acme"}))
        context.path_params["slug"] = create_collection(context)["slug"].partition("/")[2]
        context.body_path.write_text(json.dumps({"item": {"type": "model", "id": "acme/m"}, "note": "n"}))
        add_item(context)
    hub.delete(repo)


def state(hub: Hub) -> str:
    """What people can see, without ids and times that differ between runs."""
    rows = [
        (
            repo.id,
            sorted(repo.resolve("main").files),
            sorted(repo.refs("tags")),
            [(pull.title, pull.status) for pull in list_pulls(repo)],
        )
        for repo in hub.repos(ALICE)
    ]
    context = RequestContext(hub, Request({"type": "http", "method": "GET"}), ALICE, {})
    collections = [(row["title"], [item["id"] for item in row["items"]]) for row in visible_collections(context)]
    return json.dumps([rows, collections])


def main(folder: Path) -> tuple[int, set[str]]:
    """Crash at one moment after the other until there is none left; what is there afterwards is whole, and can be written to."""
    seen, moment, crashed = set(), 0, True
    while crashed:
        moment += 1
        root = folder / f"crash-{moment}"
        status = forked.wait(forked.start(functools.partial(crash_at, moment, root), folder))
        assert status in (0, CRASHED), "the release failed by itself"
        crashed = status == CRASHED
        again = Hub(root, ACCOUNTS)
        assert fsck(root).problems == [], moment
        seen.add(state(again))
        if again.repos(ALICE):
            add_file(again, again.find("model", "acme/m", ALICE), "main", "after.txt", b"after")
        else:
            again.create("model", "acme/m", ALICE, private=False)
        assert fsck(root).problems == [], moment
        shutil.rmtree(root)
    return moment, seen


if __name__ == "__main__":
    moments, states = main(Path(sys.argv[1]))
    print(json.dumps({"moments": moments, "seen": sorted(states)}))
