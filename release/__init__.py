"""The release house: what happens to a trained reranker until people can download it."""
