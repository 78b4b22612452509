# /// script
# requires-python = ">=3.11"
# dependencies = ["ettin-release[finetune]"]
# ///
"""Turn a fine-tuned model into a release: export, card, plan; with --push upload, verify, tag. The last line is JSON."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # until `run` says what was stopped, Ctrl-C ends this without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path
from typing import Annotated

import typer

from release.console import print_json
from release.finetuning.script import run


def publish(
    repo: Annotated[str, typer.Argument(help="The repository: name/model or organization/model.")],
    output: Annotated[Path, typer.Option(help="The folder that finetune.py wrote.")] = Path("tuned"),
    version: Annotated[str, typer.Option(help="The tag; a tagged version never changes.")] = "v1",
    license_id: Annotated[
        str | None, typer.Option("--license", help="A licence id of the Hub; the base model's by default.")
    ] = None,
    license_name: Annotated[str | None, typer.Option(help="Of the licence `other`: its name.")] = None,
    license_link: Annotated[str | None, typer.Option(help="Of the licence `other`: its address.")] = None,
    push: Annotated[bool, typer.Option("--push", help="Write to the Hub that HF_ENDPOINT names.")] = False,
    publish_anyway: Annotated[
        bool, typer.Option("--publish-anyway", help="Publish a REGRESSION; the card says it.")
    ] = False,
) -> None:
    """Export, compare every form, write the card and show what would be published; with --push publish and verify it."""
    from release.finetuning import release_model

    release = release_model.open_release(output, repo, version, license_id, license_name, license_link)
    verdict = release_model.check_verdict(release, anyway=publish_anyway)
    staged = release_model.stage(release)
    steps = release_model.show_plan(release, None)
    commits = release_model.publish_verified(release, None) if push else {}
    print_json(
        {
            "repository": repo,
            "version": version,
            "verdict": verdict,
            "staged": str(staged),
            "published": push,
            "commit": commits.get(repo),
            "steps": [step.verb for step in steps],
        }
    )


if __name__ == "__main__":
    run(publish)
