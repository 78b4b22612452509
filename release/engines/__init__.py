"""One repository, the same scores in every engine: each engine's own snippet, run in a process of its own and compared."""
