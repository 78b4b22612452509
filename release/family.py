"""A family of rerankers: its TOML file as frozen dataclasses. Nothing else in the project knows a size."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from huggingface_hub.utils import HFValidationError, validate_repo_id
from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from release.errors import ReleaseError
from release.files import resource
from release.mode import ORGANIZATION
from release.names import (
    CollectionTitle,
    ConfigName,
    FileName,
    HubLicense,
    HubName,
    LanguageCode,
    LicenseName,
    Line,
    LinePath,
    NanoSet,
    RepositoryId,
    TagName,
    WebAddress,
    distinct,
    licence_mistake,
)
from release.schema import STRICT, MaxLength, Pairs, Seed, Times, closest, parse, problem
from release.text_files import toml_tables

DEPTH = 1000  # documents per query that a first stage's run holds
BM25 = "bm25"  # the one first stage that is no embedder
MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # the one embedder that a package holds: the extra `demo`
Dtype = Literal["float32", "bfloat16", "float16"]
Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
CARD_TABLES = (
    "family",
    "teacher",
    "data",
    "training",
    "evaluation",
    "speed",
    "card",
    "sizes",
)  # as make's facts of a card
TAKEN_FAMILIES = {"demo", "evaluations", "hf-home", "hub", "quality", "rehearsal"}  # other folders of build/
TAKEN_SIZES = {"all", "compared", "data", "facts", "records"}  # SIZE=all, and other folders of build/<family>/


@dataclass(frozen=True)
class Signer:
    """Who signs a release: whoever has a key, or a CI job that Sigstore knows.

    Attributes:
        key: The sha256 of the public key (DER).
        identity, provider: As Sigstore's certificate has them: for a job of GitHub the address of its workflow file with the
            branch, and who says that it is that job.
    """

    key: str | None = None
    identity: str | None = None
    provider: str | None = None

    @classmethod
    def of(cls, *names: str | None) -> Self | None:
        """Its attributes in their order; None where none of them is given, for then nobody signs."""
        return cls(*names) if any(name is not None for name in names) else None

    def __str__(self) -> str:
        """In words."""
        return f"the key {self.key}" if self.key else f"{self.identity} (as {self.provider} says)"


@dataclass(frozen=True, config=STRICT)
class FamilyInfo:
    """Table `[family]`: names, licence and language. Repositories are called `<name>-<size>-<version>`.

    The licence `other` has a name and a link of its own. `signing_key` is the sha256 of the public key (DER) by whose private
    key releases are signed; `signing_identity` and `signing_provider` are instead of it who signs by Sigstore; without any they
    are not signed.
    """

    name: HubName
    title: Line
    version: TagName
    organization: HubName
    license: HubLicense
    language: LanguageCode
    collection: CollectionTitle
    summary: Line
    license_name: LicenseName | None = None
    license_link: WebAddress | None = None
    signing_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    signing_identity: Line | None = None
    signing_provider: WebAddress | None = None

    @property
    def signer(self) -> Signer | None:
        """Who signs, None where nobody does."""
        return Signer.of(self.signing_key, self.signing_identity, self.signing_provider)

    @model_validator(mode="after")
    def _signed_once(self) -> Self:
        sigstore = (self.signing_identity, self.signing_provider)
        if (self.signing_key and any(sigstore)) or any(sigstore) != all(sigstore):
            what = "signing_key, or signing_identity with signing_provider: one of the two ways to sign"
            raise problem(what, "remove the others")
        return self

    @model_validator(mode="after")
    def _licensed(self) -> Self:
        if mistake := licence_mistake(self.license, self.license_name, self.license_link):
            raise problem(*mistake)
        return self


@dataclass(frozen=True, config=STRICT)
class TeacherConfig:
    """Table `[teacher]`: what labels the pairs. `kind` is `cross-encoder`, or `stand-in` for the embedded default."""

    model: Line
    kind: Literal["cross-encoder", "stand-in"]
    license: HubLicense
    max_length: MaxLength


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """Table `[data]`: the declaration of sources, the dataset repository, and the config with a validation split.

    The licence `other` without a name and a link says that each source keeps its own. `mixture` is a dataset on the Hub that is
    taken as it is, at `mixture_revision`, or else at the commit that is the newest when `make mix` first runs; then nothing is
    mixed, labelled or published as the family's own. Without it the declared sources are mixed anew.
    """

    declaration: LinePath
    repository: HubName
    license: HubLicense
    validation: ConfigName
    license_name: LicenseName | None = None
    license_link: WebAddress | None = None
    mixture: RepositoryId | None = None
    mixture_revision: Commit | None = None

    @model_validator(mode="after")
    def _revision_of_something(self) -> Self:
        if self.mixture_revision and not self.mixture:
            raise problem("mixture_revision without a mixture", "name the dataset on the Hub in `mixture`")
        return self

    @model_validator(mode="after")
    def _licensed(self) -> Self:
        named = self.license_name or self.license_link
        mistake = licence_mistake(self.license, self.license_name, self.license_link)
        if mistake and (self.license != "other" or named):
            raise problem(*mistake)
        return self


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Table `[training]`: what all sizes share. `warmup` is a share of the steps, `evaluations` a count per run.

    `keep_in_fp32_modules` is Sentence Transformers' name: the last layer, or nothing, as published, so that autocast rounds scores.
    """

    loss: Literal["mse", "margin-mse"]
    epochs: Times
    warmup: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["bf16", "fp32"]
    max_length: MaxLength
    evaluations: Times
    checkpoints: Times
    seed: Seed
    keep_in_fp32_modules: tuple[Literal["4.linear"], ...] = ("4.linear",)


