"""The cards and tables of `slowthink publish`: what they say, and that the hub's own packages read them."""

from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt

from slowthink.cli.app import main
from slowthink.data.manifests import file_digests, output_digest
from slowthink.data.tables import read_records, write_records
from slowthink.errors import ConfigError, DataError
from slowthink.publish import Publication, prepare
from slowthink.publish.folder import CARD
from slowthink.publish.markdown import escape, table
from slowthink.records import Trace
from slowthink.stage_rows import EvaluationRow
from tests.publish.conftest import change_manifest
from tests.report.made_run import HOSTILE

GSM8K = {"hub_id": "openai/gsm8k", "hub_config": "main", "split": "test", "revision": "e53f048856"}


def front_matter(publication: Publication) -> dict[str, Any]:
    text = (publication.folder / CARD).read_text("utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def card_text(publication: Publication) -> str:
    return (publication.folder / CARD).read_text("utf-8").split("---\n", 2)[2]


def prepared(run: Path, what: str, **options: Any) -> Publication:
    return prepare(run, what, repo="me/made", **options)


def evaluated_on_gsm8k(run: Path, *, n: int = 1319) -> None:
    """Say that the run's second set was read from GSM8K's repository."""

    def change(manifest: dict[str, Any]) -> None:
        eval_set = manifest["facts"]["summary"]["sets"][1]
        eval_set |= {"benchmark": "gsm8k", "source": GSM8K, "num_problems": n}
        for arm in eval_set["arms"]:
            for point in arm["points"]:
                point["n"] = n

    change_manifest(run / "evaluate", change)


def change_traces(run: Path, change: Any) -> None:
    """Write the selected chains anew, each changed."""
    path = run / "select" / "data.parquet"
    write_records(path, list(map(change, read_records(path, Trace))), Trace)
    digests = file_digests(run / "select")

    def update(manifest: dict[str, Any]) -> None:
        manifest["files"] = digests
        manifest["output_digest"] = output_digest(digests["data.parquet"], manifest["facts"])

    change_manifest(run / "select", update)


# --- texts ----------------------------------------------------------------------------------------


def test_a_text_carries_no_markup_into_a_card() -> None:
    assert escape("# a\n<b>*x*</b> [y](http://z)") == r"\# a \<b\>\*x\*\</b\> \[y\](http\://z)"
    assert table(["a", "#b"], [["x|y", 1]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


@pytest.mark.parametrize("what", ["data", "model"])
def test_hostile_names_stay_text(finished_run, tmp_path, what) -> None:
    text = card_text(prepared(finished_run, what, out=tmp_path))
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "&lt;run&gt;" in html or what == "model", "the recipe's name is hostile"
    assert "<img src=x" not in html
    assert "<script" not in html
    assert HOSTILE not in text


# --- the dataset ----------------------------------------------------------------------------------


def test_the_dataset_card_has_the_hubs_front_matter(finished_run, tmp_path) -> None:
    publication = prepared(finished_run, "data", out=tmp_path, licence="CC-BY-4.0")
    front = front_matter(publication)
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert "made <run>" in front["pretty_name"]


def test_the_dataset_card_tells_of_funnel_sources_and_limits(finished_run, tmp_path) -> None:
    text = card_text(prepared(finished_run, "data", out=tmp_path))
    assert "| filter | quality | 30 | 24 | image & link: 6 |" in text
    assert "| made | made | – | – | 12 |" in text, "source, dataset, revision, licence, chains"
    assert "**not compared with any benchmark**. The run's own held-out problems" in text
    assert "| correct | 12 |" in text


def test_the_dataset_card_has_teachers_scores_and_levels(run) -> None:
    origin = json.dumps({"model": "/home/me/models/teacher-7b", "revision": "abc123"})
    change_traces(
        run,
        lambda t: replace(
            t,
            teacher="seven",
            provenance=origin,
            level=4,
            scores='{"limo-v2": 0.5, "limo-v2.length": 1}',
        ),
    )
    used = {"teacher": "seven", "tokens": 5120, "cost": 0.25}
    change_manifest(run / "trace", lambda m: m["facts"].update(teacher_runs=[used]))
    metadata = {"version": "1", "better": "higher",
                "settings": '{"kind": "limo-v2", "weights": {"length": 0.3}, "scale": "rank"}'}  # fmt: skip
    schema = pa.schema([pa.field("limo-v2", pa.float64(), metadata=metadata)])
    pq.write_table(schema.empty_table(), run / "trace" / "chains.parquet")
    text = card_text(prepared(run, "data"))
    assert "| seven | …/teacher-7b | abc123 | 12 | 12 | 5,120 | 0.25 |" in text
    assert "| limo-v2 | 1 | weights (length 0.3), scale rank | higher | 0.5 | 0.5 | 0.5 |" in text
    assert "| level | chains |\n| --- | ---: |\n| 4 | 12 |" in text
    assert "/home/me" not in text


def test_a_certificate_is_published_without_the_texts_of_test_sets(run) -> None:
    hit = {"id": "p-1", "benchmark": "math500", "item": "7", "kind": "copy", "score": 1.0,
           "of_item": 1.0, "of_text": 1.0, "run": 9, "span": "SECRET TEST TEXT", "said": None,
           "dropped": True}  # fmt: skip
    certificate = {
        "slowthink": "0.1.0", "checked": {"what": "questions", "num": 24, "digest": "d"},
        "settings": {"preset": "strict"}, "num_dropped": 1, "hits": [hit],
        "against": [{"name": "math500", "num_problems": 500, "digest": "e", "source": {},
                     "num_hits": {"copy": 1}}],
    }  # fmt: skip
    (run / "filter" / "contamination.json").write_text(json.dumps(certificate))
    publication = prepared(run, "data")
    text = card_text(publication)
    assert "| questions | 24 | strict | math500 | 500 | copy 1 |" in text
    written = (publication.folder / "contamination-filter.json").read_text()
    assert "SECRET" not in written + text
    assert '"num_problems": 500' in written


@pytest.mark.slow
def test_the_datasets_package_loads_the_folder(finished_run, tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = prepared(finished_run, "data", out=tmp_path / "data").folder
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    first = min(read_records(finished_run / "select", Trace), key=lambda trace: trace.problem.id)
    assert len(rows) == 12
    assert rows[0]["question"] == first.problem.question
    assert rows[0]["messages"][1]["reasoning_content"] == first.thinking
    assert rows[0]["licence"] is None


# --- permission -----------------------------------------------------------------------------------


def test_a_licence_that_only_the_registry_knows_counts(run) -> None:
    meta = json.dumps({"lineage": {"origin": "openai/gsm8k", "revision": "e53f04"}})
    change_traces(run, lambda t: replace(t, problem=replace(t.problem, meta=meta)))
    publication = prepared(run, "data")
    assert (publication.licence, publication.warnings) == ("mit", ())
    assert "| made | openai/gsm8k | e53f04 | MIT | 12 |" in card_text(publication)


def test_a_repository_has_a_user(finished_run, tmp_path) -> None:
    for repo in ("made", "me/ma de", "a/b/c", "me/"):
        with pytest.raises(ConfigError, match="expected USER/NAME"):
            prepare(finished_run, "data", repo=repo, out=tmp_path)


def test_an_unknown_licence_must_be_named(finished_run, tmp_path) -> None:
    publication = prepared(finished_run, "data", out=tmp_path)
    assert publication.licence is None
    assert publication.warnings[0].startswith("made: the licence of 12 rows is unknown.")
    named = prepared(finished_run, "data", out=tmp_path, licence="MIT")
    assert named.licence == "mit"
    assert named.warnings == ("made: the licence of 12 rows is unknown; published as mit.",)


@pytest.mark.parametrize(
    ("licence", "chosen", "refusal"),
    [
        ("Apache-2.0", None, None),
        ("CC-BY-NC-SA-4.0", "mit", "CC-BY-NC-SA-4.0 forbids commercial use"),
        ("CC-BY-SA-4.0", "cc-by-4.0", "CC-BY-SA-4.0 asks for the same licence"),
        ("CC-BY-ND-4.0", None, "CC-BY-ND-4.0 forbids changed copies"),
        ("CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0", None),
    ],
)
def test_a_licence_that_forbids_it_refuses(run, licence, chosen, refusal) -> None:
    change_traces(run, lambda t: replace(t, problem=replace(t.problem, licence=licence)))
    publication = prepared(run, "data", licence=chosen)
    assert publication.licence == (chosen or licence.lower())
    assert [text.split("; ")[0] for text in publication.refusals] == (
        [f"made: {refusal}"] if refusal and "changed" not in refusal else
        [f"made: {refusal}, and rows are changed here"] if refusal else []
    )  # fmt: skip


def test_problems_that_were_evaluated_on_are_refused(run) -> None:
    tests = read_records(run / "evaluate", EvaluationRow)
    id = tests[0].problem_id
    change_traces(run, lambda t: replace(t, problem=replace(t.problem, id=id)))
    for what in ("data", "model"):
        refusals = prepared(run, what, licence="mit").refusals
        assert refusals[0].startswith(
            f"1 problems of the training set are test problems, e.g. {id}"
        )


def test_a_test_set_and_a_set_that_may_not_be_passed_on_are_refused(run, capsys) -> None:
    sources = [
        {"kind": "hub", "hub_id": "openai/gsm8k", "hub_config": "main", "hub_split": "test"},
        {"kind": "hub", "hub_id": "openai/gsm8k", "hub_config": "main", "hub_split": "train"},
        {"kind": "catalogue", "name": "gpqa-extended"},
    ]
    change_manifest(run / "pool", lambda m: m["settings"]["pool"].update(sources=sources))
    change_traces(run, lambda t: replace(t, problem=replace(t.problem, source="gpqa-extended")))
    publication = prepared(run, "data", licence="mit")
    test_set, forbidden = publication.refusals
    assert test_set.startswith("pool.sources.0: openai/gsm8k is the test set GSM8K")
    assert forbidden.startswith(
        "gpqa-extended: 12 rows of GPQA extended without GPQA diamond, whose"
    )
    with pytest.raises(SystemExit) as stop:
        main(["publish", str(run), "--what", "data", "--repo", "me/made", "--license", "mit"])
    assert not stop.value.code, "a dry run says so"
    assert "refused: pool.sources.0: " in capsys.readouterr().out


# --- the model ------------------------------------------------------------------------------------


def test_the_model_card_names_base_budgets_and_results(finished_run, tmp_path) -> None:
    publication = prepared(finished_run, "model", out=tmp_path)
    front, text = front_matter(publication), card_text(publication)
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["license"] == "apache-2.0", "the base model's"
    assert "model-index" not in front, "neither set was read from a benchmark's repository"
    assert "at most 0, 16, 32, 64, 96, 128 thinking tokens; 0, 1, 2 waits" in text
    assert "| tuned | s1 | ≤ 64 tokens | 46.0% | 36.0 to 56.0 | 20 | 58 |" in text
    assert "slowthink serve me/made --port 8000" in text
    assert "![Accuracy against mean thinking tokens, with 95 % intervals](curve.svg)" in text
    assert "Energy and emissions were not measured and are left out." in text


def test_the_model_card_tells_of_dropped_rows_and_of_the_chosen_checkpoint(run) -> None:
    text = card_text(prepared(run, "model"))
    assert "fine-tuned on 24 chains of thought" in text, "those that were trained on"
    assert "after step 10 of 20, chosen by its accuracy on 5 development problems" in text
    change_manifest(run / "train", lambda manifest: manifest["facts"].pop("dev"))
    assert "development problems" not in card_text(prepared(run, "model"))


def test_results_on_a_whole_benchmark_are_written_for_leaderboards(run) -> None:
    evaluated_on_gsm8k(run)
    publication = prepared(run, "model")
    path = publication.folder / ".eval_results" / "gsm8k.yaml"
    (entry,) = yaml.safe_load(path.read_text())
    assert entry["dataset"] == {"id": "openai/gsm8k", "task_id": "gsm8k", "revision": "e53f048856"}
    assert entry["value"] == 35.0
    assert "≤ 96 tokens of thinking (budget forcing); limo-v2: T=0.6, 4 samples" in entry["notes"]
    assert "95 % interval 25.0 to 45.0, n = 1319" in entry["notes"]
    assert ".eval_results/gsm8k.yaml" in [file.path for file in publication.files]


def test_the_hubs_own_package_reads_the_results(run) -> None:
    hub = pytest.importorskip("huggingface_hub")
    evaluated_on_gsm8k(run)
    publication = prepared(run, "model")
    entries = yaml.safe_load((publication.folder / ".eval_results" / "gsm8k.yaml").read_text())
    assert hub.eval_result_entries_to_yaml(hub.parse_eval_result_entries(entries)) == entries
    results = hub.ModelCard.load(publication.folder / CARD).data.eval_results
    assert [(r.dataset_type, r.metric_value) for r in results] == [
        ("openai/gsm8k", 20.0), ("openai/gsm8k", 35.0),
    ]  # fmt: skip


def test_a_part_of_a_benchmark_is_no_result_of_it(run) -> None:
    evaluated_on_gsm8k(run, n=200)
    publication = prepared(run, "model")
    assert not (publication.folder / ".eval_results").exists()
    assert any("200 of 1319 problems were measured" in text for text in publication.warnings)


def test_adapters_are_named_as_such(run) -> None:
    (run / "train" / "model" / "adapter_config.json").write_text("{}")
    digests = file_digests(run / "train")
    change_manifest(run / "train", lambda m: m.update(files=digests))
    assert front_matter(prepared(run, "model"))["library_name"] == "peft"


def test_a_path_of_this_machine_in_a_models_file_is_said(run) -> None:
    content = b'{"base_model_name_or_path": "/home/me/models/base", "r": 16}'
    (run / "train" / "model" / "config.json").write_bytes(content)
    digests = file_digests(run / "train")
    change_manifest(run / "train", lambda m: m.update(files=digests))
    (warning,) = [w for w in prepared(run, "model").warnings if "config.json" in w]
    assert warning.startswith("config.json names /home/me/models/base, a path of this machine")


def test_a_damaged_model_is_not_published(run) -> None:
    (run / "train" / "model" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        prepared(run, "model")


# --- the folder -----------------------------------------------------------------------------------


def test_an_edited_card_is_kept(finished_run, tmp_path) -> None:
    card = prepared(finished_run, "data", out=tmp_path).folder / CARD
    prepared(finished_run, "data", out=tmp_path, licence="mit")
    assert "license: mit" in card.read_text(), "an unchanged one is written again"
    card.write_text(edited := card.read_text() + "\nThanks to Ada.\n")
    publication = prepared(finished_run, "data", out=tmp_path, licence="apache-2.0")
    assert card.read_text() == edited
    assert "was edited and is kept" in publication.warnings[-1]


def test_a_full_disk_leaves_what_was_there(finished_run, tmp_path, capsys) -> None:
    """A limit on the size of files stands for a full disk: writing fails in the middle."""
    folder = prepared(finished_run, "data", out=tmp_path).folder
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SystemExit) as stop:
            main(["publish", str(finished_run), "--what", "data", "--repo", "me/made",
                  "--out", str(folder)])  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert stop.value.code == 1
    assert f"error: {folder / 'data' / 'train.parquet'}: " in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before
