"""How a compared reranker is run: the documented form of each, held against what was loaded. The table is forms.toml."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from release.errors import CannotRun
from release.teachers.cross_encoder import incomplete


@dataclass(frozen=True)
class Form:
    """One documented form.

    Attributes:
        how: For people.
        tokens: Whose logits are compared, the first minus the second; empty where a head scores.
        refused: Why a model of this form is not run, None where it is.
        revision: Where on the Hub the model has this form; None for its newest commit.
    """

    how: str
    tokens: tuple[str, ...] = ()
    refused: str | None = None
    revision: str | None = None


def documented(name: str) -> Form | None:
    """The form of the model with this Hub id, by the first line that fits; None where no line does."""
    table = _table()
    entry = next((entry for pattern, entry in table["models"].items() if fnmatch(name, pattern)), None)
    if entry is None:
        return None
    form = table["forms"][entry["form"]]
    return Form(form["how"], tuple(form.get("tokens", ())), form.get("refused"), entry.get("revision"))


def where_from(name: str, revision: str | None = None, *, remote_code: bool = False) -> dict[str, Any]:
    """The keywords with which a CrossEncoder is loaded: at which commit, and whether code from there runs.

    Args:
        revision: The commit that is asked for; that of the documented form, or the newest one, if left out.
        remote_code: Code of its own may run, so that it has no documented form.

    Raises:
        CannotRun: It is not run at all.
    """
    form = None if remote_code else documented(name)
    if form and form.refused:
        raise CannotRun(form.refused, where=name, hint=f'name its commit and remote_code in [models."{name}"]')
    return {"revision": revision or (form.revision if form else None), "trust_remote_code": remote_code}


def check(name: str, model: Any) -> None:
    """Refuse a model whose loaded form is not the documented one, or that is not whole.

    Args:
        model: The CrossEncoder that was loaded.

    Raises:
        CannotRun: Other tokens are compared, none are, nothing is asked, or weights are random: the scores would look plausible.
    """
    if what := incomplete(model):
        raise CannotRun(what, where=name, hint="give a trained CrossEncoder")
    form = documented(name)
    if form is None:
        return
    tokens = compared_tokens(model)
    if tokens != form.tokens:
        said, known = (" and ".join(map(repr, each)) or "no tokens" for each in (tokens, form.tokens))
        what = f"it compares {said} here, and {known} in its documented form"
        raise CannotRun(what, where=name, hint="take the revision that its card describes")
    if tokens and not template_of(model):
        raise CannotRun("it has no chat template: nothing would be asked", where=name, hint="take another revision")


def compared_tokens(model: Any) -> tuple[str, ...]:
    """The tokens whose logits a CrossEncoder compares; none where a head scores."""
    last = model[-1]
    ids = [getattr(last, f"{word}_token_id", None) for word in ("true", "false")]
    return tuple(model.tokenizer.convert_ids_to_tokens([each for each in ids if each is not None]))


def describe(model: Any) -> str:
    """What was loaded, in a few words, for a record: the architecture and what makes a score of it."""
    architecture = type(model[0].model).__name__
    if tokens := compared_tokens(model):
        source = template_of(model)
        template = f"chat template {hashlib.sha256(source.encode()).hexdigest()[:12]}" if source else "no chat template"
        return f"{architecture}, logit of {' minus logit of '.join(tokens)}, {template}"
    others = [type(module).__name__ for module in list(model)[1:]]
    return ", ".join([architecture, *others])


def template_of(model: Any) -> str:
    """The chat template that asks the question, "" where there is none."""
    return str(getattr(model.tokenizer, "chat_template", None) or "")


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("forms.toml").read_text(encoding="utf-8"))
