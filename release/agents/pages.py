"""What a Markdown page holds that can be checked: fenced blocks with their tags, links, and the anchors of its headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

SHELL = {"sh", "bash", "shell"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The first word after the fence; `tags` are the others, such as `account`.
        text: Its content; `line` is that of the fence, from 1.
    """

    language: str
    tags: tuple[str, ...]
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block that are commands, without comments, continued lines joined."""
        if self.language not in SHELL:
            return []
        joined = self.text.replace("\\\n", " ").splitlines()
        return [command for line in joined if (command := re.sub(r"\s+#\s.*$", "", line).strip()) and command[0] != "#"]


def tokens(path: Path) -> list[Token]:
    text = path.read_text(encoding="utf-8")
    front = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    lines = front[0].count("\n") if front else 0
    return MarkdownIt("commonmark").enable("table").parse("\n" * lines + text[len(front[0]) if front else 0 :])


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page in their order."""
    result = []
    for token in tokens(path):
        if token.type == "fence":
            language, *tags = token.info.split() or [""]
            result.append(Block(language, tuple(tags), token.content, (token.map or [0])[0] + 1))
    return result


def links(path: Path) -> list[str]:
    """The targets of a page's links."""
    return [
        str(child.attrs["href"])
        for token in tokens(path)
        for child in token.children or ()
        if child.type == "link_open"
    ]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the Hub name them."""
    headings = [after.content for token, after in pairwise(tokens(path)) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path: Path) -> Iterator[str]:
    """The links of a page to files or headings that are not there; addresses elsewhere are not followed."""
    for target in links(path):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        file = path.parent / parts.path if parts.path else path
        if not file.exists() or (parts.fragment and parts.fragment not in anchors(file)):
            yield target
