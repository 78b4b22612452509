"""The accounts of the Hub that preflight asks."""

from __future__ import annotations

from release.localhub import Account

ORGANIZATIONS = ("acme", "google", "lightonai", "mixedbread-ai", "mteb", "sentence-transformers")
UPSTREAM = Account("upstream", "hf_upstream_owns_all", ORGANIZATIONS)
READER = Account("reader", "hf_reader_owns_nothing", ())
