"""From the Markdown of a card, written by anybody, to HTML that can run nothing.

Run as a program, for `limited.py`: it imports nothing of this project, since that would take longer than most cards.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from html import escape
from itertools import zip_longest
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

TAGS = nh3.ALLOWED_TAGS | {"details", "summary", "figure", "figcaption", "picture", "source", "video"}
ALIGNED = {tag: {"align"} for tag in ("p", "div", "td", "th", "table", "h1", "h2", "h3", "h4", "h5", "h6")}
ATTRIBUTES = {
    **{tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()},
    **{tag: ALIGNED.get(tag, set()) | {"id"} for tag in ("h1", "h2", "h3", "h4", "h5", "h6", "p", "div")},
    **{tag: ALIGNED[tag] | {"colspan", "rowspan"} for tag in ("td", "th")},
    "a": {"href", "title", "id"},
    "img": {"src", "alt", "title", "width", "height", "align"},
    "span": {"class"},
    "code": {"class"},
    "details": {"open"},
}
CPU_SECONDS = 1  # for one card; an ordinary one takes a tenth of a second
MEMORY = 1 << 30
SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


def card_html(markdown: str, repo_path: str, revision: str) -> str:
    """The body of a card as HTML; relative links and images point at the files of the repo at `revision`."""
    parser = MarkdownIt("commonmark", {"html": True, "highlight": _highlight}).enable(["table", "strikethrough"])
    tokens = parser.parse(markdown)
    for token, inner in zip_longest(tokens, tokens[1:]):
        _add_attributes(token, inner)
    raw = parser.renderer.render(tokens, parser.options, {})

    def resolve(tag: str, name: str, value: str) -> str | None:
        if name not in ("href", "src") or value.startswith(("#", "/")) or SCHEME.match(value.strip()):
            return value  # the sanitiser decides about schemes
        return (
            f"{repo_path}/{'blob' if tag == 'a' else 'resolve'}/{quote(revision, safe='')}/{value.removeprefix('./')}"
        )

    return nh3.clean(
        raw,
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=resolve,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )


def _add_attributes(token: Token, inner: Token | None) -> None:
    """Give headings the anchors that cards link to, and cells an alignment that needs no style attribute."""
    if token.type == "heading_open" and inner:
        anchor = re.sub(r"[^\w\- ]", "", inner.content.lower())
        token.attrSet("id", anchor.strip().replace(" ", "-"))
    if token.type in ("td_open", "th_open") and (style := token.attrs.pop("style", None)):
        token.attrSet("align", str(style).removeprefix("text-align:"))


def _highlight(code: str, language: str, _: str) -> str:
    try:
        lexer = get_lexer_by_name(language) if language else None
    except ClassNotFound:
        lexer = None
    return highlight(code, lexer, HtmlFormatter(nowrap=True)) if lexer else escape(code)


def main() -> None:
    """Render the card on the standard input (the arguments of `card_html` as JSON), or be stopped at the limits."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.stdout.buffer.write(card_html(*json.load(sys.stdin)).encode())


if __name__ == "__main__":
    main()
