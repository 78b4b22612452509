"""The release tooling: what happens to a trained reranker until people can download it."""
