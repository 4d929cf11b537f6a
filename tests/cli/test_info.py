"""``info``, ``report`` and ``demo``."""

import sys
import types

from limbeck import __version__
from limbeck.losses import LOSSES
from limbeck.record import RunRecord
from limbeck.training.saving import describe
from limbeck.zoo.networks import NETWORKS


def test_installation(limbeck):
    said, _ = limbeck("info")
    for word in (__version__, "torch", "cores", "digits", *LOSSES, "resnet8x4"):
        assert word in said
    found = limbeck.json("info")
    assert found["networks (zoo:NAME)"] == list(NETWORKS)


def test_run_and_model_folders(limbeck, teacher):
    record = RunRecord.open(teacher)
    found = limbeck.json("info", teacher)
    assert found["results"]["last test accuracy"] == record.results["last"]["test"]["accuracy"]
    assert found["run"]["status"] == "finished"
    assert found["settings"]["epochs"] == 2
    curve = record.curves["loss total"]
    assert found["last value of each curve"]["loss total"] == curve[-1]
    said, _ = limbeck("info", teacher)
    assert f"{record.results['last']['test']['accuracy']:.6g}" in said
    found = limbeck.json("info", teacher / "student")
    assert found["model"]["parameters"] == record.settings["student_parameters"]
    assert found["model"] == {
        name: value for name, value in describe(teacher / "student").items() if value is not None
    }


def test_warnings_and_paused_curves_of_a_run(limbeck, tmp_path):
    record = RunRecord(kind="train", seed=0, warnings=["teacher: [odd] weights."])
    record.add_to_curves({"loss total": 2.0, "validation accuracy": 0.5})
    record.add_to_curves({"loss total": 1.0})
    record.save(tmp_path)
    last = limbeck.json("info", tmp_path)["last value of each curve"]
    assert last == {"loss total": 1.0, "validation accuracy": 0.5}
    _, remarks = limbeck("info", tmp_path)
    assert remarks == "warning: teacher: [odd] weights.\n"


def test_networks(limbeck):
    found = limbeck.json("info", "zoo:resnet20")
    assert found["model"]["parameters"] == sum(found["parameters by layer"].values())
    assert 270_000 < found["model"]["parameters"] < 280_000
    assert found["model"]["megabytes in fp32"] == 4 * found["model"]["parameters"] / 1e6
    _, said = limbeck("info", "zoo:resnet21", code=2)
    assert "resnet20" in " ".join(said.split()).partition("Did you mean")[2]
    _, said = limbeck("info", "os:getcwd", code=2)
    assert "expected zoo:NAME" in said


def test_data_sets(limbeck, tmp_path):
    found = limbeck.json("info", "digits")["data"]
    assert (found["train rows"], found["validation rows"], found["test rows"]) == (1132, 126, 539)
    assert (found["classes"], found["channels"]) == (10, 1)
    assert found["augment"] == "CropFlip(padding=1, flip=False, seed=0)"
    assert found["class names"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    _, said = limbeck("info", "cifar10", "--folder", tmp_path, code=2)
    assert str(tmp_path) in said


def test_unknown_things_name_the_nearest(limbeck):
    _, said = limbeck("info", "digit", code=2)
    assert "Did you mean digits" in " ".join(said.split())


def test_the_demo_is_called_with_what_was_said(limbeck, monkeypatch, tmp_path):
    calls = []
    demo = types.ModuleType("demo")
    demo.run_demo = lambda *given, **named: calls.append((given, named))
    monkeypatch.setitem(sys.modules, "limbeck.cli.demo", demo)
    limbeck("demo", "--out", tmp_path / "d", "--seeds", 2)
    (((out, seeds, *_), named),) = calls
    assert named == {"told": True}
    assert (out, seeds) == (tmp_path / "d", 2)
