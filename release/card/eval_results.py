"""`.eval_results/*.yaml`: the results once more, in the form that the Hub's leaderboards of benchmarks read.

Off unless the family file says `eval_results = true` in its table `[card]`: the Hub calls this form work in progress, and takes
results only for data sets that are registered as benchmarks (https://huggingface.co/docs/hub/eval-results, read in November 2026).
"""

from __future__ import annotations

import yaml

from release.card import tables
from release.family import Family
from release.records import Record
from release.results.evaluation import EvaluationResult, EvaluationSubject


def files(family: Family, size: str, evaluate: Record[EvaluationResult, EvaluationSubject]) -> dict[str, str]:
    """One file per task and first stage whose data set is on the Hub: name in the repository -> text."""
    if not family.card.eval_results:
        return {}
    contents = {}
    for row in evaluate.measured.tasks:
        if not (row.dataset and tables.is_hub_id(row.dataset)):
            continue
        entry = {
            "dataset": {"id": row.dataset, "task_id": row.task, "revision": row.task_revision},
            "value": round(row.reranked_ndcg, 4),
            "date": evaluate.created[:10],
            "source": {"url": f"https://huggingface.co/{family.model_id(size)}", "name": "Model card"},
            "notes": f"NDCG@10 after reranking the top {row.top_k} of {row.first_stage}",
        }
        name = f"{row.task}--{row.first_stage.split('/')[-1]}"
        contents[f".eval_results/{name}.yaml"] = yaml.safe_dump([entry], sort_keys=False)
    return contents
