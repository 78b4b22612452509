"""From a released reranker and somebody's own data to a better one, measured before and after, as a release of its own."""
