"""BM25: mteb's words and mteb's scores over a collection, an answer for every script, and the formula for single pairs."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb.models.model_implementations.bm25 import BM25Search, BM25Tokenizer

from release.bm25 import Analyzer, Bm25Index, CorpusStatistics, best
from release.data import docstrings
from release.errors import ReleaseError

DOCUMENTS = [
    "Return the sorted copy of an array.",
    "Open a file and return a stream of bytes.",
    "Compute the inverse of a square matrix, if it has one.",
    "The quick brown fox jumps over the lazy dog.",
]
PAIRS = [
    ("sort an array", DOCUMENTS[0]),
    ("sort an array", DOCUMENTS[3]),
    ("read a file", DOCUMENTS[1]),
    ("matrix inverse", DOCUMENTS[2] * 20),
    ("", DOCUMENTS[0]),
    ("sort", ""),
]


# --- Words ------------------------------------------------------------------------------------------------------------

TEXTS = {
    "en": "The relational databases were running; running's the RUNNER's 2nd best_of_all a b cd café naïve",
    "de": "Die Häuser der größten Städte wurden gebaut und nicht verkauft",
    "fr": "Les chevaux étaient dans les prairies; nous ne mangeons pas",
    "es": "Los gatos corrían por las calles de la ciudad",
    "ru": "Большие города были построены и не проданы",
    "no": "De største byene ble bygget og ikke solgt",
    "fi": "Suurimmat kaupungit rakennettiin eikä myyty",
    "ar": "الكتب الكبيرة في المدينة",
    "tr": "Evlerin en büyükleri satıldı",
}
ISO3 = {
    "en": "eng",
    "de": "deu",
    "fr": "fra",
    "es": "spa",
    "ru": "rus",
    "no": "nob",
    "fi": "fin",
    "ar": "arb",
    "tr": "tur",
}


def mtebs_words(language: str, text: str) -> list[str]:
    tokens = BM25Tokenizer(language, freq_threshold=0).fit_transform([text])
    names = {number: word for word, number in tokens.vocab.items()}
    return [names[number] for number in tokens.ids[0]]


@pytest.mark.parametrize("language", TEXTS)
def test_words_are_mtebs_by_language(language: str) -> None:
    text = TEXTS[language]
    assert Analyzer(language).words(text) == mtebs_words(ISO3[language], text)
    assert Analyzer(ISO3[language]).words(text) == Analyzer(language).words(text)


@settings(deadline=None)
@given(
    st.text(st.characters(max_codepoint=0x5FF, exclude_categories=("C", "M"), exclude_characters="\u0130"), max_size=80)
)
def test_words_of_any_spaced_text_without_marks_are_mtebs(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    assert Analyzer("en").words(text) == mtebs_words("eng", text)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("bn", "বিড়াল মাদুরে ঘুমায়", ["বিড়াল", "মাদুরে", "ঘুমায়"]),
        ("ml", "പൂച്ച പായിൽ", ["പൂച്ച", "പായിൽ"]),
        ("fr", "ve\u0301lo", ["vélo"]),  # decomposed
        ("tr", "İstanbul", ["istanbul"]),
        ("en", "ＰＹＴＨＯＮ ３.１", ["python"]),  # as wide as Han
        ("vi", "con me\u0300o", ["con", "mèo"]),
    ],
)
def test_a_word_keeps_its_marks(language: str, text: str, words: list[str]) -> None:
    expected = [unicodedata.normalize("NFC", word) for word in words]
    assert Analyzer(language).words(text) == expected


def test_a_stem_meets_its_other_forms_and_a_stopword_meets_nothing() -> None:
    assert Analyzer("en").words("Deleting the folders") == Analyzer("en").words("delete folder")
    assert Analyzer("en").words("the of and it") == []
    assert Analyzer("sw").words("Vitabu vya the") == [
        "vitabu",
        "vya",
        "the",
    ]  # no stemmer and no list: words as they are


@pytest.mark.parametrize("language", ["english", "EN", "", "e", "en-US", "xx", "zz"])
def test_what_is_no_code_of_a_language_is_refused(language: str) -> None:
    with pytest.raises(ReleaseError, match="no ISO 639 code"):
        Analyzer(language)


@pytest.mark.parametrize(
    ("documents", "queries"),
    [
        (
            ["打开文件并逐行读取内容", "返回当前工作目录的路径", "删除文件夹及其所有文件"],
            ["如何逐行读取文件", "当前工作目录", "删除文件夹"],
        ),
        (
            ["ファイルを開いて一行ずつ読む", "現在の作業ディレクトリを返す", "フォルダを削除する"],
            ["一行ずつ読む", "作業ディレクトリ", "ﾌｫﾙﾀﾞ 削除"],
        ),
        (
            ["เปิดไฟล์และอ่านทีละบรรทัด", "คืนค่าไดเรกทอรีปัจจุบัน", "ลบโฟลเดอร์ทั้งหมด"],
            ["อ่านไฟล์ทีละบรรทัด", "ไดเรกทอรีปัจจุบัน", "ลบโฟลเดอร์"],
        ),
        (["បើកឯកសារហើយអានបន្ទាត់", "ត្រឡប់ថតបច្ចុប្បន្ន", "លុបថតទាំងអស់"], ["អានបន្ទាត់", "ថតបច្ចុប្បន្ន", "លុបថត"]),
        (
            ["파일을 한 줄씩 읽는다", "현재 작업 디렉터리를 반환", "폴더를 삭제한다"],
            ["파일 줄씩 읽기", "작업 디렉터리", "폴더 삭제"],
        ),
        (["ကြောင်သည်ဖျာပေါ်တွင်အိပ်သည်", "ခွေးသည်ပန်းခြံတွင်ကစားသည်", "ငါးရေကူးသည်"], ["ကြောင်အိပ်", "ခွေးကစား", "ငါး"]),
        (["ແມວນອນຢູ່ເທິງເສື່ອ", "ໝາຫຼິ້ນຢູ່ໃນສວນ", "ປາລອຍນໍ້າ"], ["ແມວນອນ", "ໝາຫຼິ້ນ", "ປາລອຍ"]),
        (["ꀀꀁꀂꀃ", "ꀄꀅꀆꀇ", "ꀈꀉꀊꀋ"], ["ꀀꀁ", "ꀅꀆ", "ꀊꀋ"]),
        (["বিড়াল মাদুরে ঘুমায়", "কুকুর বাগানে খেলে", "মাছ জলে"], ["বিড়াল", "কুকুর বাগানে", "মাছ"]),
        (["பூனை பாயில் தூங்குகிறது", "நாய் தோட்டத்தில்", "மீன் நீரில்"], ["பூனை", "நாய்", "மீன்"]),
        (["用Python读取CSV文件", "用Rust写服务器", "删除文件"], ["python csv", "rust 服务器", "删除"]),
    ],
)
def test_scripts_without_blanks_are_found_whatever_the_language_is_called(
    documents: list[str], queries: list[str]
) -> None:
    for language in ("en", "zh"):
        best_rows = [int(best(scores, 1)[0]) for scores in Bm25Index(documents, language).scores(queries)]
        assert best_rows == [0, 1, 2]


def test_a_run_of_characters_becomes_its_bigrams_and_words_around_it_stay() -> None:
    assert Analyzer("en").words("Reading文件夹now") == ["read", "文件", "件夹", "now"]
    assert Analyzer("en").words("水") == ["水"]


# --- A collection -----------------------------------------------------------------------------------------------------


def test_scores_are_mtebs() -> None:
    pairs = docstrings.pairs(("sentence_transformers", "huggingface_hub"), workers=1)[:150]
    bodies, summaries = [pair.body for pair in pairs], [pair.summary for pair in pairs[:40]]
    corpus = Dataset.from_list([{"id": str(row), "title": "", "text": body} for row, body in enumerate(bodies)])
    queries = Dataset.from_list([{"id": str(row), "text": text} for row, text in enumerate(summaries)])
    mtebs = BM25Search()
    setting = {"task_metadata": SimpleNamespace(eval_langs=["eng-Latn"]), "hf_split": "test", "hf_subset": "default"}
    mtebs.index(corpus, encode_kwargs={}, **setting)
    theirs = mtebs.search(queries, top_k=len(bodies), encode_kwargs={}, **setting)
    for query, ours in zip(queries["id"], Bm25Index(bodies).scores(summaries), strict=True):
        expected = [theirs[query].get(str(row), 0.0) for row in range(len(bodies))]
        assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_equal_scores_come_in_the_order_of_the_documents() -> None:
    assert best(np.array([1.0, 3.0, 1.0, 3.0, 0.0], np.float32), 4).tolist() == [1, 3, 0, 2]


def test_a_query_without_a_known_word_scores_nothing() -> None:
    assert [scores.tolist() for scores in Bm25Index(["alpha beta", "gamma"]).scores(["delta", "the", ""])] == [
        [0, 0]
    ] * 3


@pytest.mark.parametrize("documents", [["the of and", "it is", ""], ["!?", "a b c"], []])
def test_documents_without_a_word_are_one_clear_line(documents: list[str]) -> None:
    with pytest.raises(ReleaseError, match=f"no word in any of the {len(documents)} documents"):
        Bm25Index(documents)


# --- Single pairs -----------------------------------------------------------------------------------------------------


def test_bm25_over_the_querys_idf_is_between_zero_and_one_and_fixed_by_the_statistics() -> None:
    statistics = CorpusStatistics.of(DOCUMENTS)
    values = statistics.relevance(PAIRS)
    assert ((values >= 0) & (values < 1)).all()
    assert values[0] > values[1]
    assert values[4] == values[5] == 0
    assert statistics.relevance(PAIRS[:1])[0] == values[0]
    assert CorpusStatistics.of(reversed(DOCUMENTS * 2)).sha256 == statistics.sha256


def test_bm25_is_the_formula() -> None:
    statistics = CorpusStatistics.of(["a a b", "b c", "c c c c"])
    idf = {word: np.log1p((3 - df + 0.5) / (df + 0.5)) for word, df in {"a": 1, "b": 2, "z": 0}.items()}
    shrink = 1.5 * (1 - 0.75 + 0.75 * 3 / 3)
    expected = (idf["a"] * 2 / (2 + shrink) + idf["b"] * 1 / (1 + shrink)) / sum(idf.values())
    assert statistics.relevance([("A, b z", "a a b")])[0] == pytest.approx(expected)


def test_without_documents_there_are_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        CorpusStatistics.of([])
