"""The family's comparison as one page for a browser: the Markdown beside it, with its plots inside the file."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from release.card.render import TEMPLATES
from release.files import write_atomic

FILE = "index.html"
PICTURE = re.compile(r"<picture>.*?</picture>", re.DOTALL)
IMAGE = re.compile(r'(src|srcset)="([\w-]+)\.png"')


def write(folder: Path, title: str, markdown: str) -> Path:
    """Write index.html into `folder`, where the plots are; nothing is fetched when somebody opens it."""
    page = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True)
    text = page.get_template("compare.html.j2").render(title=title, body=body(folder, markdown))
    return write_atomic(folder / FILE, text)


def body(folder: Path, markdown: str) -> Markup:
    """The page's content: Markdown as HTML, each PNG replaced by the SVG of its name, written into the page.

    The only HTML that is kept is that of the plots: what a model or an error is called is text.
    """
    pictures = PICTURE.findall(markdown)
    for number, picture in enumerate(pictures):
        markdown = markdown.replace(picture, f"picture {number} of this page")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    html = re.sub(r' \(<a href="[\w-]+\.svg">SVG</a>\)', "", html)  # it is in the page already
    for number, picture in enumerate(pictures):
        shown = IMAGE.sub(lambda match: f'{match[1]}="{_inside(folder / f"{match[2]}.svg")}"', picture)
        html = html.replace(f"<p>picture {number} of this page</p>", shown)
    return Markup(html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"))


def _inside(svg: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.read_bytes()).decode()}"
