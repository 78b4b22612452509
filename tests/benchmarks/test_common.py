"""The plain side of the benchmarks is what Sentence Transformers does by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import common
from release.runtime.unpadded import unpad
from tests.tiny import PAIRS, SENTENCES


def test_the_plain_side_is_padded_and_ours_is_not(tmp_path: Path) -> None:
    common.write_encoder(tmp_path, SENTENCES)
    plain, ours = common.reranker(tmp_path), unpad(common.reranker(tmp_path))
    assert plain[0].model.config._attn_implementation == "sdpa"
    assert plain.preprocess(PAIRS)["attention_mask"].shape[0] == len(PAIRS)
    assert ours.preprocess(PAIRS)["input_ids"].shape[0] == 1
    np.testing.assert_allclose(ours.predict(PAIRS), plain.predict(PAIRS), atol=1e-5)
