"""The forms of a released model, each scored as its users would load it: what `export` and `verify` compare."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.family import Family
from release.files import write_atomic
from release.results.export import FormParity

Pair = tuple[str, str]

PAIRS = 64
PAIRS_FILE = "pairs.json"  # beside a model that was fine-tuned
BATCH = 8
CHARACTERS = 2_000  # of each text: the comparison is about numbers, not about long documents on a small machine
TOLERANCE = 1e-4  # of the largest score's size, or of 1. Rounding in float32 alone is near 1e-6; on a busy machine 4e-5
# was once seen between two runs of the same weights. A form with a wrong head or frequency is off by far more.


@contextmanager
def quiet() -> Generator[None]:
    """Hold back progress bars and notes of the libraries: each form would report the other forms' keys."""
    import logging
    import warnings

    from transformers.utils import logging as notes

    verbosity = notes.get_verbosity()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        notes.set_verbosity(verbosity)
        notes.enable_progress_bar()


def sample_pairs(family: Family, count: int = PAIRS) -> list[Pair]:
    """`count` real pairs, evenly spread over the mixture's validation split, or over training rows without one.

    Raises:
        ReleaseError: The family has no scored mixture, or one with too few rows.
    """
    import pyarrow.parquet as parquet

    file = _pairs_file(family.build / "data/mixture", family.data.validation)
    table = parquet.ParquetFile(file).read_row_group(0, columns=["query", "document"])
    if table.num_rows < count:
        raise ReleaseError(f"{table.num_rows} rows, but {count} are compared", where=str(file), hint="make score")
    rows = table.take([index * table.num_rows // count for index in range(count)]).to_pylist()
    return [(row["query"][:CHARACTERS], row["document"][:CHARACTERS]) for row in rows]


def _pairs_file(mixture: Path, validation: str) -> Path:
    for pattern in (f"{validation}/validation-*.parquet", "*/validation-*.parquet", "*/train-*.parquet"):
        if files := sorted(mixture.glob(pattern)):
            return files[0]
    raise ReleaseError("no scored pairs to compare the forms on", where=str(mixture), hint="make score")


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Keep at most PAIRS of `pairs`, evenly spread, for a model without a mixture of its family."""
    count = min(PAIRS, len(pairs))
    chosen = [pairs[place * len(pairs) // count] for place in range(count)]
    cut = [(query[:CHARACTERS], document[:CHARACTERS]) for query, document in chosen]
    write_atomic(path, json.dumps(cut, ensure_ascii=False))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs that `write_pairs` kept.

    Raises:
        ReleaseError: They are not there.
    """
    try:
        return [(query, document) for query, document in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        raise ReleaseError("no pairs to compare the forms on", where=str(path), hint="run finetune again") from error


def differences(
    reference: Sequence[float], model: str, pairs: Sequence[Pair], score: dict[str, Scorer] | None = None
) -> list[FormParity]:
    """Each form of `model` (a folder): the largest difference of its scores to `reference`, and how much is allowed.

    Raises:
        ReleaseError: A form differs by more than its tolerance; the form and the difference are named.
    """
    scale = max(1.0, *map(abs, reference))
    forms = []
    for form, scorer in (score or SCORERS).items():
        difference = max(abs(a - b) for a, b in zip(reference, scorer(model, pairs), strict=True))
        tolerance = TOLERANCE * scale
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