@dataclass(frozen=True, config=STRICT)
class EvaluationConfig:
    """Table `[evaluation]`: NanoBEIR sets for training, tasks or BEIR collections and first stages for the card.

    `always_rerank_positives` is Sentence Transformers' name: whether the nano sets' NDCG@10 is over all positives, or over those
    among the candidates. `packaged_embedders` are those of `embedders` whose weights come from an installed package, never
    from a Hub: their scores have another dtype, so nobody falls back to them. `dtype` and `nano_dtype` are those of the
    rerankers' weights on the tasks and on the nano sets; left out: bfloat16 on a GPU, float32 on a CPU. Where the two differ,
    the nano sets are measured in both.
    """

    nano: Line
    nano_sets: Annotated[tuple[NanoSet, ...], AfterValidator(distinct)]
    tasks: Annotated[tuple[Line, ...], AfterValidator(distinct)]
    collections: Annotated[tuple[FileName, ...], AfterValidator(distinct)]
    embedders: Annotated[tuple[Line, ...], AfterValidator(distinct)]
    top_k: Annotated[int, Field(ge=1, le=DEPTH)]
    compared: Annotated[tuple[RepositoryId, ...], AfterValidator(distinct)]
    always_rerank_positives: bool = False
    packaged_embedders: tuple[Line, ...] = ()
    dtype: Dtype | None = None
    nano_dtype: Dtype | None = None


@dataclass(frozen=True, config=STRICT)
class SpeedConfig:
    """Table `[speed]`: the protocol, and the device (a part of its name) that an official card requires."""

    device: Line
    pairs: Line
    max_length: MaxLength
    first_batch: Pairs
    passes: Times


@dataclass(frozen=True, config=STRICT)
class CardConfig:
    """Table `[card]`: what a model's card says beside the measurements.

    `query` and `documents` are the example of every snippet; the first document answers the query. `citations` are files of
    cards/citations. `encoder_license` and `encoder_copyright` are those of the encoders, whose notice a card keeps. Without
    the table a card asks a general question and cites the library. `eval_results` adds files for the Hub's leaderboards.
    """

    query: Line = "how many calories are in an egg"
    documents: Annotated[tuple[Line, ...], Field(min_length=2)] = (
        "A large egg has about 70 calories.",
        "Mars is called the red planet.",
    )
    citations: tuple[FileName, ...] = ()
    encoder_license: HubLicense | None = None
    encoder_copyright: Line | None = None
    eval_results: bool = False


