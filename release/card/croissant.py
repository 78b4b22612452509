"""`croissant.json` of the training data: files, columns and how the data was made, for programs and data catalogues.

Croissant 1.1 with the fields of its vocabulary for responsible AI (RAI 1.0), https://docs.mlcommons.org/croissant. The file
that the Hub generates by itself has no RAI fields. Everything comes from the family, the manifest and the record.
"""

from __future__ import annotations

import json
from typing import Any

from release.card import tables
from release.family import Family
from release.records import Record
from release.results.data import DataResult, DataSubject

FILE = "croissant.json"
CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
TERMS = (  # of the vocabulary cr, each under its own name
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format includes isArray "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
CONTEXT = {  # as the specification prescribes it, whole
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in TERMS.split()},
}
COLUMNS = {  # column -> type and meaning
    "query": ("sc:Text", "What somebody asks."),
    "document": ("sc:Text", "A text that may answer it."),
    "label": ("cr:Float32", "A raw score without a fixed range; the higher, the more relevant."),
}


def text(family: Family, data: Record[DataResult, DataSubject], manifest: dict[str, Any]) -> str:
    """The file's text; the same inputs give the same bytes."""
    shown = tables.data(manifest)
    address = f"https://huggingface.co/datasets/{family.data_id}"
    value = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": family.data.repository,
        "description": f"{family.about.title} training data: {shown['rows']:,} pairs of query and document with a score.",
        "url": address,
        "version": f"{family.about.version.lstrip('v')}.0.0".replace("..", "."),
        "datePublished": data.created[:10],
        "license": family.data.license_link
        or (f"{address}#licence" if family.data.license == "other" else family.data.license),
        "inLanguage": family.about.language,
        "keywords": ["text-ranking", "reranking", "distillation"],
        "creator": {"@type": "sc:Organization", "name": family.about.organization},
        "citeAs": f"{family.about.organization}: {family.about.title} training data, {data.created[:4]}. {address}",
        **_responsible(family, shown, manifest),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "repository",
                "name": "repository",
                "description": "The repository on the Hub; manifest.json in it has the sha256 of every file.",
                "contentUrl": f"{address}/tree/{family.about.version}",
                "encodingFormat": "git+https",
                "sha256": "see manifest.json",
            },
            *(_files(row["name"]) for row in shown["configs"]),
        ],
        "recordSet": [_records(row) for row in shown["configs"]],
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _responsible(family: Family, shown: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """The RAI fields: what the dataset's card says, sentence for sentence for programs."""
    scored, given = shown["asked"], shown["given"]
    labels = (
        [f"A model, {tables.teacher(family, linked=False)}, scored the pairs of {', '.join(scored)}."] if scored else []
    )
    labels += [f"The labels of {', '.join(given)} came with their source."] if given else []
    left_out = "; ".join(f"{row['name']}: {row['left_out']}" for row in shown["configs"] if row["left_out"] != "none")
    handled = {"drop": "left out", "report": "counted and kept", "ignore": "not looked for"}[shown["overlap"]]
    return {
        "rai:dataCollection": f"Public texts, read as {manifest['declaration']} declares; licences by config are on the card.",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": [
            f"Rows left out: {left_out or 'none'}.",
            f"Pairs that repeat a text of the evaluation sets are {handled}.",
        ],
        "rai:dataAnnotationProtocol": " ".join(labels) + " Nobody judged these pairs.",
        "rai:machineAnnotationTools": [family.teacher.model],
        "rai:dataBiases": [
            "The labels have the mistakes and preferences of one model.",
            "Labels of two configs need not compare.",
        ],
        "rai:dataLimitations": ["Paraphrases and translations of evaluation texts are not recognised as repeated."],
        "rai:personalSensitiveInformation": [
            "The texts are public ones of others and were not searched for personal data."
        ],
        "rai:dataUseCases": ["Distilling rerankers. Not for judging relevance: the labels are no judgements."],
        "rai:dataReleaseMaintenancePlan": f"The revision {family.about.version} never changes; corrections get a new version.",
    }


def _files(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"files-{config}",
        "name": f"files-{config}",
        "description": f"Parquet files of the config {config}.",
        "containedIn": {"@id": "repository"},
        "encodingFormat": "application/x-parquet",
        "includes": f"{config}/*.parquet",
    }


def _records(row: dict[str, Any]) -> dict[str, Any]:
    name = row["name"]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": meaning,
            "dataType": kind,
            "source": {"fileSet": {"@id": f"files-{name}"}, "extract": {"column": column}},
        }
        for column, (kind, meaning) in COLUMNS.items()
    ]
    description = f"{row['rows']:,} pairs. Licence: {row['license']}."
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "field": fields}
