"""The corpus: where rows come from, what becomes of them, and what is counted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import DataError, MissingExtraError, UnknownNameError, UserInputError
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.records import from_json, to_json
from salad_eval.types import Item, SpokenPart
from salad_train.corpus import filters, read
from salad_train.corpus.filters import (
    REASONS,
    CorpusPlan,
    Drop,
    Dropped,
    Form,
    company_filters,
    corpus_fingerprint,
    in_language,
    new_text,
    speakable,
    speakable_share,
)
from salad_train.corpus.read import build_corpus, read_corpus, well_formed
from salad_train.nano import world
from salad_train.types import Corpus, TextDocument

Rows = Sequence[Mapping[str, Any]]

ROWS: Rows = [
    {"id": "a", "text": "The lion is a large cat of Africa.", "label": "animals", "cuts": [9], "unused": 1},
    {"id": "b", "text": "Iron rusts where water and air reach it.", "label": "chemistry", "cuts": None, "unused": 2},
    {"id": "c", "text": "  ", "label": "chemistry", "cuts": [], "unused": 3},
    {"id": "d", "text": "Too short.", "label": None, "cuts": [], "unused": 4},
    {"id": "e", "text": "Mars has two small moons.\nOne of them is Phobos.", "label": "", "cuts": [26, 0], "unused": 5},
]  # fmt: skip


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_gzip(path: Path, rows: Rows) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path, row_group_size=2)
    return path


def write_arrow(path: Path, rows: Rows) -> Path:
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


def write_arrow_stream(path: Path, rows: Rows) -> Path:
    """As the datasets library does."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return path


def plan(source: Path | str, **options: Any) -> CorpusPlan:
    return CorpusPlan(str(source), **{"language": None, **options})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the datasets library prepares from local files does not go to the user's cache."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def counts(corpus: Corpus) -> dict[str, int]:
    return {reject.reason: reject.n for reject in corpus.rejects}


# --- where rows come from --------------------------------------------------------------------------------------------


