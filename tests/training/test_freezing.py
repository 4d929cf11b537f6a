"""Training some modules of a student: what rests stays as it is, bit by bit."""

import copy

import pytest
import torch
from helpers.small import QUICK, good_teacher, network, rows

import limbeck as lb
from limbeck.checks import LayerError, RecipeError


def changed(before, after):
    """Return the names of the tensors that differ between two state dicts."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def trained(student, *, teacher=None, **options):
    """Return the names that a run of three epochs changed."""
    before = copy.deepcopy(student.state_dict())
    lb.distill(student, teacher, rows(), **QUICK | options)
    return changed(before, student.state_dict())


@pytest.mark.parametrize("average", [None, 0.5])
def test_only_the_classifier_changes_and_batch_norm_keeps_its_statistics(average):
    # parts: 0 linear, 1 batch norm, 2 relu, 3 classifier; weight decay would shrink the frozen ones
    student = network(norm=True)
    names = trained(student, train_only=["3"], weight_decay=0.1, average=average)
    assert names == {"3.weight", "3.bias"}


def test_without_it_everything_changes():
    student = network(norm=True)
    assert trained(student) == set(student.state_dict())


def test_a_named_batch_norm_learns_its_statistics():
    names = trained(network(norm=True), train_only=["1", "3"])
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert names == statistics | {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_a_frozen_part_answers_as_in_eval_mode():
    """With a frozen body the run is that of a linear classifier on its features in eval mode."""
    student = network(norm=True, dropout=0.5)  # 0 linear, 1 norm, 2 relu, 3 dropout, 4 classifier
    alone = copy.deepcopy(student[4])
    x, y = rows()
    with torch.no_grad():
        features = copy.deepcopy(student[:4]).eval()(x)
    options = QUICK | {"channels_last": False}
    lb.distill(student, None, (x, y), train_only=["4"], **options)
    lb.distill(alone, None, (features, y), **options)
    torch.testing.assert_close(student[4].weight, alone.weight)


def test_gradients_are_given_back():
    student = network(norm=True)
    student[0].bias.requires_grad_(False)
    trained(student, train_only=["3"])
    resting = [name for name, p in student.named_parameters() if not p.requires_grad]
    assert resting == ["0.bias"]


def test_a_teacher_teaches_the_part_that_learns():
    names = trained(network(norm=True), teacher=good_teacher(), loss="kd", train_only=["3"])
    assert names == {"3.weight", "3.bias"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["head"], "expected the name of a module of Sequential; got 'head'"),
        ([""], "expected the name of a module"),
        (["2"], "'2' has none"),
    ],
)
def test_names_without_parameters_are_refused(names, said):
    with pytest.raises(LayerError, match=said):
        trained(network(norm=True), train_only=names)


def test_a_part_that_its_caller_froze_is_refused():
    student = network(norm=True)
    student[3].requires_grad_(False)
    with pytest.raises(LayerError, match=r"'3' has none\. Name another, or unfreeze it"):
        trained(student, train_only=["3"])


def test_an_empty_list_is_refused():
    with pytest.raises(RecipeError, match="train_only"):
        trained(network(), train_only=[])
