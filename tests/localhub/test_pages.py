"""The page of a repo shows what people will see, in a real browser, and runs nothing that a card brings along."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import pytest

from tests.browser import browse
from tests.localhub.hub_fixtures import BOB, Http

CARD = """---
license: apache-2.0
pipeline_tag: text-ranking
library_name: sentence-transformers
base_model: alice/encoder
datasets: [alice/pairs]
model-index:
- name: reranker
  results:
  - task: {type: text-ranking}
    dataset: {type: nano, name: NanoBEIR mean}
    metrics: [{type: ndcg_at_10, value: 0.6746}]
---
# A reranker

It gives **one score**. See [usage](#how-to-use) and the [config](config.json).

![plot](./plot.png)

## How to use

```python
model = CrossEncoder("alice/reranker")
```

| size | NDCG@10 |
|:-----|--------:|
| 17m  | 0.5576  |
"""

HOSTILE = """---
license: mit
tags: ["<script>document.title='hacked'</script>", "<img src=x onerror=document.title='hacked'>"]
library_name: "\\"><script>document.title='hacked'</script>"
size_categories: "javascript:alert(1)"
---
# Harmless <script>document.title='hacked'</script>
<script>document.title='hacked'</script>
<SCRIPT SRC="/alice/hostile/resolve/main/evil.js"></SCRIPT>
<img src=x onerror="document.title='hacked'">
<svg onload="document.title='hacked'"><script>document.title='hacked'</script></svg>
<iframe srcdoc="<script>parent.document.title='hacked'</script>"></iframe>
<a href="javascript:document.title='hacked'">one</a> [two](javascript:document.title='hacked') <a href=" jav&#x09;ascript:x">3</a>
<a href="data:text/html,<script>1</script>">four</a> [five](data:text/html;base64,PHNjcmlwdD4=) [six](vbscript:x)
<form action="https://example.com"><input name=token><button>Sign in</button></form>
<style>body { display: none }</style><link rel=stylesheet href="https://example.com/x.css"><base href="https://example.com/">
<meta http-equiv=refresh content="0;url=https://example.com/"><object data="evil.html"></object><embed src="evil.html">
<p style="position:fixed;top:0" onclick="x()" class="top">text</p><math><mi xlink:href="javascript:x">m</mi></math>
```"><script>document.title='hacked'</script>
code
```
"""


def png() -> bytes:
    """A red picture of 60 x 20 pixels."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = zlib.compress((b"\0" + b"\xdd\x22\x22" * 60) * 20)
    header = struct.pack(">IIBBBBB", 60, 20, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.fixture(scope="module")
def hub(faulty_hub: Http) -> Http:
    for name in ("reranker", "hostile", "bare"):
        faulty_hub.create(f"alice/{name}")
    files = {"README.md": CARD.encode(), "plot.png": png(), "config.json": b"{}", "2_Dense/config.json": b"{}"}
    assert faulty_hub.commit("alice/reranker", files).status == 200
    faulty_hub("POST", "/api/models/alice/reranker/tag/main", {"tag": "v1.0"})
    evil = {"README.md": HOSTILE.encode(), "evil.js": b"document.title='hacked'"}
    page = b"<script>document.title='hacked'</script>"
    evil |= {"evil.html": page, "evil.svg": b"<svg xmlns='http://www.w3.org/2000/svg'>" + page + b"</svg>"}
    assert faulty_hub.commit("alice/hostile", evil).status == 200
    slug = faulty_hub("POST", "/api/collections", {"title": "<b>Rerankers</b>", "namespace": "alice"}).json["slug"]
    item = {"item": {"type": "model", "id": "alice/reranker"}, "note": "The <i>small</i> one"}
    faulty_hub("POST", f"/api/collections/{slug}/items", item)
    return faulty_hub


def text(http: Http, path: str) -> str:
    answer = http("GET", path, token=None)
    assert answer.status == 200
    return answer.body.decode()


def test_the_page_shows_card_metadata_files_versions_and_collections(hub: Http) -> None:
    page = text(hub, "/alice/reranker")
    for part in ("<strong>one score</strong>", 'id="how-to-use"', 'align="right">0.5576', "NanoBEIR mean", "0.6746"):
        assert part in page, part
    for chip in ("text-ranking", "sentence-transformers", "apache-2.0"):
        assert re.search(rf'<span class="chip [a-z]+"><b>[a-z]+</b>{chip}</span>', page), chip
    assert 'href="/datasets/alice/pairs"' in page and 'href="/alice/encoder"' in page
    assert 'src="/alice/reranker/resolve/main/plot.png"' in page
    assert 'href="/alice/reranker/blob/main/config.json"' in page
    assert "2_Dense/config.json" in page and "v1.0" in page
    assert "&lt;b&gt;Rerankers&lt;/b&gt;" in page and "The &lt;i&gt;small&lt;/i&gt; one" in page


def test_other_pages_lead_there(hub: Http) -> None:
    for path in ("/", "/alice", "/alice/reranker/tree/v1.0", f"/alice/reranker/commit/{hub.head('alice/reranker')}"):
        assert "alice/reranker" in text(hub, path) or "reranker" in text(hub, path)
    slug = hub("GET", "/api/collections?owner=alice").json[0]["slug"]
    assert 'href="/alice/reranker"' in text(hub, f"/collections/{slug}")
    assert "no README.md" in text(hub, "/alice/bare")
    pull = hub("POST", "/api/models/alice/bare/discussions", {"title": "<u>x</u>", "pullRequest": True}).json["num"]
    assert "&lt;u&gt;x&lt;/u&gt;" in text(hub, f"/alice/bare/discussions/{pull}")
    assert hub("GET", "/alice/reranker/blob/main/config.json").body == b"{}"
    assert hub("GET", "/alice/nobody", token=None).status == 401
    assert hub("GET", "/nobody").status == 404
    assert hub("GET", "/alice/reranker/tree/nope", token=BOB.token).status == 404


def test_no_script_is_left_in_a_hostile_card(hub: Http) -> None:
    page = text(hub, "/alice/hostile").lower()
    body = page.partition("<body>")[2]
    for tag in ("script", "iframe", "object", "embed", "form", "input", "style", "link", "base", "meta", "svg", "math"):
        assert f"<{tag}" not in body, tag
    opening = re.findall(r"<[a-z][^>]*>", body)
    assert not [tag for tag in opening if re.search(r"\son[a-z]+\s*=|\sstyle\s*=", re.sub(r'"[^"]*"', '""', tag))]
    links = re.findall(r'(?:href|src)="([^"]*)"', body)
    assert links and not [link for link in links if re.match(r"\s*(?:javascript|data|vbscript|jav)", link)]
    policy = hub("GET", "/alice/hostile").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy


@pytest.mark.parametrize("name", ["evil.html", "evil.svg", "evil.js"])
def test_files_cannot_run_either(hub: Http, name: str) -> None:
    headers = hub("GET", f"/alice/hostile/resolve/main/{name}").headers
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "html" not in headers["content-type"] and "script" not in headers["content-type"]


def test_a_browser_draws_the_page(hub: Http, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    hub.clear_log()
    browse(tmp_path / "home", f"{hub.endpoint}/alice/reranker", f"--screenshot={picture}")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1280, 1400)
    from matplotlib.image import imread

    pixels = imread(picture)[:, :, :3]
    red = (pixels[:, :, 0] > 0.8) & (pixels[:, :, 1] < 0.2) & (pixels[:, :, 2] < 0.2)
    assert red.sum() == 60 * 20, "the image of the card was not drawn"
    fetched = {path: status for _, path, status in hub.log()}
    assert fetched["/static/page.css"] == 200 and fetched["/alice/reranker/resolve/main/plot.png"] == 200


@pytest.mark.parametrize(
    "path", ["/alice/hostile", "/alice/hostile/resolve/main/evil.html", "/alice/hostile/resolve/main/evil.svg"]
)
def test_a_browser_runs_nothing(hub: Http, tmp_path: Path, path: str) -> None:
    hub.clear_log()
    dom = browse(tmp_path / "home", f"{hub.endpoint}{path}", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert (title[1] if title else "") in ("alice/hostile", "")
    assert dom.strip() and ("<script" not in dom.lower() or path.endswith("svg"))
    assert not [fetched for _, fetched, _ in hub.log() if fetched.endswith("evil.js")]


def test_this_browser_would_run_a_script(tmp_path: Path) -> None:
    """The test above could not fail if the browser ran no scripts at all."""
    page = tmp_path / "page.html"
    page.write_text("<title>fine</title><script>document.title='hacked'</script>")
    assert "<title>hacked</title>" in browse(tmp_path / "home", page.as_uri(), "--dump-dom")


def test_metadata_errors_stand_above_the_card(hub: Http) -> None:
    # Such a card cannot be committed, but one from an older release of the rules could be there.
    body = {"content": "---\nlicense: odd\n---\n", "repoType": "model"}
    assert "must be one of" in json.dumps(hub("POST", "/api/validate-yaml", body).json)
    assert hub.commit("alice/bare", {"README.md": b"---\npipeline_tag: odd\n---\n# x"}).status == 200
    assert "Metadata warning" in text(hub, "/alice/bare")
