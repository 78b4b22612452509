"""Lies about a signature, told on the Hub after a signed release; part of `make lies`, where the extra `sign` is installed.

Whoever signs everything anew by another key, and lets the repository name that key, is caught by those alone who know which key it
must be: `verify --repo ID --key FINGERPRINT`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from benchmarks.hub_lies import thorough, verified
from release.family import Family, Signer, load
from release.files import list_files
from release.hub import anywhere, publish, stage, state
from release.truth import manifest, signing

Lie = Callable[[Path, Path], object]  # changes a copy of what was released; the second folder holds other.pem


def new_key(path: Path) -> str:
    """A private key at `path`; returns its fingerprint."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private, public = ec.generate_private_key(ec.SECP256R1()), path.with_suffix(".pub")
    pem = serialization.Encoding.PEM
    path.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return signing.key_fingerprint(public)


def _sign(folder: Path, key: Path, left_out: tuple[str, ...] = ()) -> None:
    """As this project does, with a key of one's own and without some files."""
    from model_signing import hashing
    from model_signing import signing as library

    config = hashing.Config().set_ignored_paths(paths=(*signing.UNSIGNED, *left_out))
    signer = library.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config)
    signer.sign(folder, folder / signing.SIGNATURE)


def _other_key(folder: Path, keys: Path) -> None:
    shutil.copy(keys / "other.pub", folder / signing.PUBLIC_KEY)
    _sign(folder, keys / "other.pem")


def _other_release(folder: Path, keys: Path) -> None:
    """The signature of another folder by the right key."""
    other = keys / "another release"
    other.mkdir(exist_ok=True)
    (other / "config.json").write_text("{}")
    _sign(other, keys / "key.pem")
    shutil.copy(other / signing.SIGNATURE, folder / signing.SIGNATURE)


def _removed(folder: Path, _: Path) -> None:
    for name in signing.FILES:
        (folder / name).unlink()


def _fewer(folder: Path, keys: Path) -> None:
    """By the right key, without the weights, which are others then."""
    _sign(folder, keys / "key.pem", ("model.safetensors",))


def _weights(folder: Path, _: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _named(folder, path.name)


def _named(folder: Path, name: str) -> None:
    """Let release.json name a file as it is."""
    for path, content in thorough(lambda _: {name: (folder / name).read_bytes()})(folder).items():
        (folder / path).write_bytes(content or b"")


def _anew(folder: Path, keys: Path, key: str | None) -> None:
    """Everything staged anew by another family file, which names another key or none."""
    made = manifest.read(folder)
    text = Path("signed.toml").read_text(encoding="utf-8")
    line = f'signing_key = "{made.signing_key}"'
    Path("lie.toml").write_text(text.replace(line, f'signing_key = "{key}"' if key else ""), encoding="utf-8")
    os.environ[signing.VARIABLE] = str(keys / "other.pem")
    family = dataclasses.replace(load(Path("lie.toml")), path=Path("signed.toml"))
    staged = stage.stage_model(family, made.size)
    shutil.rmtree(folder)
    shutil.copytree(staged, folder)
    os.environ[signing.VARIABLE] = str(keys / "key.pem")


LIES: dict[str, Lie] = {
    "another key of the same name": _other_key,
    "the signature of another release": _other_release,
    "no signature": _removed,
    "fewer files signed": _fewer,
    "a bit of the weights, with release.json": _weights,
    "signed anew by another key": lambda folder, keys: _anew(folder, keys, signing.key_fingerprint(keys / "other.pub")),
    "released anew without a signature": lambda folder, keys: _anew(folder, keys, None),
}


def tell(api: HfApi, family_file: str, size: str) -> dict[str, str | None]:
    """Release the staged build in the working folder once more, signed and under another version, and tell every lie."""
    with tempfile.TemporaryDirectory(prefix="keys-") as folder:
        keys = Path(folder)
        fingerprint, _ = new_key(keys / "key.pem"), new_key(keys / "other.pem")
        os.environ[signing.VARIABLE] = str(keys / "key.pem")
        family = _signed_family(family_file, fingerprint)
        stage.stage_dataset(family)
        stage.stage_model(family, size)
        publish.publish(family, size, str(api.endpoint))
        repos = state.desired_repos(family, size)
        publish.finish(family, size, api, {repo.id: state.remote_repo(api, repo).commit or "" for repo in repos})
        repo, released = family.model_id(size), keys / "released"
        shutil.copytree(stage.model_repo(family, size), released)
        signer = Signer(fingerprint)
        anywhere.verify(repo, api, signer=signer)
        return {
            f"on the Hub, signed: {name}": _told(api, repo, released, lie, keys, signer) for name, lie in LIES.items()
        }


def _signed_family(text: str, fingerprint: str) -> Family:
    """The family under another version, with other data and another collection, so that it is a release of its own."""
    for old, new in (
        ('version = "v1"', f'version = "v9"\nsigning_key = "{fingerprint}"'),
        ('"docstring-reranker-data"', '"docstring-signed-data"'),
        ('"Docstring Rerankers"', '"Signed Docstring Rerankers"'),
    ):
        assert old in text
        text = text.replace(old, new)
    Path("signed.toml").write_text(text, encoding="utf-8")
    return load(Path("signed.toml"))


def _told(api: HfApi, repo: str, released: Path, lie: Lie, keys: Path, signer: Signer) -> str | None:
    folder = keys / "told"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(released, folder)
    lie(folder, keys)
    names, before = list_files(folder), list_files(released)
    operations = [
        CommitOperationAdd(name, str(folder / name))
        for name in names
        if name not in before or (folder / name).read_bytes() != (released / name).read_bytes()
    ]
    gone = [CommitOperationDelete(name) for name in before if name not in names]
    said = f"{manifest.FILE} sha256 {hashlib.sha256((folder / manifest.FILE).read_bytes()).hexdigest()}"
    branch = f"lie-{abs(hash(lie))}"
    api.create_branch(repo, branch=branch)
    about = {"commit_message": "Release v9", "commit_description": said, "revision": branch}
    done = api.create_commit(repo, [*operations, *gone], **about)
    return verified(api, repo, str(done.oid), signer)