def test_jsonl_gzip_parquet_and_datasets_give_equal_documents(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "rows"
    write_parquet(folder / "rows.parquet", ROWS)
    datasets.Dataset.from_list([dict(row) for row in ROWS]).save_to_disk(str(tmp_path / "saved" / "rows"))
    sources = {
        "jsonl": (write_jsonl(tmp_path / "rows.jsonl", ROWS), {}),
        "gzip": (write_gzip(tmp_path / "rows.jsonl.gz", ROWS), {}),
        "parquet": (folder / "rows.parquet", {}),
        "arrow": (write_arrow(tmp_path / "arrow" / "rows.arrow", ROWS), {}),
        "arrow stream": (write_arrow_stream(tmp_path / "stream" / "rows.arrow", ROWS), {}),
        "folder": (folder, {}),
        "glob": (f"{folder}/*.parquet", {}),
        "datasets": (folder, {"reader": "datasets"}),
        "stream": (folder, {"reader": "datasets", "streaming": True}),
        "saved": (tmp_path / "saved" / "rows", {}),
    }
    fields = {"domain_field": "label", "borders_field": "cuts"}
    for id_field, ids in (("id", ("a", "b", "e")), (None, ("rows:1", "rows:2", "rows:5"))):
        read = {
            name: read_corpus(plan(source, id_field=id_field, **fields, **options))
            for name, (source, options) in sources.items()
        }
        expected = read["jsonl"]
        assert tuple(document.id for document in expected.documents) == ids
        assert [document.domain for document in expected.documents] == ["animals", "chemistry", ""]
        assert [document.borders for document in expected.documents] == [(9,), (), (0, 26)]
        assert counts(expected) == {"empty": 1, "too_short": 1}
        assert all(corpus == expected for corpus in read.values()), id_field


def test_a_stream_of_jsonl_without_known_columns(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "web" / "train.jsonl", ROWS)
    corpus = read_corpus(plan(tmp_path / "web", reader="datasets", streaming=True, id_field="id"))
    assert [document.id for document in corpus.documents] == ["a", "b", "e"]


def test_a_folder_with_a_dataset_card_keeps_its_splits_apart(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", ROWS[:1])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", ROWS[1:2])
    (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    assert [d.id for d in read_corpus(plan(tmp_path, id_field="id")).documents] == ["a"]
    assert [d.id for d in read_corpus(plan(tmp_path, id_field="id", split="test")).documents] == ["b"]
    assert [d.id for d in read_corpus(plan(tmp_path, id_field="id", reader="files")).documents] == ["b", "a"]
    with pytest.raises(DataError, match="split 'dev'"):
        read_corpus(plan(tmp_path, split="dev"))


def test_ids_made_from_files_are_told_apart(tmp_path: Path) -> None:
    for name, row in (("x/part.jsonl", ROWS[0]), ("y/part.jsonl", ROWS[1]), ("part.jsonl", ROWS[4])):
        write_jsonl(tmp_path / name, [row])
    write_parquet(tmp_path / "part.parquet", [{"text": "Copper is a red metal."}])
    write_jsonl(tmp_path / ".cache" / "hidden.jsonl", [{"text": "Nobody should read these words."}])
    ids = [document.id for document in read_corpus(plan(tmp_path)).documents]
    assert ids == ["part.jsonl:1", "part.parquet:1", "x/part:1", "y/part:1"]
    both = CorpusPlan((str(tmp_path / "x" / "part.jsonl"), str(tmp_path / "y" / "part.jsonl")), language=None)
    ids = [document.id for document in read_corpus(both).documents]
    assert [name.removeprefix(tmp_path.as_posix()) for name in ids] == ["/x/part.jsonl:1", "/y/part.jsonl:1"]


def test_rows_without_an_id_get_one_and_numbers_are_ids(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [{"id": 7, **_text("one")}, {"id": None, **_text("two")}, _text("three")])
    assert [d.id for d in read_corpus(plan(path, id_field="id")).documents] == ["7", "c:2", "c:3"]


def _text(word: str) -> dict[str, str]:
    return {"text": f"A sentence about the number {word}."}


def test_reading_stops_when_enough_is_kept(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", ROWS)
    path.write_text(path.read_text() + "not JSON, and never reached\n")
    corpus = read_corpus(plan(path, id_field="id", max_documents=2))
    assert [document.id for document in corpus.documents] == ["a", "b"]
    assert corpus.rejects == ()


# --- rows that are no documents --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"{", "malformed", "not JSON"),
        (b'{"text": "torn by a kil', "malformed", "not JSON"),
        (b"[1, 2]", "malformed", "not an object"),
        (b'{"text": "\xff\xfe"}', "malformed", "not UTF-8"),
        (b"[" * 200_000, "malformed", "nested too deeply"),
        (b'{"text": 3}', "malformed", "text is no text: 3"),
        (b'{"text": "half a pair \\ud800 in here"}', "malformed", "surrogate"),
        (b'{"text": "Some words to be read.", "id": [1]}', "malformed", "id is neither"),
        (b'{"text": "Some words to be read.", "cuts": [99]}', "malformed", "from 0 to 22"),
        (b'{"text": "Some words to be read.", "cuts": [true]}', "malformed", "a border is True"),
        (b'{"text": "Some words to be read.", "cuts": "5"}', "malformed", "no list"),
        (b'{"text": null}', "empty", ""),
        (b'{"other": "field"}', "empty", ""),
        (b'{"text": "?! \xe2\x80\xa6"}', "empty", ""),
    ],
)
def test_a_bad_row_is_counted_with_its_reason(tmp_path: Path, line: bytes, reason: str, detail: str) -> None:
    good = b'\n{"text": "These words are good to read.", "id": "good", "cuts": []}\r\n\n'
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + good + line + b"\n")
    corpus = read_corpus(plan(tmp_path / "c.jsonl", id_field="id", borders_field="cuts"))
    assert [document.id for document in corpus.documents] == ["good"]
    (reject,) = corpus.rejects
    assert (reject.reason, reject.n) == (reason, 1)
    assert reject.examples[0].startswith("c:2")
    assert detail in reject.examples[0]


def test_fields_of_other_types_in_parquet(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "c.parquet", [{"text": b"bytes are no text"}, {"text": b"nor are these"}])
    with pytest.raises(DataError, match=r"2 malformed .*text is no text: b'bytes"):
        read_corpus(plan(path))


@pytest.mark.parametrize("write", [write_jsonl, write_gzip, write_parquet, write_arrow])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"text_field": "txet"},
            "text_field is 'txet', .* did you mean 'text'.* Fields: id, text, label, cuts, unused",
        ),
        ({"domain_field": "lable"}, "domain_field is 'lable', .* did you mean 'label'"),
        ({"id_field": "url"}, "id_field is 'url', and none of 5 rows"),
        ({"borders_field": "cut"}, "borders_field is 'cut'"),
    ],
)
def test_a_field_that_no_row_has_is_an_error(tmp_path: Path, write: Any, options: dict[str, str], message: str) -> None:
    suffix = {write_jsonl: ".jsonl", write_gzip: ".jsonl.gz", write_parquet: ".parquet", write_arrow: ".arrow"}[write]
    with pytest.raises(DataError, match=message):
        read_corpus(plan(write(tmp_path / f"c{suffix}", ROWS), **options))


