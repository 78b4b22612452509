"""The forms of a released model, each scored as its users would load it: what `export` and `verify` compare."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from release import mode
from release.errors import ReleaseError
from release.export.pairs import Pair
from release.results.export import FormParity

BATCH = 8
# Of the range of the scores, of the largest, or of 1: what rounding in float32 alone stays below. What is wrong is off by more.
TOLERANCE = 1e-5


def allowed(reference: Sequence[float], rehearsal: bool) -> float:
    """How far from `reference` scores may be to be called equal, in logits.

    Ten times that in a rehearsal: random heads give logits within 1, trained ones within 20.
    """
    return TOLERANCE * max(1.0, max(reference) - min(reference), *map(abs, reference)) * (10 if rehearsal else 1)


def differences(
    reference: Sequence[float], model: str, pairs: Sequence[Pair], score: dict[str, Scorer] | None = None
) -> list[FormParity]:
    """Each form of `model` (a folder): the largest difference of its scores to `reference`, and how much is allowed.

    Raises:
        ReleaseError: A form differs by more than its tolerance; the form and the difference are named.
    """
    tolerance = allowed(reference, mode.active())
    forms = []
    for form, scorer in (score or SCORERS).items():
        gc.collect()  # the model before this one, which refers to itself
        difference = max(abs(a - b) for a, b in zip(reference, scorer(model, pairs), strict=True))
        if not difference <= tolerance:  # also when it is not a number
            raise ReleaseError(
                f"{form} scores differ from the trained model's by {difference:.3g}, {tolerance:.1g} is allowed",
                where=model,
                hint="it must not be published: compare the versions of torch, transformers and onnxruntime",
            )
        forms.append(FormParity(form, difference, tolerance))
    return forms


def cross_encoder(model: str, pairs: Sequence[Pair]) -> list[float]:
    """Raw scores by Sentence Transformers in float32 on the CPU."""
    from sentence_transformers import CrossEncoder

    loaded = CrossEncoder(model, device="cpu", model_kwargs={"dtype": "float32"})
    return loaded.predict(list(pairs), batch_size=BATCH, show_progress_bar=False).tolist()


def sequence_classification(model: str, pairs: Sequence[Pair]) -> list[float]:
    """Raw scores by transformers' AutoModelForSequenceClassification in float32 on the CPU."""
    import torch
    from transformers import AutoModelForSequenceClassification

    loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        return [score for batch in _batches(model, pairs, "pt") for score in loaded(**batch).logits[:, 0].tolist()]


def onnx(model: str, pairs: Sequence[Pair]) -> list[float]:
    """Raw scores by onnxruntime on the CPU, from `onnx/model.onnx`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    session: Any = onnxruntime.InferenceSession(f"{model}/onnx/model.onnx", options, ["CPUExecutionProvider"])
    batches = _batches(model, pairs, "np")
    return [score for batch in batches for score in session.run(["logits"], dict(batch))[0][:, 0].tolist()]


def _batches(model: str, pairs: Sequence[Pair], tensors: str) -> Iterator[Any]:
    """Tokenized batches; the first holds one pair and the others `BATCH`, so that dynamic shapes are exercised."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    for start, end in [(0, 1), *((at, at + BATCH) for at in range(1, len(pairs), BATCH))]:
        queries, documents = zip(*pairs[start:end], strict=True)
        yield tokenizer(list(queries), list(documents), padding=True, truncation=True, return_tensors=tensors)


Scorer = Callable[[str, Sequence[Pair]], list[float]]
SCORERS: dict[str, Scorer] = {
    "CrossEncoder": cross_encoder,
    "AutoModelForSequenceClassification": sequence_classification,
    "ONNX": onnx,
}
