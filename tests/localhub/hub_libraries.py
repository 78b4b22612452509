"""`datasets` and `sentence_transformers` against the Hub, as a script: run by test_client.py.

Prints one JSON object with what was pushed and what came back.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, load_dataset
from huggingface_hub import HfApi
from sentence_transformers import CrossEncoder

PAIRS = [("what is a tag", "a name for a commit"), ("what is tea", "a drink")]


def main(namespace: str, model: str) -> dict[str, Any]:
    """Push data and a model, tag them, and load them back."""
    api, facts = HfApi(), {}
    data, repo = f"{namespace}/pairs", f"{namespace}/reranker"
    features = Features({"query": Value("string"), "document": Value("string"), "label": Value("float32")})
    rows = {"query": [f"q{i}" for i in range(50)], "document": ["d"] * 50, "label": [0.5] * 50}
    train = Dataset.from_dict(rows, features=features)
    DatasetDict(train=train, test=train.select([0])).push_to_hub(data, config_name="easy")
    train.select([0, 1]).push_to_hub(data, config_name="hard", split="train")
    api.create_tag(data, tag="v1.0", repo_type="dataset")
    facts["splits"] = {name: len(split) for name, split in load_dataset(data, "easy").items()}
    facts["streamed"] = next(iter(load_dataset(data, "easy", split="train", streaming=True)))
    facts["by tag"] = len(load_dataset(data, "hard", split="train", revision="v1.0"))
    reranker = CrossEncoder(model, device="cpu")
    reranker.push_to_hub(repo, exist_ok=True)
    api.create_tag(repo, tag="v1.0")
    facts["scores"] = reranker.predict(PAIRS).tolist()
    facts["loaded"] = CrossEncoder(repo, device="cpu").predict(PAIRS).tolist()
    facts["by revision"] = CrossEncoder(repo, revision="v1.0", device="cpu").predict(PAIRS).tolist()
    return facts


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
