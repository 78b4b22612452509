"""Anything that scores (query, document) pairs, with what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import try_to_load_from_cache

from release import data_manifest, hub_access
from release.console import Bar
from release.data_manifest import asks_teacher
from release.errors import CannotRun, ReleaseError
from release.evaluation import forms
from release.family import Family
from release.revisions import model_revision
from release.teachers.cross_encoder import limit_length
from release.teachers.load import load_teacher

Pairs = Sequence[tuple[str, str]]
_BLOCK = 1024  # pairs between two steps of the progress bar


@dataclass(frozen=True)
class Reranker:
    """A pointwise reranker and all that its scores depend on.

    Attributes:
        name: Hub id, or a local name.
        revision: A content hash or a commit: another revision is another model.
        predict: Pairs -> raw logits, float32 of shape (pairs,).
        dtype: The type of the weights that were really loaded.
        max_length: Tokens of a pair that are read, None where nothing is cut.
        attention: The attention implementation.
        device: The accelerator's name, or "CPU".
        parameters: Counted on what was loaded; None for a reranker that is no single model.
        model: The CrossEncoder that scores, if it is one.
        form: What makes a score of its output, in a few words.
        commit: Of a teacher, whose `revision` is a hash of all that its labels depend on.
    """

    name: str
    revision: str
    predict: Callable[[Pairs], np.ndarray]
    dtype: str = "float32"
    max_length: int | None = None
    attention: str = "none"
    device: str = "CPU"
    parameters: int | None = None
    model: Any = None
    form: str | None = None
    commit: str | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a score, for cache keys."""
        return {
            "reranker": self.name,
            "revision": self.revision,
            "dtype": self.dtype,
            "max_length": self.max_length,
            "attention": self.attention,
        }


def load(
    source: str,
    *,
    name: str | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
    revision: str | None = None,
    remote_code: bool = False,
) -> Reranker:
    """Load a CrossEncoder, unpadded where its architecture allows it, and read what was loaded from the weights.

    Args:
        source: A folder or a Hub id.
        name: What to call it; the source's own name if left out.
        dtype: "float32" or "bfloat16"; bfloat16 on CUDA and float32 on a CPU if left out.
        max_length: Tokens of a pair that are read at most; the model's own limit where that is less, or if left out.
        revision: Of a Hub id; that of its documented form if left out.
        remote_code: Whether code from the repository may run.

    Raises:
        CannotRun: It is not run here, or is of another form than the documented one (release/evaluation/forms.toml).
        ReleaseError: No such model, no single score per pair, or weights of another type than asked for.
    """
    import torch

    if not source:
        raise ReleaseError("no model is named", hint="give a folder or a Hub id")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype or ("bfloat16" if device == "cuda" else "float32")
    where_from = forms.where_from(source, revision, remote_code=remote_code)
    revision = where_from["revision"]
    model = _cross_encoder(source, device, dtype, where_from)
    limit_length(model, max_length)
    kinds = getattr(model[0].model.config, "architectures", None) or []
    if model[0].transformer_task == "sequence-classification" and not any("Classification" in kind for kind in kinds):
        raise ReleaseError(  # the library only warns, and its scores look plausible
            f"a {' '.join(kinds) or 'model'} has no head that scores: it would be a random one",
            where=source,
            hint="give a trained CrossEncoder",
        )
    if kinds_of(model)[-1] == "LogitScore" and not _has_modules(source, revision):
        # Without it the library compares "yes" and "no" and asks nothing, whatever the model was trained to answer.
        what = "a causal reranker without modules.json: nothing says what it is asked and which tokens it answers with"
        raise CannotRun(what, where=source, hint="give a model that has one")
    forms.check(source, model)
    if model.num_labels != 1:
        raise ReleaseError(
            f"a reranker gives one score per pair, this model {model.num_labels}",
            where=source,
            hint="choose a CrossEncoder with one label",
        )
    model.activation_fn = torch.nn.Identity()  # a sigmoid saturates, and saturated scores tie
    predict, attention = _fastest(model, device)
    check_dtype(model, dtype)
    return Reranker(
        name=name or (Path(source).resolve().name if Path(source).is_dir() else source),
        revision=model_revision(source, revision),
        predict=predict,
        dtype=dtype,
        max_length=model.max_seq_length,
        attention=attention,
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        parameters=parameters(model),
        model=model,
        form=forms.describe(model),
    )


def _cross_encoder(source: str, device: str, dtype: str, where_from: dict[str, Any]) -> Any:
    from sentence_transformers import CrossEncoder

    if dtype not in ("float32", "bfloat16", "float16"):
        raise ReleaseError(f"unknown dtype {dtype!r}", hint="one of float32, bfloat16, float16")
    try:
        return CrossEncoder(source, device=device, model_kwargs={"dtype": dtype}, **where_from)
    except OSError as error:
        fetch = f"run where the Hub can be reached, or first `hf download {source}`"
        hint = "give a saved model's folder" if Path(source).exists() else fetch
        otherwise = ReleaseError(f"no CrossEncoder there ({_one_line(error)})", where=source, hint=hint)
        raise hub_access.refusal(error, source) or otherwise from error
    except (ImportError, MemoryError):
        raise  # nothing is wrong with the model
    except Exception as error:  # settings, modules, weights and tokenizer each have errors of their own
        of_weights = any(mark in str(error) for mark in ("ignore_mismatched_sizes", "loading state_dict"))
        if isinstance(error, RuntimeError) and not of_weights:
            raise  # memory, or a driver
        what, hint = f"no CrossEncoder there ({_one_line(error)})", "give a model that Sentence Transformers can run"
        raise CannotRun(what, where=source, hint=hint) from error


