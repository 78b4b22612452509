"""What a release still misses on this machine, said before hours are spent; and what a run would do and publish."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

from release import options
from release.errors import ReleaseError
from release.family import Family, load
from release.files import resource
from release.rehearsal import mode


def command(size: options.Size, family: options.Family = options.ETTIN, push: options.Push = False) -> None:
    """Raise one error that names everything missing, or say that nothing is."""
    facts = load(family)
    facts.size(size)
    found = list(missing(facts, size, push=push))
    if found:
        lines = "\n".join(f"  - {what}\n    hint: {hint}" for what, hint in found)
        raise ReleaseError(f"a release of {facts.model_id(size)} cannot start here, {len(found)} missing:\n{lines}")
    print(f"nothing is missing for a release of {facts.model_id(size)}")


def missing(family: Family, size: str, *, push: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (what is missing, how to get it) for one size: encoder, teacher and data, device, and Hub when pushing."""
    wanted = family.size(size)
    trained = (family.folder(size) / "records/run.json").is_file()
    mixed = (family.build / "data/mixture/manifest.json").is_file()
    if not trained and not resource(wanted.encoder).is_dir() and not _reachable(wanted.encoder):
        yield f"no encoder {wanted.encoder!r}", "connect to the Hub once, or name a local folder in [sizes]"
    if not mixed and family.teacher.kind != "stand-in" and not _reachable(family.teacher.model):
        yield (
            f"no training data, and no teacher {family.teacher.model!r} to make it",
            "connect to the Hub, then make score",
        )
    if mode.active():
        pass  # a CPU stands for the device
    elif family.speed.device != "CPU" and not (gpus := devices()):
        yield "no CUDA device", f"run it on a machine with an {family.speed.device} (nvidia-smi must list it)"
    elif family.speed.device != "CPU" and not any(family.speed.device in gpu for gpu in gpus):
        yield f"no {family.speed.device} (here: {', '.join(gpus)})", "an official card's speed is measured on one"
    if push and not os.environ.get("HF_ENDPOINT"):
        yield "no endpoint", "export HF_ENDPOINT=https://huggingface.co, or the address that make hub prints"
    if not has_token():
        yield "no token", "export HF_TOKEN=hf_... (a token with write access), or hf auth login"


def has_token() -> bool:
    """Whether the client would find a token, in the environment or from a login. The token itself is not kept."""
    from huggingface_hub import get_token

    return bool(get_token())


def devices() -> list[str]:
    """The names of the NVIDIA devices that the driver lists; none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[:-1]


def _reachable(repo: str) -> bool:
    """Whether the model is in the local cache or the Hub answers for it."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(repo, "config.json"), str):
        return True
    try:
        HfApi().model_info(repo, timeout=10)
    except Exception:  # no network, no such repo, no access: all mean that it cannot be had
        return False
    return True
