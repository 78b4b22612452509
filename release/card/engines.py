"""The table of engines on a card: what the record says of each, in words, and the snippet that was run."""

from __future__ import annotations

from release.card import formatting
from release.family import CardConfig
from release.results.engines import EngineResult


def engine_verdict(row: EngineResult) -> str:
    """What a reader can rely on."""
    if row.verdict == "rounding" and row.ndcg is not None and row.ndcg_change is not None:
        return f"rounded: NDCG@10 {formatting.score(row.ndcg)} ({formatting.signed(row.ndcg_change)})"
    if row.verdict == "option":
        by_default = row.default_difference
        without = f" (without: up to {formatting.difference(by_default)} apart)" if by_default else ""
        return f"equal with {row.option}{without}"
    return "equal" if row.verdict == "equal" else f"not supported: {formatting.cell(row.reason or '')}"


def engine_snippet(row: EngineResult, model_id: str, card: CardConfig) -> str:
    """The snippet as it was run, with the repository's id and the card's example in the places of the compared pairs."""
    left, right = ("[", "]") if row.language == "javascript" else ("(", ")")
    query = formatting.python(card.query)
    lines = [f"    {left}{query}, {formatting.python(document)}{right},\n" for document in card.documents]
    return row.snippet.replace("MODEL_ID", model_id).replace("PAIRS", f"[\n{''.join(lines)}]")


FILTERS = {function.__name__: function for function in (engine_verdict, engine_snippet)}
