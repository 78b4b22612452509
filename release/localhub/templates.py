"""The templates (jinja2, always escaped but for the sanitised card) and the style sheet of the pages."""

from __future__ import annotations

BASE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{% block title %}Hub{% endblock %}</title>
<link rel="stylesheet" href="/static/page.css">
</head>
<body>
<header class="top"><a class="brand" href="/">Embedded Hub</a>
<span>a preview on this machine; nothing here is public</span></header>
{% block body %}{% endblock %}
</body>
</html>
"""

HOME = """{% extends "base" %}
{% block title %}{{ namespace or "Embedded Hub" }}{% endblock %}
{% block body %}
<main class="single">
<h1>{{ namespace or "Repositories" }}</h1>
{% for repo, commit, card in rows %}
<a class="row" href="{{ repo.url_path }}">
<span class="kind">{{ repo.kind }}</span><strong>{{ repo.id }}</strong>
{% if repo.state.private %}<span class="badge">private</span>{% endif %}
<span class="muted">{{ card.pipeline_tag or "" }} · updated {{ commit.date[:10] }}</span>
</a>
{% else %}<p class="muted">Nothing to see here yet, or nothing without signing in.</p>{% endfor %}
{% if collections %}<h2>Collections</h2>{% endif %}
{% for collection in collections %}
<a class="row" href="/collections/{{ collection.slug }}"><span class="kind">collection</span>
<strong>{{ collection.title }}</strong><span class="muted">{{ collection["items"]|length }} items</span></a>
{% endfor %}
</main>
{% endblock %}
"""

REPO = """{% extends "base" %}
{% block title %}{{ repo.id }}{% endblock %}
{% block body %}
<section class="hero">
<h1><span class="kind">{{ repo.kind }}</span><a href="/{{ repo.id.split("/")[0] }}">
{{- repo.id.split("/")[0] }}</a><span class="muted"> / </span>{{ repo.id.split("/")[1] }}
{% if repo.state.private %}<span class="badge">private</span>{% endif %}</h1>
<div class="chips">
{% for kind, text, link in chips %}
{% if link %}<a class="chip {{ kind|replace(" ", "-") }}" href="{{ link }}"><b>{{ kind }}</b>{{ text }}</a>
{% else %}<span class="chip {{ kind|replace(" ", "-") }}"><b>{{ kind }}</b>{{ text }}</span>{% endif %}
{% endfor %}
</div>
</section>
<div class="columns">
<main>
{% for error in errors %}<p class="notice error"><b>Metadata error:</b> {{ error }}</p>{% endfor %}
{% for warning in warnings %}<p class="notice"><b>Metadata warning:</b> {{ warning }}</p>{% endfor %}
<article class="card">
{% if card %}{{ card|safe }}{% else %}<p class="muted">There is no README.md at this revision.</p>{% endif %}
</article>
</main>
<aside>
{% if results %}
<section><h2>Evaluation results</h2><table>
{% for task, dataset, metric, value in results %}
<tr><td>{{ dataset }}<div class="muted">{{ metric }}</div></td><td align="right">{{ value }}</td></tr>
{% endfor %}
</table></section>
{% endif %}
{% if shelf %}
<section><h2>In collections</h2>
{% for collection, item in shelf %}
<p><a href="/collections/{{ collection.slug }}">{{ collection.title }}</a></p>
{% if item.note %}<p class="muted">{{ item.note.text }}</p>{% endif %}
{% endfor %}
</section>
{% endif %}
<section><h2>Files <span class="muted">{{ commit.files|length }} · {{ total|size }}</span></h2><table class="files">
{% for path, entry in commit.files|dictsort %}
<tr><td><a href="{{ repo.url_path }}/resolve/{{ commit.id }}/{{ path|urlencode }}">{{ path }}</a></td>
<td align="right">{{ entry.size|size }}</td></tr>
{% endfor %}
</table></section>
<section><h2>Versions</h2>
<p class="muted">Shown: {{ revision }} at <code>{{ commit.id[:8] }}</code>,
{{ commit.date[:16]|replace("T", " ") }} UTC</p>
<p>{% for name in repo.state.tags %}
<a class="ref" href="{{ repo.url_path }}/tree/{{ name|replace("/", "%2F") }}">{{ name }}</a>
{% endfor %}{% for name in repo.state.branches %}
<a class="ref branch" href="{{ repo.url_path }}/tree/{{ name|replace("/", "%2F") }}">{{ name }}</a>
{% endfor %}</p>
{% for pull in repo.state.pulls %}
<p><a href="{{ repo.url_path }}/discussions/{{ pull.num }}">#{{ pull.num }} {{ pull.title }}</a>
<span class="muted">{{ pull.status }}</span></p>
{% endfor %}
</section>
</aside>
</div>
{% endblock %}
"""

COLLECTION = """{% extends "base" %}
{% block title %}{{ collection.title }}{% endblock %}
{% block body %}
<main class="single">
<h1>{{ collection.title }}{% if collection.private %} <span class="badge">private</span>{% endif %}</h1>
<p class="muted">{{ collection.owner.name }} · {{ collection.description }}</p>
{% for item in collection["items"] %}
<a class="row" href="{{ {"dataset": "/datasets/", "space": "/spaces/"}.get(item.type, "/") }}{{ item.id }}">
<span class="kind">{{ item.type }}</span><strong>{{ item.id }}</strong>
{% if item.note %}<span class="muted">{{ item.note.text }}</span>{% endif %}</a>
{% else %}<p class="muted">No items yet.</p>{% endfor %}
</main>
{% endblock %}
"""

PULL = """{% extends "base" %}
{% block title %}{{ pull.title }}{% endblock %}
{% block body %}
<main class="single">
<p><a href="{{ repo.url_path }}">{{ repo.id }}</a></p>
<h1>#{{ pull.num }} {{ pull.title }} <span class="badge">{{ pull.status }}</span></h1>
<p class="muted">{{ pull.author.name }} · {{ pull.createdAt[:10] }} ·
<a href="{{ repo.url_path }}/tree/refs%2Fpr%2F{{ pull.num }}">see the repo as it would be</a></p>
<pre>{{ pull.diff or "Nothing has been changed yet." }}</pre>
</main>
{% endblock %}
"""

ERROR = """{% extends "base" %}
{% block body %}<main class="single"><h1>Not here</h1>
<p>{{ message }}. It may not exist, or it may be private: then sign in with an account's name and its token.</p></main>
{% endblock %}
"""

TEMPLATES = {"base": BASE, "home": HOME, "repo": REPO, "collection": COLLECTION, "pull": PULL, "error": ERROR}

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1f2328, #e6e8eb); --soft: light-dark(#667080, #98a2b0);
  --page: light-dark(#ffffff, #0f1216); --panel: light-dark(#f6f7f9, #171b21); --line: light-dark(#e2e5ea, #2a3038);
  --link: light-dark(#1a5fb4, #7fb2f0); --warm: light-dark(#fff4d6, #3a3014); --alarm: light-dark(#ffe3e0, #43201d); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
h1, h2, h3, h4 { line-height: 1.25; margin: 1.6em 0 .6em; }
.muted { color: var(--soft); font-weight: 400; }
.top { display: flex; gap: 1rem; align-items: baseline; padding: .7rem 2rem; border-bottom: 1px solid var(--line);
  color: var(--soft); font-size: .85rem; }
.brand { color: var(--ink); font-weight: 700; font-size: 1rem; }
.hero { background: var(--panel); border-bottom: 1px solid var(--line); padding: 1.4rem 2rem 1.2rem; }
.hero h1 { margin: 0 0 .8rem; font: 600 1.35rem/1.3 ui-monospace, monospace; }
.kind, .badge { font: 600 .7rem/1 system-ui, sans-serif; letter-spacing: .03em; padding: .25rem .5rem;
  border: 1px solid var(--line); border-radius: 99px; color: var(--soft); margin-right: .6rem; vertical-align: middle; }
.badge { background: var(--warm); color: var(--ink); margin: 0 0 0 .5rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; }
.chip { font-size: .82rem; padding: .15rem .6rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--page); color: var(--ink); }
.chip b { color: var(--soft); font-weight: 500; margin-right: .4rem; }
.chip.task { border-color: light-dark(#f0b67f, #7d5527); } .chip.license { border-color: light-dark(#7fc39a, #2c6846); }
.chip.dataset, .chip.base-model { border-color: light-dark(#9db8ea, #35548c); }
.columns { display: grid; grid-template-columns: minmax(0, 1fr) 22rem; gap: 2.5rem; max-width: 84rem;
  margin: 0 auto; padding: 1.5rem 2rem 4rem; }
@media (max-width: 60rem) { .columns { grid-template-columns: minmax(0, 1fr); } }
main { min-width: 0; }
.single { max-width: 56rem; margin: 0 auto; padding: 1rem 2rem 4rem; }
aside section { border: 1px solid var(--line); border-radius: .7rem; padding: .9rem 1.1rem; margin-bottom: 1.2rem;
  font-size: .9rem; overflow-x: auto; }
aside h2 { font-size: .95rem; margin: 0 0 .5rem; } aside p { margin: .3rem 0; }
aside table { width: 100%; border-collapse: collapse; }
aside td { padding: .3rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
aside td:last-child { white-space: nowrap; padding-left: .8rem; font-variant-numeric: tabular-nums; }
.card > :first-child { margin-top: 0; }
.card h1 { font-size: 1.9rem; }
.card h2 { font-size: 1.4rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
.card img, .card video { max-width: 100%; height: auto; }
.card table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; font-size: .92rem; }
.card th, .card td { border: 1px solid var(--line); padding: .4rem .8rem; font-variant-numeric: tabular-nums; }
.card th { background: var(--panel); text-align: left; } [align=right] { text-align: right !important; }
[align=center] { text-align: center !important; }
.card blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid var(--line); color: var(--soft); }
pre, code { font-family: ui-monospace, monospace; font-size: .88em; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1.1rem;
  overflow-x: auto; line-height: 1.5; }
:not(pre) > code { background: var(--panel); border-radius: .3rem; padding: .1rem .35rem; }
.row { display: flex; flex-wrap: wrap; align-items: baseline; gap: .6rem; padding: .8rem 1rem; margin: .6rem 0;
  color: var(--ink); border: 1px solid var(--line); border-radius: .7rem; }
.row:hover { background: var(--panel); text-decoration: none; }
.notice { background: var(--warm); border-radius: .6rem; padding: .6rem 1rem; overflow-wrap: anywhere; }
.notice.error { background: var(--alarm); }
.ref { font: .8rem ui-monospace, monospace; border: 1px solid var(--line); border-radius: .4rem; padding: .1rem .4rem; }
.ref.branch { color: var(--soft); }
.k, .kn, .kc, .kd, .ow, .nt { color: light-dark(#a626a4, #d58fe0); }
.s, .s1, .s2, .sd, .sb { color: light-dark(#3a7d2c, #98c97a); }
.c, .c1, .cm, .ch { color: var(--soft); font-style: italic; } .nf, .nc, .nb { color: light-dark(#2f6fd0, #82b4f5); }
.mi, .mf, .m { color: light-dark(#986801, #d8a868); }
"""
