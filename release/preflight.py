"""What a release still misses on this machine, said before hours are spent; and what a run would do and publish."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from release import mode, options
from release.errors import ReleaseError
from release.family import Family, load
from release.files import resource


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
    if push:
        yield from publishing(family, size)


def publishing(family: Family, size: str) -> Iterator[tuple[str, str]]:
    """What stands between this token and the release: it is asked before days are spent, not after.

    Yields (what is missing, how to get it): an endpoint, a token, its right to write to the organisation, a free name.
    """
    endpoint, organization = os.environ.get("HF_ENDPOINT"), family.about.organization
    if not endpoint:
        yield "no endpoint", "export HF_ENDPOINT=https://huggingface.co, or the address that make hub prints"
    if not has_token():
        yield "no token", "export HF_TOKEN=hf_... (a token with write access), or hf auth login"
    if not (endpoint and has_token()):
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    try:
        account = api.whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401:
            yield f"the token is not known at {endpoint}", "export another HF_TOKEN, or hf auth login"
        else:
            yield f"{endpoint} does not say whose the token is ({status})", "run it again"
        return
    except Exception as error:  # the network has many errors
        yield f"{endpoint} cannot be reached ({type(error).__name__})", "connect to it, or name another HF_ENDPOINT"
        return
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        yield "the token may only read", "make one with the right to write"
    if organization not in {account["name"], *(each["name"] for each in account.get("orgs", []))}:
        hint = f"ask there for the right, or name your own organization in {family.path}"
        yield f"{account['name']} may not publish under {organization}", hint
    for name, kind in ((family.data_id, "dataset"), (family.model_id(size), "model")):
        if _taken(api, name, kind, family.about.version):
            what = f"{name} is public already, and without the tag {family.about.version} no release of this project"
            yield what, f"raise `version` in {family.path}, or choose another name"


def _taken(api: Any, name: str, kind: str, tag: str) -> bool:
    """Whether a public repository of this name is there that this project did not release."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        if api.repo_info(name, repo_type=kind).private:
            return False
    except RepositoryNotFoundError:
        return False
    return tag not in {ref.name for ref in api.list_repo_refs(name, repo_type=kind).tags}


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
