"""Embedders as first stages: through mteb's own loaders, so that the prompts and wrappers of its registry count.

The published tables were measured with mteb. Its registry names a revision, prompts (bge-small's sentence before a query,
nomic's two prefixes) and wrappers (nomic's layer norm); a family may name others in its table `[models]`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from mteb.models import SentenceTransformerEncoderWrapper
from mteb.models.get_model_meta import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta

from release import hub_access
from release.errors import ReleaseError
from release.family import ModelConfig
from release.hub_access import Reason
from release.revisions import MARKS

PLAIN = SentenceTransformerEncoderWrapper
ROLES = ("query", "document")


def registered(name: str) -> ModelMeta | None:
    """What mteb's registry says of a model, None where it does not know it."""
    return MODEL_REGISTRY.get(name)


def pinned(name: str, how: ModelConfig) -> str | None:
    """The commit at which an embedder is loaded: the family's, or the registry's; None where neither names one."""
    known = registered(name)
    return how.revision or (known.revision if known else None)


def prompts(name: str, how: ModelConfig) -> dict[str, str] | None:
    """What stands before queries and documents, None where the model's own repository says it."""
    known = registered(name)
    given: dict[str, str] = {**(how.prompts or {})}
    return given or (known.loader_kwargs.get("model_prompts") if known else None)


def described(name: str, commit: str, how: ModelConfig) -> str:
    """All that a run of this embedder depends on, in a line: its commit, and what is not as its repository says."""
    given, known = prompts(name, how) or {}, registered(name)
    parts = [commit, *(f"{role} {given[role]!r}" for role in ROLES if role in given)]
    wrapper = _loader(known)
    parts += [wrapper.__name__] if wrapper is not PLAIN else []
    parts += [f"at most {how.max_length} tokens"] if how.max_length else []
    if how.remote_code or (known and known.loader_kwargs.get("trust_remote_code")):
        parts.append("with its own code" if how.remote_code else "without its own code")
    return ", ".join(parts)


def load(name: str, commit: str, how: ModelConfig) -> Any:
    """An embedder of the Hub in mteb's wrapper, in float32.

    Raises:
        ReleaseError: It is not in the cache and cannot be fetched, or it is a reranker, of which no weights are fetched.
    """
    check_kind(name, lambda file: _of_hub(name, commit, file))
    known, given = registered(name), prompts(name, how)
    options: dict[str, Any] = dict(known.loader_kwargs) if known else {}
    options |= {"model_prompts": given} if given else {}
    options |= {"model_kwargs": {"dtype": "float32"}, "trust_remote_code": how.remote_code}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # mteb says at length which prompts it takes: `described` does too
            wrapped = _loader(known)(name, revision=commit, **options)
    except (OSError, ValueError) as error:
        raise missing(name, commit, hub_access.reason(error, name)) from error
    if how.max_length:
        wrapped.model.max_seq_length = min(how.max_length, wrapped.model.max_seq_length or how.max_length)
    meta = known or wrapped.mteb_model_meta
    wrapped.mteb_model_meta = meta.model_copy(update={"name": name, "revision": commit})
    return wrapped


def load_folder(folder: Path, contents: str) -> Any:
    """A SentenceTransformer in a folder, in float32; `contents` is the hash that names it.

    Raises:
        ReleaseError: It is none, or a CrossEncoder, which would load as one that embeds in one dimension.
    """
    from sentence_transformers import SentenceTransformer

    check_kind(str(folder), lambda file: folder / file)
    try:
        wrapped = PLAIN(SentenceTransformer(str(folder), model_kwargs={"dtype": "float32"}, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise missing(str(folder)) from error
    meta = wrapped.mteb_model_meta.model_copy(update={"name": f"local/{folder.resolve().name}", "revision": contents})
    wrapped.mteb_model_meta = meta
    return wrapped


def check_kind(name: str, file: Callable[[str], Path]) -> None:
    """Refuse a reranker by its settings alone: a CrossEncoder says so, an older one is a sequence classifier without modules.

    Args:
        file: Where a file of the model's root is; one that is not there raises an OSError.

    Raises:
        ReleaseError: It is one.
    """

    def settings(path: str) -> Any:
        try:
            return json.loads(file(path).read_bytes())
        except (OSError, ValueError):
            return None

    own = settings("config_sentence_transformers.json")
    kind = own.get("model_type") if isinstance(own, dict) else None
    if kind is None and settings("modules.json") is None and isinstance(config := settings("config.json"), dict):
        classifies = str(config.get("architectures")).count("ForSequenceClassification")
        kind = "CrossEncoder" if classifies else None
    if kind == "CrossEncoder":
        what = "a reranker, whose one score of a text finds nothing"
        raise ReleaseError(what, where=name, hint="name an embedder: a SentenceTransformer, or bm25")


def _of_hub(name: str, commit: str, file: str) -> Path:
    """A file of a model's root, a few kB; where the model is in the cache no other is looked for."""
    cached = any(isinstance(try_to_load_from_cache(name, mark, revision=commit), str) for mark in MARKS)
    return Path(hf_hub_download(name, file, revision=commit, local_files_only=cached))


def missing(name: str, commit: str | None = None, why: Reason | None = None) -> ReleaseError:
    """What to raise where an embedder cannot be fetched; `why` is what the Hub says, if it was asked."""
    if why is not None and why.kind != "unreachable":
        return ReleaseError(f"the embedder {name} cannot be fetched: {why.what}", hint=why.hint)
    at = f" --revision {commit}" if commit else ""
    return ReleaseError(
        f"the embedder {name} is not here and cannot be fetched",
        hint=f"run where the Hub can be reached, or first `hf download {name}{at}`",
    )


def _loader(known: ModelMeta | None) -> Any:
    return known.loader if known and known.loader else PLAIN
