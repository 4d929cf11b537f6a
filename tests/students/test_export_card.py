"""Model cards: made of the record, read back by another library; and what cannot be exported."""

import json

import pytest
import torch
import yaml
from helpers.small import QUICK, good_teacher, network, rows
from helpers.students import Bag, bag_inputs, images, needs_onnx, seeded, small, trained
from torch import nn

import limbeck as lb
from limbeck.checks import ArgumentError, ModelError
from limbeck.students.card import model_card, wilson
from limbeck.students.export import export
from limbeck.students.quantised import quantised
from limbeck.students.shipping import card_beside, saved_student, ship
from limbeck.training.building import build


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder and record of a small distillation."""
    folder = tmp_path_factory.mktemp("run") / "kd"
    x, y = rows(48)
    data = lb.Data((x, torch.where(torch.arange(48) < 30, y, -1)), class_names=["a", "b|c", "d"])
    result = lb.distill(
        network(), good_teacher(), data, loss="kd", validation=rows(24, seed=3),
        test=rows(31, seed=4), out=folder, **QUICK,
    )  # fmt: skip
    return folder, result.record


def parted(text):
    """Return the metadata and the body of a card."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_card_says_what_the_record_says(run, tmp_path):
    folder, record = run
    card = ship(folder, tmp_path / "out", data_name="centres")
    head, body = parted(card.read_text("utf8"))
    assert head["library_name"] == "limbeck"
    assert head["tags"] == ["pytorch", "knowledge-distillation", "classification"]
    (result,) = head["model-index"][0]["results"]
    found = {one["type"]: one["value"] for one in result["metrics"]}
    assert found == record.results["last"]["test"]
    assert result["dataset"] == {"type": "centres", "name": "centres", "split": "test"}
    assert "| teacher | Sequential, 103 parameters |" in body  # 70 + 33
    assert "| loss | KD (temperature 4.0) |" in body
    assert "| weights | 0.1 of the task's loss, 0.9 of the distillation term |" in body
    assert "| training rows | 48, 30 of them labelled |" in body
    assert "| classes | 3: a, b\\|c, d |" in body
    assert "on 31 test rows" in body
    accuracy = 100 * record.results["last"]["test"]["accuracy"]
    assert f"| accuracy | {accuracy:.1f} % | [" in body
    teacher = 100 * record.teacher["test"]["accuracy"]
    assert f"The teacher on the same rows: accuracy {teacher:.1f} %, cross_entropy " in body
    assert f"| torch | {record.versions['torch']} |" in body
    for warning in record.warnings:
        assert warning in body
    assert 'lb.load("FOLDER", Sequential(...))' in body  # built by no builder that is known


def test_another_library_reads_the_metadata(run, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="comes with the extra `text`")
    card = hub.ModelCard.load(ship(run[0], tmp_path, data_name="centres"))
    accuracy = next(one for one in card.data.eval_results if one.metric_type == "accuracy")
    assert accuracy.metric_value == run[1].results["last"]["test"]["accuracy"]
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("centres", "test")


def test_the_folder_is_the_student(run, tmp_path):
    folder, _ = run
    for source in (folder, folder / "student"):
        ship(source, tmp_path / "out")
        x = rows(5, seed=9)[0]
        again = lb.load(tmp_path / "out", network(seed=7))
        assert torch.equal(again(x), lb.load(folder, network(seed=8))(x))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "model.json", "README.md"}
    assert "model-index" not in (tmp_path / "out" / "README.md").read_text("utf8")  # no data name


def test_the_best_student_has_the_results_of_its_epoch(run, tmp_path):
    folder, record = run
    text = ship(folder / "best", tmp_path, data_name="centres").read_text("utf8")
    head, body = parted(text)
    found = {one["type"]: one["value"] for one in head["model-index"][0]["results"][0]["metrics"]}
    assert found == record.results["best"]["test"]
    assert "best on validation rows" in body


def test_a_card_in_the_students_own_folder(tmp_path):
    model = build("zoo:mlp", inputs=6, num_classes=3)
    lb.distill(model, None, rows(48), out=tmp_path / "run", **QUICK)
    card = ship(tmp_path / "run", tmp_path / "run" / "student", trust=True)
    _, body = parted(card.read_text("utf8"))
    assert card.parent == tmp_path / "run" / "student"
    assert "trained without a teacher" in body
    assert "knowledge-distillation" not in card.read_text("utf8")
    assert 'lb.load("FOLDER", trust=True)' in body
    assert "The record holds no results" in body
    assert lb.load(card.parent) is not None


def test_limits_name_what_is_missing(run):
    _, record = run
    description = {"class": "torch:Sequential", "parameters": 7}
    only = record.model_copy(deep=True)
    del only.results["last"]["test"], only.teacher["test"]
    only.status, only.warnings = "interrupted", ["rows stand twice"]
    text = model_card(only, description, usage="pass", remarks=["mind the step"])
    assert "rows that choices were made on" in text
    assert "The run is interrupted" in text
    assert "- rows stand twice\n- mind the step\n" in text
    measured = only.model_copy(deep=True)
    measured.settings["weight"] = {"mode": "hbar"}
    assert "measured while training: {'mode': 'hbar'}" in model_card(
        measured, description, usage="pass"
    )


def test_wilson_beside_scipy():
    from scipy.stats import binomtest

    for right, count in ((0, 7), (3, 7), (430, 500), (12, 12)):
        wanted = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right / count, count) == pytest.approx((wanted.low, wanted.high))


