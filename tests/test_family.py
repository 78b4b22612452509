"""The family file is the single source of facts, and says clearly what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from release import family
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parent.parent
ETTIN = ROOT / "recipes/ettin.toml"


def refusal(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """What is said about Ettin's family file with these changes."""
    text = ETTIN.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text)
    with pytest.raises(ReleaseError) as raised:
        family.load(wrong)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_ettin_size_trains_with_the_published_facts() -> None:
    published = {
        "17m": (2.4e-4, 1024),
        "32m": (1.2e-4, 512),
        "68m": (3e-5, 256),
        "150m": (1.5e-5, 192),
        "400m": (7e-6, 256),
        "1b": (3e-6, 512),
    }
    ettin = family.load(ETTIN)
    assert {name: (s.learning_rate, s.global_batch_size) for name, s in ettin.sizes.items()} == published
    assert {name: s.encoder for name, s in ettin.sizes.items()} == {
        name: f"jhu-clsp/ettin-encoder-{name}" for name in published
    }


def test_ettin_is_chosen_and_measured_as_the_table_of_fidelity_says() -> None:
    ettin = family.load(ETTIN)
    assert (ettin.evaluation.always_rerank_positives, ettin.evaluation.nano_dtype) == (False, "float32")
    assert ettin.data.mixture == "cross-encoder/ettin-reranker-v1-data"
    assert ettin.training.keep_in_fp32_modules == ("4.linear",)


