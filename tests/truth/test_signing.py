"""A signed release is signed over all but its card; without the key, the signature or the right files it is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from benchmarks.signed_lies import new_key
from release.card import acceptance
from release.errors import ReleaseError
from release.family import Family, Signer, load
from release.files import sha256_folder
from release.hub import checks, proof, stage
from release.truth import manifest, signing
from tests import built

pytest.importorskip("model_signing", reason="the extra `sign` is not installed")

from model_signing import hashing
from model_signing import signing as model_signing


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The embedded family with a signing key, staged and signed."""
    built.workspace(tmp_path, reranker, monkeypatch)
    fingerprint = new_key(tmp_path / "key.pem")
    monkeypatch.setenv(signing.VARIABLE, str(tmp_path / "key.pem"))
    text = built.DEMO.read_text(encoding="utf-8")
    path = Path("signed.toml")
    path.write_text(text.replace('version = "v1"', f'version = "v1"\nsigning_key = "{fingerprint}"', 1))
    facts = load(path)
    stage.stage_dataset(facts)
    stage.stage_model(facts, built.SIZE)
    return facts


def test_a_release_is_signed_once_and_its_card_says_how_to_check_it(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stage.model_repo(family, built.SIZE)
    assert checks.problems(family, built.SIZE) == []
    card = (folder / "README.md").read_text()
    assert f"fingerprint `{family.about.signing_key}`" in card and "model_signing verify key" in card
    before = sha256_folder(folder)
    monkeypatch.delenv(signing.VARIABLE)
    assert sha256_folder(stage.stage_model(family, built.SIZE)) == before  # the signature is kept, no key is needed
    made = manifest.read(folder)
    assert made.signing_key == family.about.signing_key and not {*signing.FILES} & made.files.keys()
    proofs = proof.proved(made, folder.resolve(), tmp_path / "again")
    assert "rendered again to the same" in proofs["card"]


def sign_less(folder: Path) -> None:
    """Sign again with the right key, but not the weights, which may then be any."""
    config = hashing.Config().set_ignored_paths(paths=(*signing.UNSIGNED, "model.safetensors"))
    signer = model_signing.Config().use_elliptic_key_signer(private_key=os.environ[signing.VARIABLE])
    signer.set_hashing_config(config).sign(folder, folder / signing.SIGNATURE)


EDITS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "card": (lambda folder: (folder / "README.md").write_text("corrected"), None),
    "config": (lambda folder: (folder / "config.json").write_text("{}"), "release.sig: does not sign these files"),
    "more": (lambda folder: (folder / "more.json").write_text("{}"), "release.sig: does not sign these files"),
    "manifest": (lambda folder: (folder / manifest.FILE).write_text("{}"), "release.sig: does not sign these files"),
    "none": (
        lambda folder: (folder / signing.SIGNATURE).unlink(),
        "release.sig: the family file says that it is signed",
    ),
    "less": (sign_less, "release.sig: does not sign model.safetensors"),
    "key": (lambda folder: new_key(folder / "release.pem"), "release.pub: not the key that the family file names"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_signature_holds_for_all_but_the_card(family: Family, name: str) -> None:
    folder = stage.model_repo(family, built.SIZE)
    change, says = EDITS[name]
    change(folder)
    message = signing.problem(folder, family.about.signer or Signer())
    assert message is None if says is None else str(message).startswith(says), message
    assert checks.problems(family, built.SIZE)  # an edited card is no lie to the signature, and one to release.json


IDENTITY = "https://github.com/org/rerankers/.github/workflows/release.yml@refs/heads/main"
PROVIDER = "https://token.actions.githubusercontent.com"


def test_who_signs_by_sigstore_is_described_and_nothing_is_half_signed_without_it(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sigstore itself cannot exist here: no job has an identity, and its keys cannot be fetched."""
    text = family.path.read_text()
    named = f'signing_identity = "{IDENTITY}"\nsigning_provider = "{PROVIDER}"'
    Path("job.toml").write_text(text.replace(f'signing_key = "{family.about.signing_key}"', named))
    job = load(Path("job.toml"))
    assert job.about.signer == Signer(identity=IDENTITY, provider=PROVIDER)
    folder = stage.model_repo(job, built.SIZE)
    before = sha256_folder(folder)
    for name in os.environ:
        if name.startswith(("GITHUB_", "GITLAB_", "ACTIONS_", "CIRCLECI", "BUILDKITE")):
            monkeypatch.delenv(name)
    for name in signing.FILES:
        (folder / name).rename(tmp_path / name)
    with pytest.raises(
        ReleaseError, match=r"release\.yml@refs/heads/main signs, and this is no CI job; in .*id-token"
    ) as no:
        stage.stage_model(job, built.SIZE)
    assert "\n" not in str(no.value) and not list(folder.parent.glob("repo?*"))
    assert not (folder / signing.SIGNATURE).exists() and (folder / manifest.FILE).is_file()

    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "no token")  # how that CI hands one over
    with pytest.raises(ReleaseError, match=r"may not say who it is \(Malformed token\).*id-token"):
        stage.stage_model(job, built.SIZE)
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", jwt.encode({"aud": "sigstore", "iss": PROVIDER}, "k" * 32))
    monkeypatch.setattr("sigstore.models.DEFAULT_TUF_URL", "https://127.0.0.1:9")
    with pytest.raises(ReleaseError, match=r"^Sigstore cannot be reached"):
        stage.stage_model(job, built.SIZE)
    for name in signing.FILES:
        (tmp_path / name).rename(folder / name)
    assert sha256_folder(folder) == before

    contents = stage.model_contents(job, built.SIZE, acceptance.card_records(job, built.SIZE))
    made = stage.given(contents)
    assert (made.signer, made.beside) == (job.about.signer, (manifest.FILE, signing.SIGNATURE))
    assert f"--identity {IDENTITY}\n--identity_provider {PROVIDER}" in str(contents["README.md"])
    with pytest.raises(ReleaseError, match=r"cannot be checked here: Sigstore's keys cannot be read") as unread:
        signing.problem(folder, made.signer or Signer())
    assert "\n" not in str(unread.value)


def test_without_the_right_key_nothing_is_staged(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.measure_again(family, "speed", **vars(built.speed_result(999.0)))
    before = sha256_folder(stage.model_repo(family, built.SIZE))
    for value, says in (
        (
            "",
            r"names a signing key, and no private key is named; in RELEASE_SIGNING_KEY; hint: RELEASE_SIGNING_KEY=key",
        ),
        (str(tmp_path / "absent.pem"), r"no private key in PEM without a password \(FileNotFoundError\).*openssl"),
        (str(tmp_path / "other.pem"), r"has the fingerprint .*, and the family file names"),
    ):
        new_key(tmp_path / "other.pem")
        monkeypatch.setenv(signing.VARIABLE, value)
        with pytest.raises(ReleaseError, match=says):
            stage.stage_model(family, built.SIZE)
        assert sha256_folder(stage.model_repo(family, built.SIZE)) == before
