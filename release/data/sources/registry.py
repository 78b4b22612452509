"""Which reader opens which kind of source."""

from __future__ import annotations

from pathlib import Path

from release.data.sources import beir, retrieval, tabular
from release.data.sources.base import FAILURES, Source, unreadable
from release.spec import BeirSource, ConfigSpec, FileSource, HubRetrievalSource, HubSource, RetrievalSource


def open_source(config: ConfigSpec, root: Path = Path()) -> Source:
    """Find the config's source and check its columns; relative paths start at `root`.

    Docstrings are no source that is read: release/data/demo_sets.py makes their rows.

    Raises:
        ReleaseError: It is missing, unreachable, gone, or lacks a column; the config and the column are named.
    """
    try:
        match config.source:
            case HubSource() as source:
                return tabular.open_hub(config, source)
            case FileSource() as source:
                return tabular.open_files(config, source, root)
            case BeirSource() as source:
                return beir.open_folder(config, source, root)
            case RetrievalSource() | HubRetrievalSource() as source:
                return retrieval.open_candidates(config, source, root)
            case source:
                raise ValueError(f"no reader for a source of kind {source.kind}")
    except FAILURES as error:
        raise unreadable(config, error) from error
