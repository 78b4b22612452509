"""What a downloaded repository proves by itself: every figure computed again, every text rendered again, nothing else in it.

No model is loaded and no torch is needed. A build folder is made of the repository, as if it were still to be staged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import records, results
from release.card import acceptance, beside, render
from release.errors import ReleaseError
from release.export import dual_root, graph, portable
from release.family import Family, of
from release.files import list_files
from release.hub import checks, data, finetuned, stage, state
from release.truth import manifest
from release.truth.manifest import Manifest

RENDERED = ("README.md", "croissant.json", ".eval_results/")  # what is made anew, and compared


NOT_PROVED = {
    "fine-tuned model": "that these weights, by this tokenizer and these settings, give these scores, and which texts they learnt "
    "from, for the data are not here: who has them can tell, by their sha256 in release.json, and measure again",
    "model": "that these weights, by this tokenizer and these settings, give these scores, this speed and this memory: make "
    "evaluate and make speed measure them, make export those in 8 and 16 bits; and the figures and plots of other models",
    "dataset": "that the teacher gives these labels, and what was left out of the sources: the teacher and they can tell",
}


def proved(
    made: Manifest, folder: Path, scratch: Path, client: HfApi | None = None, *, main: bool = True
) -> dict[str, str]:
    """Compute every figure again and render the card again, in a build folder that is made of the repository.

    Args:
        client: Reads what is beside the repository: the data of a model, and the collection. Without one nothing is said of them.
        main: Whether this is what people load now, and the collection speaks of.

    Raises:
        ReleaseError: A record, a figure, the card or the note in the collection is not what it should be.
    """
    if made.finetuned:
        return _finetuned(made, folder, scratch, client)
    if (not made.size and made.type == "model") or not (folder / manifest.FAMILY_FILE).is_file():
        raise ReleaseError(
            f"{manifest.FILE}: it names neither a model of a family nor what a model was fine-tuned from"
        )
    lay_out(made, folder, scratch)
    with contextlib.chdir(scratch):
        tables = json.loads((folder / manifest.FAMILY_FILE).read_text(encoding="utf-8"))
        family = of(tables, Path("recipes") / made.family_file)
        organization = made.repository.split("/")[0]  # which ORG may have changed
        family = dataclasses.replace(family, about=dataclasses.replace(family.about, organization=organization))
        if made.repository != (family.model_id(made.size) if made.size else family.data_id):
            raise ReleaseError(f"{manifest.FAMILY_FILE} is not the family file of {made.repository}")
        proofs, note = _model(family, made, folder) if made.size else _data(family, folder)
        if client and made.size:
            proofs |= _trained_on(family, made, client)
        if client and main:
            proofs |= {"collection": _collected(family, made.repository, note, client)}
    return proofs


def _model(family: Family, made: Manifest, folder: Path) -> tuple[dict[str, str], str]:
    """What was proved, and the note that belongs into the collection."""
    exported = records.read(family.folder(made.size) / "records", results.EXPORT)
    measured = acceptance.card_records(family, made.size, exported.model_sha256)
    for line in checks.untrue(family, made.size, measured):
        hint = _other_version(made, "runs other snippets") if "engines.json: measured.engines" in line else None
        raise ReleaseError(line.replace(f"{family.folder(made.size)}/", ""), hint=hint)
    graph_too = _forms(folder, made)
    _same(stage.model_contents(family, made.size, measured), folder, made)
    rows = measured.evaluate.measured.tasks
    collection = render.collection(stage.collection_text(family, made.size, measured))
    return {
        "records": f"{len(measured.all)}, as they were written, in themselves and with each other possible",
        "figures": f"{len(rows)} rows and their means, gains and intervals computed again from the scores of each query",
        "weights": f"those that were compared with the trained model in every form, {graph_too}",
        "card": _card(folder),
    }, next(item["note"] for item in collection["items"] if item["id"] == made.repository)


def _finetuned(made: Manifest, folder: Path, scratch: Path, client: HfApi | None) -> dict[str, str]:
    assert made.finetuned is not None
    release, measured = finetuned.opened(made, folder, scratch / "tuned")
    proofs = finetuned.proved(release, measured)
    graph_too = _forms(folder, made)
    _same(finetuned.contents(release, measured), folder, made)
    proofs |= {"weights": f"those that were compared with the fine-tuned model in every form, {graph_too}"}
    proofs |= {"card": _card(folder)}
    return proofs | (
        {"base": finetuned.based_on(made.finetuned, measured.finetune.subject.base_license, client, scratch / "base")}
        if client
        else {}
    )


def _card(folder: Path) -> str:
    return f"{(folder / 'README.md').stat().st_size:,} bytes, rendered again to the same"


def _data(family: Family, folder: Path) -> tuple[dict[str, str], str]:
    """What was proved, and the note that belongs into the collection."""
    for line in checks.shards(folder, texts=True):
        raise ReleaseError(line)
    for line in checks.data_untrue(family):
        raise ReleaseError(line)
    _same(stage.dataset_contents(family), folder, manifest.read(folder))
    data, declared = acceptance.data_records(family)
    return {
        "records": "1, as it was written, in itself and with the manifest possible",
        "figures": f"{data.measured.rows:,} rows, the least, mean and greatest label of each config counted again in the files",
        "card": _card(folder),
    }, render.data_note(family, declared)


def _collected(family: Family, repository: str, note: str, client: HfApi) -> str:
    """What the family's collection, or each of its name, says of a repository.

    Raises:
        ReleaseError: Another note than its records give.
    """
    title, owner = family.about.collection, family.about.organization
    with state.hub_errors(client, f"look at the collections of {owner}"):
        listed = [each for each in client.list_collections(owner=owner) if each.title == title]
        items = [item for each in listed for item in client.get_collection(each.slug).items]
    own = [item for item in items if item.item_id == repository]
    for item in own:
        if (item.note or "") != note:
            raise ReleaseError(
                f"its note in the collection {title!r} says {item.note!r}, and its records give {note!r}"
            )
    if not own:
        return f"no entry in {title!r} of {owner}" if listed else f"no {title!r} of {owner} that everybody may see"
    other = any((each.description or "") != family.about.summary for each in listed)
    return f"{title!r}: its note is what its records give{'; the description is not that of this release' if other else ''}"


def _trained_on(family: Family, made: Manifest, client: HfApi) -> dict[str, str]:
    """Whether the family's data on the Hub are those that the model's own manifest of them names.

    Raises:
        ReleaseError: They are others, or were never finished.
    """
    if family.data.mixture:
        return {}
    repo = state.DesiredRepo(family.data_id, "dataset", family.mixture_folder, made.version)
    with state.hub_errors(client, f"list {repo.id}"):
        try:
            files = state.tree(client, repo, made.version)
        except RepositoryNotFoundError:
            return {"data": f"{repo.id} is not there for this token"}
        except RevisionNotFoundError as error:
            raise ReleaseError(f"{repo.id} has no tag {made.version}: the data were never finished") from error
    for name in data.listing_problems(family, files):
        raise ReleaseError(f"{name} of {repo.id} {made.version} is not what this model was trained on")
    return {"data": f"{repo.id} {made.version}: {len(files)} files, the shards by the hashes that the model names"}


def lay_out(made: Manifest, folder: Path, scratch: Path) -> None:
    """Make the build folder from which a repository could have been staged; what is rendered is left out."""
    build = scratch / "build" / made.family
    own = build / made.size if made.size else build / "data/mixture"
    moved = {
        "records/data.json": build / "records/data.json",
        stage.MIXTURE: build / "data/mixture/manifest.json",
        f"records/{beside.FILE}": own / "compare" / beside.FILE,
    }
    for name in made.files:
        if name.startswith(RENDERED):
            continue
        not_exported = not made.size or name.startswith(("records/", "compare/"))
        target = moved.get(name) or (own / name if not_exported else own / "export" / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(folder / name)  # both are thrown away, and nobody writes to them


def _same(contents: dict[str, manifest.Content], folder: Path, made: Manifest) -> None:
    """Whether what the repository's own sources give is what it holds.

    Raises:
        ReleaseError: A file differs; of a text the first line that does.
    """
    present = {name for name in list_files(folder) if not manifest.hubs_own(name)}
    if left := present - contents.keys() - {*made.beside}:
        raise ReleaseError(f"{min(left)}: nothing in the repository gives this file")
    for name, content in contents.items():
        published = folder / name
        if not published.is_file():
            raise ReleaseError(f"{name}: its sources give it, and it is not there")
        if isinstance(content, str) and content.encode() != published.read_bytes():
            old, new = published.read_text(encoding="utf-8").splitlines(), content.splitlines()
            changes = [line for line in difflib.unified_diff(new, old, lineterm="", n=0) if line[:1] == "+"]
            shown = next((line[1:].strip() for line in changes[1:]), "a line is missing")
            what = f"{name}: not what its records give, first: {shown[:120]!r}"
            raise ReleaseError(what, hint=_other_version(made, "renders other texts"))


def _forms(folder: Path, made: Manifest) -> str:
    """Whether each form that is loaded has the same settings and weights. Returns what was seen, in words.

    Raises:
        ReleaseError: One has others.
    """
    for line in portable.problems(folder):
        raise ReleaseError(line, hint=_other_version(made, "writes other settings"))
    for line in dual_root.weight_problems(folder):
        raise ReleaseError(line)
    try:
        for line in graph.problems(folder):
            raise ReleaseError(line)
        for line in graph.changed_weights(folder):
            raise ReleaseError(line)
    except ModuleNotFoundError:
        return "with the same settings and head; the ONNX file was not opened, which needs onnx_ir (extra `export`)"
    return "with the same settings, and the same weights in the modules, in the root and in the ONNX file"


def _other_version(made: Manifest, does: str) -> str:
    commits = ", ".join(commit[:12] for commit in made.commits) or "unknown"
    return f"another version of this project {does}: the records are of commit {commits}"
