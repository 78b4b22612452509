"""Eight clients at once, as a script: run by test_faults.py.

Prints one JSON object: the sha256 of what was sent, by repo and path.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import HfApi

CLIENTS = 8


def main(namespace: str) -> dict[str, dict[str, str]]:
    """Push to a repo of one's own and to one that all share, everybody at the same time."""
    work = Path(tempfile.mkdtemp())
    HfApi().create_repo(f"{namespace}/shared")

    def client(number: int) -> tuple[str, str]:
        api, folder = HfApi(), work / str(number)
        (folder / "weights").mkdir(parents=True)
        content = os.urandom(300_000)
        (folder / "weights" / f"{number}.safetensors").write_bytes(content)
        api.create_repo(f"{namespace}/own-{number}")
        api.upload_folder(repo_id=f"{namespace}/own-{number}", folder_path=folder)
        api.upload_folder(repo_id=f"{namespace}/shared", folder_path=folder, commit_message=f"from {number}")
        return f"weights/{number}.safetensors", hashlib.sha256(content).hexdigest()

    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = list(pool.map(client, range(CLIENTS)))
    own = {f"{namespace}/own-{number}": dict([pair]) for number, pair in enumerate(sent)}
    return own | {f"{namespace}/shared": dict(sent)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
