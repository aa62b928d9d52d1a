"""Sections 8.3.1 and 8.4: texts without a step, and hyperparameters with their metrics."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from torch.utils.tensorboard import SummaryWriter

from fitcore.evaluation.event_files import EventFiles
from fitcore.testing import CONDITIONAL, REFUTED, claim, error_of, override

LISTED = {"learning_rate": 0.001, "batch_size": 20, "epochs": 100, "optimizer": "Adam", "loss_function": "MSE"}
METRICS = {"final_loss": 0.25, "avg_epoch_loss": 0.5}


@claim("pytorch-notes/add-text-without-step-is-step-0", controls=[override("a step", step=7)])
@settings(max_examples=10)
@given(texts=st.lists(st.text(), min_size=1, max_size=5), step=st.just(None))
def test_texts_without_a_step_are_all_stored_at_step_0(recorded, texts, step):
    def write(writer):
        for text in texts:
            writer.add_text("Best_Model", text, step)

    assert recorded(write).texts("Best_Model") == [(0, text) for text in texts]


def improvements(writer, count):
    for epoch in range(count):
        writer.add_text("Best_Model", f"Epoch {epoch}: Val Loss = {1 / (epoch + 1):.4f}")


SHOWN = 10


@claim(
    "pytorch-notes/best-model-text-shows-every-improvement",
    verdict=CONDITIONAL,
    finding="Up to ten. Of more TensorBoard shows ten drawn at random, all at step 0: the event file has the others, "
    "and --samples_per_plugin text=1000 shows them. The example's run has 2 to 20 improvements (counted "
    "once, apart).",
    controls=[override("as many as are shown", many=SHOWN)],
)
def test_of_more_than_ten_texts_only_ten_are_shown(page, tmp_path, evidence, many=30):
    for count in (SHOWN, many):
        with SummaryWriter(tmp_path / str(count)) as writer:
            improvements(writer, count)
    url = "plugin/text/text?run={}&tag=Best_Model/text_summary"
    default, all_of_them = page(tmp_path), page(tmp_path, "--samples_per_plugin=text=1000")
    evidence.table("texts", [{"recorded": many, "shown": len(default(url.format(many)))}])
    assert len(default(url.format(SHOWN))) == SHOWN
    shown = default(url.format(many))
    assert len(shown) == SHOWN < many
    assert {text["step"] for text in shown} == {0}
    assert len(all_of_them(url.format(many))) == len(EventFiles(tmp_path / str(many)).texts("Best_Model")) == many


@claim(
    "pytorch-notes/add-hparams-writes-sub-run",
    verdict=REFUTED,
    finding="They go to a run of their own, a folder within the log folder named after the time, where the metrics are "
    'scalars at step 0. Only with run_name="." do they go to the same run.',
    controls=[override("into the same run", options={"run_name": "."})],
)
@pytest.mark.parametrize("options", [{}], ids=["as printed"])
def test_hparams_are_written_to_a_run_of_their_own(tmp_path, options):
    for folder, how in (("run", options), ("same", {"run_name": "."})):
        with SummaryWriter(tmp_path / folder) as writer:
            writer.add_scalar("Loss/train", 1.0, 0)
            writer.add_hparams(LISTED, METRICS, **how)
    own, same = EventFiles(tmp_path / "run"), EventFiles(tmp_path / "same")
    assert own.hparams == {}
    assert own.tags["scalars"] == ["Loss/train"]
    (sub_run,) = (path for path in (tmp_path / "run").iterdir() if path.is_dir())
    assert EventFiles(sub_run).hparams == LISTED
    assert EventFiles(sub_run).tags["scalars"] == list(METRICS)
    assert same.hparams == LISTED
    assert same.tags["scalars"] == ["Loss/train", *METRICS]


values = st.integers(-999, 999) | st.floats(allow_nan=False) | st.text() | st.booleans()


@claim(
    "pytorch-notes/add-hparams-value-types",
    finding="Also booleans. Integers come back as floats; a list is refused, by a ValueError.",
    controls=[override("a list among them", listed={**LISTED, "hidden": [64, 64]})],
)
@settings(max_examples=10)
@given(others=st.dictionaries(st.text("abc", min_size=1), values, max_size=3), listed=st.just(LISTED))
def test_hparams_may_mix_floats_integers_and_strings(recorded, others, listed):
    hparams = {**listed, **others}

    def write(writer):
        assert error_of(writer.add_hparams, hparams, METRICS, run_name=".") is None
        with pytest.raises(ValueError, match="int, float, str, bool"):
            writer.add_hparams({"hidden": [64, 64]}, METRICS, run_name=".")

    assert recorded(write).hparams == hparams


def as_text(writer, hparams, metrics):
    """Record them as the complete example does at its beginning."""
    writer.add_text("Hyperparameters", str(hparams))
    writer.add_text("Metrics", str(metrics))


@claim("pytorch-notes/hparams-view-combines-settings-and-metrics", controls=[override("as text", log=as_text)])
def test_the_hparams_panel_shows_settings_and_metrics_of_each_run_in_one_row(
    page, tmp_path, evidence, log=SummaryWriter.add_hparams
):
    runs = [({"learning_rate": rate, "optimizer": "Adam"}, {"best_val_loss": 1 + rate}) for rate in (0.5, 0.25)]
    for number, (hparams, metrics) in enumerate(runs):
        with SummaryWriter(tmp_path / str(number)) as writer:
            log(writer, hparams, metrics)
    columns = [{"hparam": "learning_rate"}, {"hparam": "optimizer"}, {"metric": {"tag": "best_val_loss", "group": ""}}]
    asked = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "colParams": columns, "sliceSize": 10}
    groups = page(tmp_path)("plugin/hparams/session_groups", method="POST", json=asked).get("sessionGroups", [])
    rows = [{**group["hparams"], **{m["name"]["tag"]: m["value"] for m in group["metricValues"]}} for group in groups]
    assert sorted(rows, key=str) == sorted(({**hparams, **metrics} for hparams, metrics in runs), key=str)
    evidence.table("what the panel shows", [dict(sorted(row.items())) for row in rows])