def test_a_missing_text_field_is_found_without_reading_everything(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [{"content": "A few words to read."}] * 10_050)
    with pytest.raises(DataError, match="none of 10,000 rows has that field; did you mean 'content'"):
        read_corpus(plan(path))


def test_damaged_files_are_errors_that_name_them(tmp_path: Path) -> None:
    whole = write_gzip(tmp_path / "c.jsonl.gz", ROWS * 50)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"c\.jsonl\.gz is damaged after row"):
        read_corpus(plan(whole))
    (tmp_path / "p.jsonl.gz").write_bytes(b'{"text": "never compressed at all"}\n')
    with pytest.raises(DataError, match=r"p\.jsonl\.gz is damaged"):
        read_corpus(plan(tmp_path / "p.jsonl.gz"))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and then nonsense")
    with pytest.raises(DataError, match=r"cannot read .*c\.parquet after row 0: Arrow"):
        read_corpus(plan(tmp_path / "c.parquet"))


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "corpus.jsonl", ROWS)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for source, message in [
        ("corpus.josnl", "does not exist; did you mean 'corpus.jsonl'"),
        ("notes.txt", r"expected a file that ends in \.jsonl"),
        ("empty", "is a folder without a file"),
        ("*.parquet", "matches no file"),
        ("*.txt", r"matches 1 file\(s\), none of which"),
    ]:
        with pytest.raises(DataError, match=message):
            read_corpus(plan(tmp_path / source))
    with pytest.raises(DataError, match="cannot be read: "):
        read_corpus(plan(tmp_path / "nowhere", reader="datasets"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test", "reader": "files"}, "split is 'test'"),
        ({"revision": "abc"}, "revision is 'abc'"),
        ({"dataset_name": "en", "reader": "files"}, "dataset_name is 'en'"),
    ],
)
def test_options_of_datasets_mean_nothing_to_files(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        read_corpus(plan(write_jsonl(tmp_path / "c.jsonl", ROWS), **options))


# --- an empty corpus -------------------------------------------------------------------------------------------------


def test_an_empty_corpus_says_what_became_of_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"c\.jsonl holds no documents"):
        read_corpus(plan(write_jsonl(tmp_path / "c.jsonl", [])))
    with pytest.raises(DataError, match=r"none of 5 documents is left: 1 empty \(such as c:3\); 4 too_short .*Loosen"):
        read_corpus(plan(write_jsonl(tmp_path / "c.jsonl", ROWS), min_words=50))


def test_one_document_is_a_corpus(tmp_path: Path) -> None:
    corpus = read_corpus(plan(write_jsonl(tmp_path / "c.jsonl", ROWS[:1]), id_field="id"))
    assert corpus.documents == (TextDocument("a", "The lion is a large cat of Africa."),)
    assert corpus.rejects == ()


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": ""}, "source"),
        ({"source": ()}, "source"),
        ({"reader": "magic"}, "reader is 'magic'"),
        ({"text_field": ""}, "text_field"),
        ({"max_documents": 0}, "max_documents is 0"),
        ({"min_words": -1}, "min_words is -1"),
        ({"min_words": 9, "max_words": 8}, "max_words is 8 and min_words is 9"),
        ({"min_speakable": 1.5}, "min_speakable is 1.5"),
        ({"ngram_words": 0}, "ngram_words is 0"),
        ({"ngram_threshold": 2.0}, "ngram_threshold is 2.0"),
    ],
)
def test_a_plan_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        CorpusPlan(**{"source": "c.jsonl", **options})


def test_a_plan_is_plain_values() -> None:
    for source in ("c.jsonl", ("a.jsonl", "b.parquet")):
        made = CorpusPlan(source, domain_field="label", max_words=200)
        assert from_json(CorpusPlan, to_json(made)) == made


# --- filters ---------------------------------------------------------------------------------------------------------

