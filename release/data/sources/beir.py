"""Judged pairs of a BEIR folder as training rows, through the project's only reader of such folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from release import beir
from release.data.shards import ROWS
from release.data.sources.base import BATCH_ROWS, Source, as_rows, fingerprint, where
from release.errors import ReleaseError
from release.spec import BeirSource, ConfigSpec


def open_folder(config: ConfigSpec, source: BeirSource, root: Path) -> Source:
    """Every judged pair whose query and document have a text; the label is the judgement.

    Only texts that are judged are held in memory.

    Raises:
        ReleaseError: A file is missing or damaged, or no judgement meets a document; the row is named.
    """
    try:
        files = beir.files(root / source.path, source.split)
    except ReleaseError as error:
        raise ReleaseError(error.what, where=where(config), hint=error.hint) from error
    judged = beir.labels(files.qrels)
    labelled = {document for labels in judged.values() for document in labels}
    texts = {key: beir.document_text(title, text) for key, title, text in beir.texts(files.corpus) if key in labelled}
    queries = {key: text for key, _, text in beir.texts(files.queries) if key in judged}
    beir.check_queries(judged, queries, files.qrels)
    beir.check_documents(judged, texts, files.qrels)
    rows = [
        (queries[query], texts[document], label)
        for query, labels in judged.items()
        for document, label in labels.items()
        if query in queries and document in texts
    ]
    total = sum(map(len, judged.values()))

    def stream() -> Iterator[pa.Table]:
        for start in range(0, len(rows), BATCH_ROWS):
            columns = map(list, zip(*rows[start : start + BATCH_ROWS], strict=True))
            yield as_rows(config, pa.table(dict(zip(ROWS.names, columns, strict=True))))

    dropped = {"no text": total - len(rows)} if len(rows) < total else {}
    return Source(total, len(rows), dropped, source.revision or fingerprint([*files]), stream)
