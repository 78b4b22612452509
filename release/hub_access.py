"""What an error of the Hub's client means, in words: an invalid token, a gate, a repository that is not there, no network."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from release.errors import ReleaseError

NETWORK = {"httpx2", "httpx", "httpcore", "requests", "urllib3", "aiohttp"}  # whose errors are the network's
NO_HUB = "look at HF_ENDPOINT, and at what is between here and there"
Kind = Literal["token", "gated", "absent", "revision", "offline", "unreachable", "refused"]


class Reason(NamedTuple):
    """Why something on a Hub cannot be fetched.

    Attributes:
        kind: `token`, `offline` and `unreachable` are the same for every repository, the others are about one.
        what, hint: As in a ReleaseError.
    """

    kind: Kind
    what: str
    hint: str


def reason(error: BaseException, name: str = "") -> Reason | None:
    """What the client says about the repository `name`, None where the error, or what caused it, is not the Hub's.

    Libraries wrap the client's errors, so causes are looked at too.
    """
    from huggingface_hub import constants, errors  # `release --help` reads this module too

    hub = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    about = name or "the repository"
    chain = list(_causes(error))
    for each in chain:
        status = getattr(getattr(each, "response", None), "status_code", None)
        match each:
            case errors.GatedRepoError():
                data = "/datasets/" in str(getattr(each.response, "url", ""))
                return _gated(about, f"{hub}/{'datasets/' * data}{name}")
            case errors.RepositoryNotFoundError():
                hint = "correct the name, or log in with a token that may read it"
                return Reason("absent", f"{about} is not on {hub}, or it is private", hint)
            case errors.RevisionNotFoundError():
                return Reason("revision", f"the pinned commit of {about} is gone", "pin one that exists")
            case errors.OfflineModeIsEnabled():
                hint = "unset HF_HUB_OFFLINE, or fetch it first with `hf download`"
                return Reason("offline", "the client is offline (HF_HUB_OFFLINE)", hint)
            case errors.HfHubHTTPError() if status == 401:
                hint = "export another HF_TOKEN, hf auth login, or unset it: what is public needs none"
                return Reason("token", f"the token is not valid at {hub}", hint)
            case errors.HfHubHTTPError() if status == 403 or (status or 0) >= 429:
                return Reason("refused", f"{hub} answers {status} about {about}", "run it again")
    for each in chain:
        if type(each).__name__ == "DatasetNotFoundError" and "gated dataset" in str(each):  # datasets drops the cause
            return _gated(about, f"{hub}/datasets/{name}")
        if type(each) is ConnectionError or type(each).__module__.split(".")[0] in NETWORK:
            hint = "look at the network and HF_ENDPOINT, and run the same command again: what is done is kept"
            return Reason("unreachable", f"{hub} cannot be reached ({type(each).__name__})", hint)
        if isinstance(each, ValueError | LookupError | TypeError | AttributeError) and _in_client(each):
            return Reason("refused", f"{hub} does not answer as a Hub does about {about}", NO_HUB)
    return None


def _gated(about: str, page: str) -> Reason:
    hint = f"accept the conditions on {page}, with the account of your token, and export HF_TOKEN"
    return Reason("gated", f"{about} is gated, and this token has no access to it", hint)


def _in_client(error: BaseException) -> bool:
    """Whether the client raised it while it read an answer: a page with status 200 is none, nor is an empty mapping."""
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return any("huggingface_hub" in Path(file).parts for file in files)


def refusal(error: BaseException, name: str, where: str | None = None) -> ReleaseError | None:
    """What to raise where a token is not valid or a gate is closed, which is neither absent nor unreachable; else None."""
    why = reason(error, name)
    return (
        ReleaseError(why.what, where=where or name, hint=why.hint) if why and why.kind in ("token", "gated") else None
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]