@dataclass(frozen=True, config=STRICT)
class ReleaseConfig:
    """Table `[release]`: figures that may be lower than those of the version before, by the names that `make plan` prints."""

    allow_regression: Annotated[tuple[Line, ...], AfterValidator(distinct)] = ()


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Table `[models."<Hub id>"]`: how a public model of the family is run, where that is not as its repository says.

    `prompts` of an embedder stand before queries and documents, instead of those that mteb's registry or the repository has.
    `revision` replaces the registry's, or the newest one. Code from the Hub runs only with `remote_code`, at that commit.
    """

    revision: Commit | None = None
    max_length: MaxLength | None = None
    prompts: dict[Literal["query", "document"], str] | None = None
    remote_code: bool = False

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.remote_code and not self.revision:
            raise problem("code from the Hub runs at a named commit only", "add revision: the commit that was read")
        return self


@dataclass(frozen=True, config=STRICT)
class SizeConfig:
    """Table `[sizes.<name>]`: the only three facts that differ between the members of a family."""

    encoder: Line
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    global_batch_size: Pairs


@dataclass(frozen=True, config=STRICT)
class _FamilyFile:
    """The tables of the file, under their names there."""

    family: FamilyInfo
    teacher: TeacherConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    speed: SpeedConfig
    sizes: Annotated[dict[HubName, SizeConfig], Field(min_length=1)]
    card: CardConfig = CardConfig()
    release: ReleaseConfig = ReleaseConfig()

    models: dict[RepositoryId, ModelConfig] = field(default_factory=dict)

    @model_validator(mode="after")
    def _models_are_named(self) -> Self:
        named = {self.teacher.model, *self.evaluation.embedders, *self.evaluation.compared}
        if unknown := sorted(self.models.keys() - named):
            hint = f"{closest(unknown[0], named)}; [models] is about the teacher, and embedders and compared of [evaluation]"
            raise problem(f"[models] describes {unknown[0]!r}, which the family does not use", hint)
        return self

    @model_validator(mode="after")
    def _packaged_embedders_are_known(self) -> Self:
        given = self.evaluation
        for name in given.packaged_embedders:
            if name != MINILM or name not in given.embedders:
                raise problem(
                    f"[evaluation] packaged_embedders names {name!r}", f"only {MINILM}, where `embedders` has it"
                )
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        info = self.family
        if info.name.lower() in TAKEN_FAMILIES or any(size.lower() in TAKEN_SIZES for size in self.sizes):
            taken = ", ".join(sorted(TAKEN_FAMILIES | TAKEN_SIZES))
            what = "a family or size has the name of another folder of build/, or of all sizes"
            raise problem(what, f"take none of {taken}")
        if len({size.lower() for size in self.sizes}) < len(self.sizes):
            raise problem("two sizes differ by upper and lower case only", "rename one: some disks take them for one")
        for name in [*(f"{info.name}-{size}-{info.version}" for size in self.sizes), self.data.repository]:
            try:
                validate_repo_id(f"{info.organization}/{name}")
            except HFValidationError as error:
                what = f"{info.organization}/{name} is no repository id"
                raise problem(what, "the Hub takes at most 96 characters, and no '--', '..' or final '.git'") from error
        return self


@dataclasses.dataclass(frozen=True)
class Family:
    """One family file. `build` is where everything generated for it goes (build/<family>); `tables` are as they were read."""

    path: Path
    about: FamilyInfo
    teacher: TeacherConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    speed: SpeedConfig
    card: CardConfig
    sizes: dict[str, SizeConfig]
    models: dict[str, ModelConfig] = field(default_factory=dict)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    tables: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def build(self) -> Path:
        return Path("build") / self.about.name

    @property
    def data_id(self) -> str:
        """The dataset's repository id: of the mixture that is taken from the Hub, or else of the family's own."""
        return self.data.mixture or f"{self.about.organization}/{self.data.repository}"

    def size(self, name: str) -> SizeConfig:
        """The size called `name`.

        Raises:
            ReleaseError: The family has no such size.
        """
        if name not in self.sizes:
            raise ReleaseError(
                f"unknown size {name!r}", where=str(self.path), hint=f"SIZE is one of {', '.join(self.sizes)}"
            )
        return self.sizes[name]

    def model(self, name: str) -> ModelConfig:
        """How the public model `name` is run."""
        return self.models.get(name, ModelConfig())

    def model_name(self, size: str) -> str:
        """The repository's name without its organisation, `<name>-<size>-<version>`."""
        self.size(size)
        return f"{self.about.name}-{size}-{self.about.version}"

    def model_id(self, size: str) -> str:
        """The model's repository id, `organization/<name>-<size>-<version>`."""
        return f"{self.about.organization}/{self.model_name(size)}"

    def folder(self, size: str) -> Path:
        """Where everything about one size goes: model/, records/, export/ and repo/ are in it."""
        self.size(size)
        return self.build / size

    @property
    def pairs_folder(self) -> Path:
        """The pairs before they are labelled, a folder per config, and their manifest."""
        return self.build / "data/pairs"

    @property
    def mixture_folder(self) -> Path:
        """The labelled pairs, what is trained on, in the same form."""
        return self.build / "data/mixture"

    def compared_folder(self, name: str) -> Path:
        """Where everything about a public reranker goes that the family is compared with: records/ is in it."""
        return self.build / "compared" / name.replace("/", "--")


