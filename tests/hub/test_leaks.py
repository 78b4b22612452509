"""Tokens, keys and homes are found wherever they stand; hashes, weights and other people's words are not taken for them."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from safetensors.numpy import save_file

from release.hub import leaks

A, D, H = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6", "0123456789" * 8, "0a1b2c3d4e5f" * 8


def _part(**claims: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


SECRETS = {  # put together here, so that no scanner takes this file for a leak
    "Hugging Face": "hf_" + A[:34],
    "Hugging Face organisation": "api_org_" + A[:34],
    "GitHub": "ghp_" + A[:36],
    "GitHub, fine-grained": "github_pat_" + A[:22] + "_" + A + A[:10],
    "GitLab": "glpat-" + A[:20],
    "AWS": "AKIA" + A.upper()[:16],
    "AWS secret": 'aws_secret_access_key = "' + A[:40] + '"',
    "OpenAI": "sk-proj-" + A,
    "Anthropic": "sk-ant-" + "api03-" + A + A,
    "Google": "AIza" + A[:35],
    "Google client": "GOCSPX-" + A[:28],
    "Slack": "xoxb-" + D[:12] + "-" + A[:24],
    "Slack hook": "https://hooks.slack.com/services/T" + D[:8] + "/B" + D[:8] + "/" + A[:24],
    "Stripe": "sk_live_" + A[:24],
    "npm": "npm_" + A[:36],
    "PyPI": "pypi-AgEIcHlwaS5vcmc" + A + A,
    "SendGrid": "SG." + A[:22] + "." + A[:43],
    "Docker": "dckr_pat_" + A[:27],
    "Databricks": "dapi" + H[:32],
    "DigitalOcean": "dop_v1_" + H[:64],
    "Azure": "AccountKey=" + base64.b64encode(bytes(range(64))).decode(),
    "JWT": f"{_part(alg='HS256', typ='JWT')}.{_part(sub='1', name='somebody')}.{A[:43]}",
    "password in an address": "postgres://user:" + A[:16] + "@db.internal/x",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "PGP key": "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----",
    "age key": "AGE-SECRET-KEY-1" + A.upper() + A.upper()[:6],
    "Telegram": D[:10] + ":AA" + A[:33],
    "Discord": "M" + A[:23] + "." + A[:6] + "." + A[:27],
    "Twilio": "SK" + H[:32],
}  # fmt: skip
HOMES = (
    *(
        "/home/alice/x",
        "/Users/alice/x",
        "/root/x",
        "/var/home/alice/x",
        "/export/home/alice/x",
        "file:///home/alice/x",
    ),
    *(r"C:\Users\Alice\x", r"d:\\Users\\Alice B\\x", "C:/Users/alice/x", "/mnt/c/Users/alice/x"),
    *("/opt/lib/python3/site-packages/torch", "/usr/lib/python3/dist-packages/x", "/private/var/folders/z1/x"),
    *("/content/drive/MyDrive", "/kaggle/working/x"),
)


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_found_in_a_text(kind: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text(f"some words\n{SECRETS[kind]}\nmore")
    assert any("token or a private key" in line for line in leaks.in_file(tmp_path / "notes.md"))
    assert list(leaks.in_text(f"note: {SECRETS[kind]}"))


@pytest.mark.parametrize("home", HOMES)
def test_a_home_of_any_system_is_found(home: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(f'{{"data": "{home}"}}')
    assert any("path of the build machine" in line for line in leaks.in_file(tmp_path / "record.json"))


def test_a_secret_in_a_shard_or_in_the_head_of_weights_is_found(tmp_path: Path) -> None:
    documents = ["a document"] * 3000 + [f"see {SECRETS['Hugging Face']}"]
    parquet.write_table(
        pa.table({"query": ["q"] * 3001, "document": documents}), tmp_path / "x.parquet", row_group_size=900
    )
    assert "column document holds" in next(leaks.in_file(tmp_path / "x.parquet"))
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "x.safetensors", {"from": SECRETS["Hugging Face"]})
    assert "token" in next(leaks.in_file(tmp_path / "x.safetensors"))


def test_hashes_weights_vocabularies_and_addresses_are_no_leaks(tmp_path: Path) -> None:
    noise = np.random.default_rng(7).bytes(100_000)
    words = {"hashes": [hashlib.sha256(bytes([n])).hexdigest() for n in range(99)], "id": str(uuid.UUID(int=7))}
    words |= {
        "weights": base64.b64encode(noise).decode(),
        "vocab": ["Ġ/home", "sk-", "/root", "hf_", "password", "Users/", "eos_token"],
    }
    words |= {"links": ["https://example.org/home/page/x", "https://example.org/users/1", "https://a@example.org/x"]}
    words |= {"eos_token": "<|endoftext|>", "token": "a token of a text", "secret": "of success"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    save_file({"w": np.frombuffer(noise, np.uint8)}, tmp_path / "model.safetensors")
    (tmp_path / "model.onnx").write_bytes(noise)
    said = {
        "query": ["how to set a password"],
        "document": ["AKIAIOSFODNN7EXAMPLE is in the manual, /home/alice/x too"],
    }
    parquet.write_table(pa.table(said), tmp_path / "x.parquet")
    matches = {path.name: list(leaks.in_file(path)) for path in tmp_path.iterdir()}
    assert len(matches) == 4 and not any(matches.values()), matches