def load_size(family: Family, size: str, *, dtype: str | None = None, folder: Path | None = None) -> Reranker:
    """One size of a family under the name of its repository, from its `model/` or from another folder of its checkpoints."""
    return load(str(folder or family.folder(size) / "model"), name=family.model_id(size), dtype=dtype)


def load_named(family: Family, name: str, *, dtype: str | None = None) -> Reranker:
    """A public reranker as the family's table `[models]` says that it is run."""
    how = family.model(name)
    return load(name, dtype=dtype, max_length=how.max_length, revision=how.revision, remote_code=how.remote_code)


def kinds_of(model: Any) -> list[str]:
    """The modules of a CrossEncoder, by the names of their classes."""
    return [type(module).__name__ for module in model]


def _has_modules(source: str, revision: str | None) -> bool:
    folder = Path(source)
    if folder.is_dir():
        return (folder / "modules.json").is_file()
    return isinstance(try_to_load_from_cache(source, "modules.json", revision=revision), str)


def parameters(model: Any) -> int:
    """How many numbers a model learnt, shared ones once."""
    return sum(weight.numel() for weight in model.parameters())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _fastest(model: Any, device: str) -> tuple[Callable[[Pairs], np.ndarray], str]:
    """The fastest exact way to score with this model on this device: unpadded where it can be."""
    from release.runtime import unpadded

    try:
        unpadded.unpad(model)
    except ValueError:  # another architecture: padded, as Sentence Transformers does it
        batch = 128 if device == "cuda" else 32
        return lambda pairs: model.predict(list(pairs), batch_size=batch, show_progress_bar=False), (
            f"{attention_of(model)}, padded"
        )
    budget = 65_536 if device == "cuda" else 2_048  # larger batches are slower on a CPU's caches
    return lambda pairs: unpadded.predict(model, pairs, token_budget=budget), "unpadded"


def attention_of(model: Any) -> str:
    """The attention implementation that a CrossEncoder really runs with, by transformers' name for it."""
    return str(model[0].model.config._attn_implementation)


def check_dtype(model: Any, dtype: str) -> None:
    """Assert that the encoder's weights are what the record will say; the scoring head may stay in float32.

    Raises:
        ReleaseError: They are not.
    """
    types = {str(weight.dtype).removeprefix("torch.") for weight in model[0].parameters()}
    if types != {dtype}:
        raise ReleaseError(
            f"the weights are {', '.join(sorted(types))}, not {dtype}",
            hint="load the model in the dtype to be measured",
        )


def teacher_as_reranker(family: Family, dtype: str | None = None) -> Reranker:
    """The family's teacher, exactly as it labelled the mixture, for the table beside what was distilled from it.

    Args:
        dtype: Another one than it labels with, for a table that is in that dtype; a stand-in has its own.

    Raises:
        ReleaseError: It cannot be loaded here, the training pairs that the stand-in counts words in are missing, or it
            is no longer the teacher that labelled the mixture.
    """
    teacher: Any = load_teacher(family, family.pairs_folder, dtype)
    if dtype is None:
        _check_labelled(family, teacher.identity)
    if family.teacher.kind == "stand-in":
        _share_encoder(teacher, family)
    identity = json.dumps(teacher.identity, sort_keys=True)
    return Reranker(
        name=teacher.identity["model"],
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        predict=lambda pairs: teacher.predict(list(pairs)),
        dtype=teacher.identity["dtype"],
        max_length=teacher.identity["max_length"],
        attention="the teacher's own",
        form=teacher.identity.get("form"),
        commit=teacher.identity["revision"],
        parameters=None if family.teacher.kind == "stand-in" else parameters(teacher.model),
    )


def _check_labelled(family: Family, identity: dict[str, Any]) -> None:
    mixture = data_manifest.find(family.mixture_folder)
    if mixture is None:
        return  # a mixture from the Hub: its card names the teacher
    if not any(asks_teacher(entry) for entry in mixture["configs"].values()):
        return  # every label came with the sources
    labelled = mixture.get("teacher")
    if labelled and labelled != identity:
        differs = sorted(key for key in {*labelled, *identity} if labelled.get(key) != identity.get(key))
        raise ReleaseError(
            f"this teacher is not the one that labelled the mixture (other {', '.join(differs)})",
            where=str(family.mixture_folder / data_manifest.NAME),
            hint="make score, then make train",
        )


def _share_encoder(teacher: Any, family: Family) -> None:
    """Let the stand-in use the first stage's MiniLM and its vectors, so that neither encodes a text again."""
    from release.evaluation.first_stage import packaged_minilm  # late: mteb takes seconds to import
    from release.evaluation.retrievers import VECTORS, shared_minilm

    shared = shared_minilm()
    if (shared.dtype, shared.max_length) == (teacher.minilm.dtype, teacher.minilm.max_length):
        teacher.minilm = shared
        if family.evaluation.packaged_embedders:
            shared.restore(family.build / "runs" / packaged_minilm().slug / VECTORS)


def predict_sorted(reranker: Reranker, pairs: Pairs) -> np.ndarray:
    """Score pairs longest first (memory runs out at once or never) under a progress bar, in their own order.

    Raises:
        ReleaseError: A score is not a finite number.
    """
    scores = np.empty(len(pairs), dtype=np.float32)
    order = sorted(range(len(pairs)), key=lambda index: -len(pairs[index][0]) - len(pairs[index][1]))
    with Bar(f"{reranker.name}: pairs", len(pairs)) as bar:
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            scores[block] = reranker.predict([pairs[index] for index in block])
            bar.advance(len(block))
    if not np.isfinite(scores).all():
        raise ReleaseError("the model gives scores that are not numbers", where=reranker.name, hint="train it again")
    return scores
