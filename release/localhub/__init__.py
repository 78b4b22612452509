"""The embedded Hub: publish for real, on loopback, with the real client, before anything is public.

It has what a release, its rehearsal and a user of a released model ask for: repos of models, data sets and spaces with
branches, tags, commits and pull requests; files through Xet and through git LFS; private and gated repos; moved repos
whose old ids lead to the new ones; cards and their rules; collections; lists; pages to look at.

What stays out, because none of these needs it; a client gets 404, or 501 where the real Hub would talk:

- talk: discussions without changes, comments, reviews, reactions, likes, follows, notifications, webhooks, papers;
- what the real Hub computes: downloads, trends, safetensors and GGUF summaries, security scans, the dataset viewer and
  its parquet copies, leaderboards, full-text search; lists are in one page of at most 1,000;
- what runs: spaces, jobs, inference, sandboxes; a space is only its files;
- accounts: sign-up, organisations, teams, resource groups, OAuth but for Trusted Publishers (trusted.py); accounts
  come from the command line;
- git itself: clone, fetch and push, multipart LFS, LFS downloads, listing and erasing LFS objects, diffs of lines;
- copies from one repo to another, repos without a namespace, and slugs that change with a collection's title;
- buckets, but for reading: a folder under ROOT/buckets is one, so that `hf skills add` works.
"""

from __future__ import annotations

from release.errors import ReleaseError

try:
    from release.localhub.app import create_app
    from release.localhub.auth import Account
    from release.localhub.fsck import Report, fsck
    from release.localhub.server import running_hub, serve
except ModuleNotFoundError as error:
    package = str(error.name).partition(".")[0]
    if package == "release":
        raise
    hint = "pip install 'ettin-release[localhub]'"
    raise ReleaseError(f"the embedded Hub needs the package {package}", hint=hint) from error

__all__ = ["Account", "Report", "create_app", "fsck", "running_hub", "serve"]
