"""The signature of a repository by OpenSSF Model Signing: every file but the card, so that a corrected card does not break it.

The family file names the public key by its fingerprint (`[family] signing_key`), so that card, staged folder and whoever verifies
know whether there must be a signature. The private key is a PEM file that RELEASE_SIGNING_KEY names, and never leaves its place.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from release.errors import ReleaseError
from release.files import copy_file, write_atomic

SIGNATURE, PUBLIC_KEY = "release.sig", "release.pub"  # in the repository
FILES = (SIGNATURE, PUBLIC_KEY)
UNSIGNED = ("README.md", SIGNATURE, ".cache")  # .cache is the client's own, where somebody downloads to a folder
VARIABLE = "RELEASE_SIGNING_KEY"
MISSING = "pip install 'ettin-release[sign]'"


def sign(folder: Path, fingerprint: str, earlier: Path) -> None:
    """Sign `folder`, or keep the signature of `earlier` where that signs the same: no two signatures of one content are equal.

    Raises:
        ReleaseError: There is no private key, or it is another one than the family's.
    """
    if all((earlier / name).is_file() for name in FILES):
        for name in FILES:
            copy_file(earlier / name, folder / name)
        if problem(folder, fingerprint) is None:
            return
    path = os.environ.get(VARIABLE, "")
    if not path:
        hint = f"{VARIABLE}=key.pem, the private key of that fingerprint"
        raise ReleaseError(
            "the family file names a signing key, and no private key is named", where=VARIABLE, hint=hint
        )
    from cryptography.hazmat.primitives import serialization  # the extra `sign` brings these two
    from model_signing import hashing, signing

    try:
        private = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        hint = "openssl ecparam -genkey -name prime256v1 -noout -out key.pem makes one"
        raise ReleaseError(
            f"no private key in PEM without a password ({type(error).__name__})", where=path, hint=hint
        ) from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    write_atomic(folder / PUBLIC_KEY, private.public_key().public_bytes(serialization.Encoding.PEM, form))
    if (given := key_fingerprint(folder / PUBLIC_KEY)) != fingerprint:
        what = f"the private key has the fingerprint {given}, and the family file names {fingerprint}"
        raise ReleaseError(what, where=VARIABLE, hint="name the other key, or correct [family] signing_key")
    config = hashing.Config().set_ignored_paths(paths=UNSIGNED)
    signer = signing.Config().use_elliptic_key_signer(private_key=path).set_hashing_config(config)
    signer.sign(folder, folder / SIGNATURE)


def key_fingerprint(public_key: Path) -> str:
    """The sha256 of a public key (DER): `openssl pkey -pubin -in release.pub -outform DER | sha256sum`."""
    from cryptography.hazmat.primitives import serialization  # the extra `sign` brings it

    key = serialization.load_pem_public_key(public_key.read_bytes())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def problem(folder: Path, fingerprint: str) -> str | None:
    """What is wrong with the signature of a folder, None where it is that of the key and of these files."""
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        return f"{missing[0]}: the family file says that it is signed, and it is not there"
    try:
        from model_signing import verifying

        if key_fingerprint(folder / PUBLIC_KEY) != fingerprint:
            return f"{PUBLIC_KEY}: not the key that the family file names"
        verifying.Config().use_elliptic_key_verifier(public_key=folder / PUBLIC_KEY).verify(folder, folder / SIGNATURE)
    except ModuleNotFoundError as error:
        raise ReleaseError("a signature cannot be checked here", where=str(folder), hint=MISSING) from error
    except Exception as error:  # the library has no error of its own for what does not verify
        return f"{SIGNATURE}: does not sign these files ({' '.join(str(error).split())[:120]})"
    return None