@needs_onnx
def test_a_program_has_a_card_with_its_parity(run, tmp_path):
    folder, _ = run
    x = rows(20, seed=5)[0]
    for format, call in (("onnx", "onnxruntime.InferenceSession"), ("torch", "torch.export.load")):
        made = export(lb.load(folder, network()), x, tmp_path / format, format=format)
        _, body = parted(card_beside(folder, made, data_name="centres").read_text("utf8"))
        assert (
            f"against the student on 20 rows: logits up to {made.parity.max_difference:.3g}" in body
        )
        assert f'{call}("student.' in body
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("model.safetensors", "model.json"):
        (alone / name).write_bytes((folder / "student" / name).read_bytes())
    assert card_beside(alone, made) is None
    with pytest.raises(ModelError, match=r"expected record\.json beside the student"):
        ship(alone, tmp_path / "x")
    with pytest.raises(ModelError, match="expected a student that limbeck saved"):
        saved_student(tmp_path / "nowhere")


def test_a_difference_beyond_the_tolerance_is_refused(tmp_path):
    model = trained(small())
    with pytest.raises(ModelError, match=r"within 0 of those of Sequential; got up to .* 6 rows"):
        export(model, images(), tmp_path / "none", tolerance=0.0)
    assert not (tmp_path / "none").exists()
    made = export(model, images(), tmp_path, tolerance=1e-3)
    assert made.parity.allowed == 1e-3
    assert json.loads((tmp_path / "export.json").read_text())["parity"]["allowed"] == 1e-3
    with pytest.raises(ArgumentError, match="export: expected `tolerance` of at least 0"):
        export(model, images(), tmp_path, tolerance=-1.0)


class Large(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.head, self.scale = nn.Linear(4, 3), scale

    def forward(self, x):
        return self.scale * self.head(x)


def test_the_default_tolerance_follows_the_logits(tmp_path):
    x = torch.ones(3, 4)
    model = Large(1e4)
    with torch.no_grad():
        model.head.weight.fill_(1.0), model.head.bias.zero_()
    assert export(model, x, tmp_path).parity.allowed == pytest.approx(40.0)  # 0.001 x 4e4
    with torch.no_grad():
        model.head.weight.fill_(1e-6)
    assert export(model, x, tmp_path).parity.allowed == pytest.approx(1e-3)


def test_a_model_without_numbers_is_refused(tmp_path):
    model = trained(quantised(small(), bits=4))  # no limit on the difference by default
    with torch.no_grad():
        model[7].bias.fill_(torch.nan)
    with pytest.raises(ModelError, match="Nothing was written"):
        export(model, images(), tmp_path, agreement=0.0)


def test_masked_logits_and_single_numbers(tmp_path):
    class Masked(nn.Module):
        def forward(self, x):
            return torch.where(x > 0.5, x, -torch.inf)

    class Single(nn.Module):
        def forward(self, x):
            return x.sum(1)

    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    for model in (Masked(), Single()):
        parity = export(model, x, tmp_path).parity
        assert parity.max_difference < 1e-6
        assert parity.same_answer == 1.0


@torch.library.custom_op("limbeck_tests::twist", mutates_args=())
def twist(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@twist.register_fake
def _(x):
    return torch.empty_like(x)


@needs_onnx
@pytest.mark.usefixtures("without_shape_hook")
def test_the_operator_and_the_line_are_named(tmp_path):
    class Twisted(nn.Module):
        def forward(self, x):
            return twist(x)

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum().item() > 0 else -x

    x = torch.rand(4, 3)
    assert export(Twisted(), x, tmp_path).parity.max_difference == 0.0
    with pytest.raises(ModelError, match=r"Operator: limbeck_tests\.twist\.default\. Use"):
        export(Twisted(), x, tmp_path, format="onnx")
    line = r"at 'return x if x\.sum\(\)\.item\(\) > 0 else -x' \(test_export_card\.py, line \d+\)"
    with pytest.raises(ModelError, match=line):
        export(Branching(), x, tmp_path)
    with pytest.raises(ModelError, match=r"float32 or float16 for format='onnx'; got bfloat16"):
        export(nn.Linear(3, 2).bfloat16(), x, tmp_path, format="onnx")


@needs_onnx
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_models_of_transformers_for_any_number_of_rows(kind, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    import onnxruntime

    with torch.random.fork_rng():
        torch.manual_seed(0)
        ids = torch.randint(30, (5, 7))
        if kind == "bert":
            config = transformers.BertConfig(
                vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
            )
            model = transformers.BertForSequenceClassification(config).eval()
        else:
            config = transformers.GPT2Config(
                vocab_size=30, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1
            )
            config.use_cache = False
            model = transformers.GPT2LMHeadModel(config).eval()
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    inputs = {"attention_mask": mask, "input_ids": ids}
    made = export(model, inputs, tmp_path, format="onnx")
    assert made.parity.max_difference < 1e-4
    session = onnxruntime.InferenceSession(made.program, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["attention_mask", "input_ids"]
    for count in (1, 9):
        fed = {"input_ids": ids[:1].repeat(count, 1), "attention_mask": mask[:1].repeat(count, 1)}
        (found,) = session.run(None, {name: value.numpy() for name, value in fed.items()})
        with torch.no_grad():
            wanted = model(**fed).logits
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=0)


def test_named_inputs_without_quantised_layers(tmp_path):
    model = seeded(Bag).eval()
    made = export(model, bag_inputs(), tmp_path)
    program = torch.export.load(made.program).module()
    torch.testing.assert_close(program(*bag_inputs(2).values()), model(**bag_inputs(2))["logits"])