ENGLISH = [
    "Mitochondrial ATP synthase phosphorylates ADP using proton gradient",
    "Gaussian elimination solves linear systems in cubic time",
    "Sodium hydroxide neutralises hydrochloric acid, forming salt",
    "TCP retransmits lost segments after a timeout",
    "Escherichia coli ferments lactose",
    "Habeas corpus protects against unlawful detention",
    "Zoë Müller visited São Paulo and Łódź last summer",
    "O stands for oxygen.",
    "x = 3 + 4",
    "1 2 3 4 5",
]
FOREIGN = [
    ("de", "Wasser kocht bei hundert Grad."),
    ("fr", "Le chat dort sur la chaise."),
    ("es", "Los perros ladran por la noche."),
    ("it", "Il gatto dorme sulla sedia vicino alla finestra."),
    ("pt", "A água ferve a cem graus ao nível do mar."),
    ("nl", "Water kookt bij honderd graden op zeeniveau."),
    ("sv", "Katten sover på stolen vid fönstret."),
    ("pl", "Kot śpi na krześle przy oknie."),
    ("tr", "Kedi pencerenin yanındaki sandalyede uyuyor."),
    ("fi", "Kissa nukkuu tuolilla ikkunan vieressä."),
    ("id", "Kucing itu tidur di kursi dekat jendela."),
    ("vi", "Con mèo ngủ trên ghế cạnh cửa sổ."),
    ("zh", "猫在窗边的椅子上睡觉。"),
    ("ar", "القط ينام على الكرسي بجانب النافذة."),
]


@pytest.mark.parametrize("text", ENGLISH)
def test_terse_technical_english_stays(text: str) -> None:
    assert in_language("en")(text) is None


@pytest.mark.parametrize(("language", "text"), FOREIGN)
def test_other_languages_go(language: str, text: str) -> None:
    drop = in_language("en")(text)
    assert drop is not None
    assert (drop.reason, drop.detail) == ("language", language)
    assert in_language(language)(text) is None


def test_the_embedded_corpus_is_english_to_the_language_filter() -> None:
    judge = in_language("en")
    documents = world.corpus(0)[::4]
    lost = sum(judge(document.text) is not None for document in documents)
    assert lost < 0.002 * len(documents)


def test_a_language_nobody_knows_and_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown language 'english'"):
        in_language("english")
    filters._language_identifier.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "py3langid.langid", None)
    try:
        with pytest.raises(MissingExtraError, match="pip install py3langid"):
            in_language("en")
    finally:
        filters._language_identifier.cache_clear()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("It is 25 °C outside.", 1.0),
        ("ab 猫 cd", 4 / 5),
        ("猫 犬", 0.0),
        ("", 0.0),
        ("see \\frac here", 7 / 12),
    ],
)
def test_speakable_share(text: str, share: float) -> None:
    assert speakable_share(text) == pytest.approx(share)


def test_speakability_names_what_cannot_be_said() -> None:
    text = "The word for cat is 猫 in Chinese writing."
    drop = speakable(1.0)(text)
    assert drop is not None
    assert drop.reason == "not_speakable"
    assert "U+732B" in drop.detail
    assert speakable(0.9)(text) is None
    assert speakable(0.99)(text) is not None


def test_duplicates_differ_in_nothing_that_is_heard_or_counts() -> None:
    judge = new_text()
    texts = ["A cat sat here.", "a cat -- sat\nhere!", "A cat sat there.", "Sat here a cat."]
    assert [judge(TextDocument(str(k), text)) is None for k, text in enumerate(texts)] == [True, False, True, True]


def test_a_document_is_counted_under_the_first_reason_that_holds(tmp_path: Path) -> None:
    long = "Words and " * 30
    rows = [
        {"id": "kept", "text": "The cheetah is the fastest animal on land."},
        {"id": "empty", "text": "… 。"},
        {"id": "too_short", "text": "Zwei 猫"},
        {"id": "too_long", "text": long + "猫"},
        {"id": "language", "text": "Die Katze 猫 schläft auf dem Stuhl."},
        {"id": "not_speakable", "text": "The cheetah is 猫 the fastest animal on land."},
        {"id": "kept", "text": "The cheetah is the fastest animal on land."},
        {"id": "duplicate", "text": "The Cheetah is the fastest animal on land!"},
        {"id": "contaminated", "text": "Plainly: what is the fastest animal on land today?"},
    ]
    question = "What is the fastest animal on land?"
    quiz = Item("quiz:1", "quiz", "test", "d", question, (), None, "1", (SpokenPart("q", 0, len(question)),))
    path = write_jsonl(tmp_path / "c.jsonl", rows)
    path.write_text("oops\n" + path.read_text())
    corpus = read_corpus(plan(path, id_field="id", language="en", max_words=40), against=[quiz])
    assert [document.id for document in corpus.documents] == ["kept"]
    assert counts(corpus) == dict.fromkeys(REASONS, 1)
    assert [reject.reason for reject in corpus.rejects] == list(REASONS)
    examples = {reject.reason: reject.examples for reject in corpus.rejects}
    assert examples["contaminated"] == ("contaminated (quiz:1)",)
    assert examples["language"] == ("language (de)",)
    assert examples["too_short"] == ("too_short (2 words)",)