def load(path: Path, *, evaluated: bool = True) -> Family:
    """Read and check a family file; its organisation is another one where RELEASE_ORG names it.

    Args:
        evaluated: Whether it must name what to evaluate on; the data can be made without.

    Raises:
        ReleaseError: No such file, no TOML, an unknown or missing key, or a value that cannot be; the key is named.
    """
    return of(_read(resource(path)), path, evaluated=evaluated)


def described(family: Family, *, data: bool = False) -> str:
    """The tables of a family file that cards rest on, as JSON: no comment of it, and nothing else that decides no card.

    Args:
        data: For the data alone, whose card knows neither the summary nor the table [card], and none but the first size.
    """
    tables = {name: family.tables[name] for name in CARD_TABLES if name in family.tables}
    if data and tables:
        tables = {name: value for name, value in tables.items() if name != "card"}
        tables["family"] = tables["family"] | {"summary": tables["family"]["title"]}
        tables["sizes"] = dict(list(tables["sizes"].items())[:1])
    return json.dumps(tables, indent=2, ensure_ascii=False) + "\n"


def of(raw: dict[str, Any], path: Path, *, evaluated: bool = True) -> Family:
    """A family from the tables of its file, `path`; as `load`."""
    if (organization := os.environ.get(ORGANIZATION)) and isinstance(raw.get("family"), dict):
        raw["family"]["organization"] = _organization(organization)
    tables = parse(_FamilyFile, raw, str(path), hint="recipes/ettin.toml shows every key")
    for keys in (("nano_sets",), ("embedders",), ("tasks", "collections")) if evaluated else ():
        if not any(getattr(tables.evaluation, key) for key in keys):
            hint = f"name at least one in `{keys[-1]}`; recipes/ettin.toml shows every key"
            raise ReleaseError(f"[evaluation] has no {' and no '.join(keys)}", where=str(path), hint=hint)
    about, rest = tables.family, {name: value for name, value in vars(tables).items() if name != "family"}
    return Family(path=path, about=about, **rest, tables=raw)


def _organization(name: str) -> str:
    """The name of an organisation or user as the Hub takes it.

    Raises:
        ReleaseError: It is none.
    """
    try:
        validate_repo_id(f"{name}/any")
    except HFValidationError as error:
        what = f"{name!r} is no organisation"
        raise ReleaseError(
            what, where="ORG", hint="write a user's or organisation's name as the Hub shows it"
        ) from error
    return name


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = ", ".join(sorted(str(file) for file in resource("recipes").glob("*.toml")))
        raise ReleaseError(f"no family file {path}", hint=f"FAMILY is a TOML file such as {known or 'family.toml'}")
    return toml_tables(path)