def test_ettin_reads_as_many_tokens_as_were_published() -> None:
    ettin = family.load(ETTIN)
    assert ettin.training.max_length == 7_999
    named = {name: ettin.model(name).max_length for name in ettin.evaluation.compared}
    assert {name: limit for name, limit in named.items() if limit} == {
        "Qwen/Qwen3-Reranker-4B": 8_192,
        "zeroentropy/zerank-2-reranker": 8_192,
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[sizes.17m]", '[models."acme/none"]\n[sizes.17m]', r"describes 'acme/none', which the family does not use"),
        ('[models."Qwen/Qwen3-R', '[models."Qwen/Qwen-R', "hint: did you mean 'Qwen/Qwen3-Reranker-4B'"),
        ("max_length = 8192  ", "remote_code = true  ", "code from the Hub runs at a named commit only"),
        ("max_length = 8192  ", 'revision = "main"  ', "models.Qwen/Qwen3-Reranker-4B.revision"),
        ("\nmixture = ", f'\nmixture_revision = "{"a" * 40}"\n# ', "mixture_revision without a mixture"),
        ("epochs = 1", 'epochs = 1\nkeep_in_fp32_modules = ["0"]', "keep_in_fp32_modules"),
    ],
)
def test_what_cannot_be_said_of_a_public_model_or_mixture_is_refused(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert re.search(says, refusal(tmp_path, (old, new)))


def test_every_proof_that_the_table_of_fidelity_names_is_there() -> None:
    text = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|release|recipes)/[\w./-]+)`", text))
    assert len(named) > 10
    assert {path for path in named if not (ROOT / path).exists()} == set()
    for line in text.splitlines():
        if re.search(r"\| same[^|]*\|$", line):
            assert "tests/" in line or "stored in fp32" in line, line


def test_names_follow_from_the_family() -> None:
    ettin = family.load(ETTIN)
    assert ettin.model_id("68m") == "cross-encoder/ettin-reranker-68m-v1"
    assert ettin.data_id == "cross-encoder/ettin-reranker-v1-data"
    assert ettin.folder("68m") == Path("build/ettin-reranker/68m")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('license = "apache-2.0"', "", "missing key 'license'; in {file}, key family; hint"),
        ("epochs = 1", "epoch = 1", "unknown key 'epoch'; in {file}, key training; hint: did you mean 'epochs'?"),
        ("epochs = 1", 'epochs = "1"', "expected a valid integer, found str '1'; in {file}, key training.epochs;"),
        ('loss = "mse"', 'loss = "mae"', "unknown value 'mae'; in {file}, key training.loss; hint: did you mean 'mse'"),
        ("epochs = 1", "epochs = true", "expected a valid integer, found bool True"),
        ("learning_rate = 3e-5", 'learning_rate = "small"', "key sizes.68m.learning_rate"),
        ("embedders = [", "embedders = [3,", "key evaluation.embedders.0"),
        ("[speed]", "[sped]", "unknown key 'sped'; in {file}; hint: did you mean 'speed'?"),
        ("[sizes.17m]", "[[sizes.17m]]", "expected an object, found list"),
        ('encoder = "jhu-clsp/ettin-encoder-17m"', 'name = "x"', "unknown key 'name'; in {file}, key sizes.17m"),
        ("[family]", "[family", "not a TOML file"),
        ("[family]", f"x = {'[' * 3000}{']' * 3000}\n[family]", "not a TOML file"),
        ('version = "v1"', "version = 2026-01-01", "date; text needs quotes"),
    ],
)
def test_a_wrong_family_file_is_refused_by_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says.format(file=tmp_path / "wrong.toml") in refusal(tmp_path, (old, new))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("epochs", (0, -1, 1.5, 10**5)),
        ("evaluations", (0, 10**9)),
        ("checkpoints", (0, 10**9)),
        ("warmup", (-0.1, 1, 1.5, "nan")),
        ("learning_rate", (0, -1e-5, "nan", "inf", 1e300, 1.5)),
        ("global_batch_size", (0, -8, 10**12)),
        ("max_length", (7, -1, 0, 10**9)),
        ("top_k", (0, 1001)),
        ("first_batch", (0, 10**12)),
        ("passes", (0, 10**6)),
        ("seed", (-1, 2**32)),
    ],
)
def test_a_number_out_of_its_range_is_refused(tmp_path: Path, key: str, values: tuple[float | str, ...]) -> None:
    for value in values:
        said = refusal(tmp_path, (f"\n{key} = ", f"\n{key} = {value} # "))
        assert f".{key}; hint" in said and "expected" in said, said


@pytest.mark.parametrize("name", ["..", "../up", "/etc", "a/b", "a--b", "-a", "a.", "", "a b", "ä", "a\\\\b", "x" * 97])
@pytest.mark.parametrize("key", ["name", "version", "organization", "repository", "[sizes]"])
def test_no_name_becomes_a_path_or_a_repository_that_cannot_be(tmp_path: Path, key: str, name: str) -> None:
    change = ("[sizes.17m]", f'[sizes."{name}"]') if key == "[sizes]" else (f"\n{key} = ", f'\n{key} = "{name}" # ')
    assert "is no name that the Hub takes" in refusal(tmp_path, change)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([('name = "ettin-reranker"', 'name = "hub"')], "the name of another folder of build/"),
        ([("[sizes.17m]", "[sizes.Data]")], "the name of another folder of build/"),
        ([("[sizes.17m]", "[sizes.68M]")], "differ by upper and lower case only"),
        ([('name = "ettin-reranker"', f'name = "{"x" * 90}"')], "-17m-v1 is no repository id"),
        ([("collections = []", 'collections = ["../elsewhere"]')], "key evaluation.collections.0"),
        ([("nano_sets = [", 'nano_sets = ["NQ",')], "'NQ' is no name of a NanoBEIR set"),
        ([("nano_sets = [", 'nano_sets = ["NanoNQ",')], "'NanoNQ' is named twice; .*key evaluation.nano_sets; hint"),
        ([("tasks = [", 'tasks = ["ArguAna",')], "'ArguAna' is named twice"),
        ([("embedders = [", 'embedders = ["bm25", "bm25",')], "'bm25' is named twice"),
        ([('license = "apache-2.0"', 'license = "GPL-3.0"')], "unknown licence 'GPL-3.0'; .*did you mean 'gpl-3.0'"),
        ([('"BAAI/bge-reranker-base"', '"../../elsewhere"')], "key evaluation.compared.11"),
        ([('language = "en"', 'language = "English"')], "no ISO 639 code"),
        ([('language = "en"', 'language = "xx"')], "'xx' is no ISO 639 code"),
        ([('license = "apache-2.0"', 'license = "apache2"')], "unknown licence 'apache2'; .*did you mean 'apache-2.0'"),
        ([('title = "Ettin Reranker"', r'title = "Ettin\nReranker"')], "expected a line of text"),
        ([('title = "Ettin Reranker"', 'title = ""')], "expected a line of text, found ''"),
        ([('title = "Ettin Reranker"', r'title = "a\u202eb"')], "expected a line of text"),
        ([('title = "Ettin Reranker"', f'title = "{"a" * 1001}"')], "write 1 to 1,000 characters"),
        ([('collection = "Ettin Rerankers"', f'collection = "{"a" * 61}"')], "at most 60 characters"),
        ([('declaration = "datasets/ettin-reranker-v1-data.yaml"', 'declaration = ""')], "expected a path, found none"),
        ([('declaration = "datasets/ettin-reranker-v1-data.yaml"', r'declaration = "a\u0000b"')], "expected a line"),
    ],
)
def test_what_no_type_can_say_is_checked_too(tmp_path: Path, changes: list[tuple[str, str]], says: str) -> None:
    assert re.search(says, refusal(tmp_path, *changes))


OTHER = ('license = "apache-2.0"', 'license = "other"')
NAMED = (
    'version = "v1"',
    'version = "v1"\nlicense_name = "my-licence-1.0"\nlicense_link = "https://example.org/licence"',
)


def test_the_licence_other_has_a_name_and_a_link(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    text = ETTIN.read_text().replace(*OTHER, 1)
    path.write_text(text.replace(*NAMED, 1))
    about = family.load(path).about
    assert (about.license, about.license_name, about.license_link) == (
        "other",
        "my-licence-1.0",
        "https://example.org/licence",
    )
    path.write_text(text[: text.index("[data]")].replace(*NAMED, 1) + text[text.index("[data]") :].replace(*OTHER, 1))
    assert family.load(path).data.license_name is None  # of training data it says that each source keeps its own


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([OTHER], "needs license_name and license_link; .*key family; hint: add license_name"),
        ([OTHER, ('version = "v1"', 'version = "v1"\nlicense_name = "mine"')], "needs license_name and license_link"),
        ([NAMED], "are for the licence `other`, not for apache-2.0; .*hint: remove them"),
        ([OTHER, NAMED, ("my-licence-1.0", "My Licence")], "'My Licence' cannot be the name of a licence"),
        ([OTHER, NAMED, ("https://example.org/licence", "LICENSE")], "'LICENSE' is no address of a page"),
        ([OTHER, NAMED, ("https://example.org/licence", "https://a.b/) [x](y")], "is no address of a page"),
        ([OTHER, NAMED, ("https://example.org/licence", "javascript:alert(1)")], "is no address of a page"),
        ([OTHER, NAMED, ("https://example.org/licence", "https://")], "is no address of a page"),
        ([OTHER, NAMED, ("https://example.org/licence", "https://me:secret@a.b/")], "is no address of a page"),
        ([OTHER, NAMED, ("https://example.org/licence", r"https://a.b/\u0007")], "is no address of a page"),
    ],
)
def test_a_licence_that_does_not_go_together_is_refused(
    tmp_path: Path, changes: list[tuple[str, str]], says: str
) -> None:
    assert re.search(says, refusal(tmp_path, *changes))


def test_a_family_without_anything_to_evaluate_on_is_refused(tmp_path: Path) -> None:
    text = re.sub("\npackaged_embedders = .*", "", (ROOT / "recipes/demo.toml").read_text())
    for key, says in (
        ("collections", "no tasks and no collections"),
        ("embedders", "no embedders"),
        ("nano_sets", "no nano_sets"),
    ):
        (tmp_path / "empty.toml").write_text(text.replace(f"\n{key} = [", f"\n{key} = [] # "))
        with pytest.raises(ReleaseError, match=rf"\[evaluation\] has {says}"):
            family.load(tmp_path / "empty.toml")
        assert family.load(tmp_path / "empty.toml", evaluated=False).data  # its data can be made


def test_several_mistakes_are_one_line_that_counts_the_others(tmp_path: Path) -> None:
    said = refusal(tmp_path, ("seed = 12", "seed = -1"), ("top_k = 100", "top_k = 0"), ("passes = 3", "passes = 0"))
    assert "key training.seed" in said and said.endswith("(2 more to correct after this)")


def test_an_unknown_size_or_file_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="17m, 32m, 68m, 150m, 400m, 1b"):
        family.load(ETTIN).size("69m")
    with pytest.raises(ReleaseError, match="no family file"):
        family.load(tmp_path / "absent.toml")