def test_the_first_few_examples_are_kept() -> None:
    documents = [TextDocument(f"d{k}", "short") for k in range(20)] + [TextDocument("long", "one two three")]
    corpus = build_corpus(well_formed(documents, Form(3, None, None, 0.0)), [])
    assert [(reject.n, len(reject.examples)) for reject in corpus.rejects] == [(20, 5)]
    assert corpus.rejects[0].examples[0].startswith("d0")


def of_plan(candidates: Iterable[TextDocument | Dropped], wanted: CorpusPlan) -> Corpus:
    return build_corpus(well_formed(candidates, Form.of(wanted)), company_filters(wanted))


def test_the_embedded_corpus_passes_whole() -> None:
    documents = [TextDocument(d.id, d.text, d.domain) for d in world.corpus(0)[:800]]
    corpus = of_plan(documents, CorpusPlan("unused"))
    assert len(corpus.documents) >= 0.99 * len(documents)


TEXTS = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["the", "The", "cat", "sat!", "猫", "on", "die", "7", "…"]), max_size=9).map(" ".join),
)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, max_size=12), seed=st.integers(0, 3))
def test_kept_and_rejected_add_up_and_order_stays(texts: list[str], seed: int) -> None:
    candidates: list[TextDocument | Dropped] = [
        Dropped(f"u{k}", Drop("malformed", "torn")) if k % 4 == seed else TextDocument(f"d{k % 7}", text)
        for k, text in enumerate(texts)
    ]
    keep_one = TextDocument("sure", "Here are words that no other text has.")
    corpus = of_plan([keep_one, *candidates], CorpusPlan("unused", language=None))
    assert len(corpus.documents) + sum(reject.n for reject in corpus.rejects) == len(candidates) + 1
    positions = [next(k for k, c in enumerate([keep_one, *candidates]) if c is kept) for kept in corpus.documents]
    assert positions == sorted(positions)
    assert len({document.id for document in corpus.documents}) == len(corpus.documents)


DOCUMENTS = st.builds(
    TextDocument,
    id=st.text(alphabet="ab", max_size=2),
    text=st.text(alphabet='ab "', max_size=3),
    domain=st.sampled_from(["", "a"]),
    borders=st.sampled_from([(), (0,), (0, 1)]),
)


@settings(max_examples=300, deadline=None)
@given(left=st.lists(DOCUMENTS, max_size=3), right=st.lists(DOCUMENTS, max_size=3))
def test_the_fingerprint_changes_if_and_only_if_the_content_does(
    left: list[TextDocument], right: list[TextDocument]
) -> None:
    assert (corpus_fingerprint(left) == corpus_fingerprint(right)) is (left == right)


def test_worker_processes_judge_as_this_one_does(tmp_path: Path) -> None:
    texts = ("Iron rusts where air reaches it.", "Eisen rostet an der Luft und im Wasser.", "no", "It costs ¤5 in all.")
    path = write_jsonl(tmp_path / "c.jsonl", [{"text": f"{texts[k % 4]} {k}"} for k in range(600)])
    here = read_corpus(plan(path, language="en"))
    assert read_corpus(plan(path, language="en"), hands=WorkerProcesses(2, apart=True)) == here
    assert counts(here) == {"too_short": 150, "language": 150, "not_speakable": 150}


def test_no_more_is_read_ahead_than_was_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MOST_AHEAD", 4 * read.CHUNK)
    taken: list[int] = []

    def candidates() -> Iterator[TextDocument]:
        for number in range(20 * read.CHUNK):
            taken.append(number)
            yield TextDocument(str(number), "a word")

    for n, _ in enumerate(well_formed(candidates(), Form(1, None, None, 0.0))):
        assert len(taken) - n <= min(max(n, read.CHUNK), 4 * read.CHUNK)
    assert len(taken) == 20 * read.CHUNK


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    # A file that ends in damage is read without complaint as far as it is needed: nothing is read ahead of the filters.
    path = tmp_path / "c.jsonl.gz"
    lines = [json.dumps({"text": f"Sentence number {k} of many words."}) for k in range(20_000)]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=1)[:-1_000])
    assert len(read_corpus(plan(path, max_documents=50)).documents) == 50
    with pytest.raises(DataError, match="damaged"):
        read_corpus(plan(path, min_speakable=0.0))
