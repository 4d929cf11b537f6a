"""Features by layer name: what is kept, what is restored, what is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from limbeck.capture import Capture, call, evaluated, find_head, logits_of
from limbeck.checks import LayerError, ModelError


X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


class Net(nn.Module):
    """Two blocks and a head; ``shape`` changes what forward() returns."""

    def __init__(self, shape=lambda logits: logits, classes=3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True))
        self.spare = nn.Linear(5, 5)
        self.head = nn.Linear(5, classes)
        self.shape = shape

    def forward(self, inputs):
        return self.shape(self.head(self.encoder(inputs)))


def hooks(module):
    return sum(len(p._forward_hooks) + len(p._forward_pre_hooks) for p in module.modules())


def test_named_layers():
    net = seeded(Net).eval()
    with Capture(net, ["encoder.0", "encoder", "head", "encoder"]) as capture:
        outputs = capture(X)
        assert capture.layers == ("encoder.0", "encoder", "head")
    assert torch.equal(outputs.logits, net(X))
    assert list(outputs.features) == ["encoder.0", "encoder", "head"]
    assert torch.equal(outputs.features["encoder"], net.encoder(X))
    assert torch.equal(outputs.features["head"], outputs.logits)


def test_a_later_layer_in_place_does_not_change_what_was_kept():
    net = seeded(Net).eval()
    with Capture(net, ["encoder.1"]) as capture:
        kept = capture(X).features["encoder.1"]
    assert (kept < 0).any()
    assert torch.equal(kept, net.encoder[1](net.encoder[0](X)))


def test_gradients_flow_through_features():
    net = seeded(Net).eval()
    with Capture(net, ["encoder", "penultimate"], example=X) as capture:
        found = capture(X)
        for name in ("encoder", "penultimate"):
            gradient = torch.autograd.grad(
                found.features[name].sum(), net.encoder[0].weight, retain_graph=True
            )[0]
            assert (gradient != 0).any()


def test_features_of_one_call_stay_when_the_next_is_made():
    net = seeded(Net).eval()
    with Capture(net, ["encoder"]) as capture:
        one = capture(X)
        before = one.features["encoder"].clone()
        two = capture(-X)
    assert torch.equal(one.features["encoder"], before)
    assert not torch.equal(two.features["encoder"], before)


SHAPES = {
    "plain": lambda z: z,
    "object": lambda z: SimpleNamespace(logits=z, loss=None),
    "dict": lambda z: {"logits": z, "loss": None},
    "tuple": lambda z: (z, "more"),
    "list": lambda z: [z],
    "reshaped": lambda z: z.reshape(len(z), 1, -1),
}


@pytest.mark.parametrize("kind", list(SHAPES))
def test_penultimate(kind):
    net = seeded(lambda: Net(SHAPES[kind])).eval()
    assert find_head(net, X) == "head"
    with Capture(net, ["penultimate"], example=X) as capture:
        outputs = capture(X)
    assert torch.equal(outputs.features["penultimate"], net.encoder(X))
    assert torch.equal(outputs.logits, logits_of(net(X)))


@pytest.mark.parametrize("squeezed", [lambda z: z.squeeze(-1), lambda z: z[:, 0], torch.ravel])
def test_penultimate_of_a_regression(squeezed):
    net = seeded(lambda: Net(squeezed, classes=1)).eval()
    assert find_head(net, X) == "head"
    with Capture(net, ["penultimate"], example=X) as capture:
        outputs = capture(X)
    assert outputs.logits.shape == (4,)
    assert torch.equal(outputs.features["penultimate"], net.encoder(X))


def test_penultimate_of_sequential_and_bare_layers():
    net = seeded(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.Linear(5, 3), nn.Dropout()))
    )
    assert find_head(net, X) == "1.0"
    with Capture(nn.Linear(6, 2), ["penultimate"], example=X) as capture:
        assert torch.equal(capture(X).features["penultimate"], X)


class Keyword(Net):
    def forward(self, inputs):
        return self.head(input=self.encoder(inputs))


def test_penultimate_where_the_head_is_called_by_keyword():
    net = seeded(Keyword).eval()
    with Capture(net, ["penultimate"], example=X) as capture:
        assert torch.equal(capture(X).features["penultimate"], net.encoder(X))


class Tied(nn.Module):
    """One linear layer used three times, under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = self.first

    def forward(self, inputs):
        return self.again(self.first(self.first(inputs).relu()).relu())


def test_penultimate_of_a_reused_layer():
    net = seeded(Tied).eval()
    with Capture(net, ["penultimate"], example=X) as capture:
        kept = capture(X).features["penultimate"]
    assert torch.equal(kept, net.first(net.first(X).relu()).relu())


class TwoHeads(Net):
    def __init__(self, shape, first):
        super().__init__(shape)
        self.other, self.first = nn.Linear(6, 3), first

    def forward(self, inputs):
        if self.first:
            side = self.other(inputs)
            return self.shape(self.head(self.encoder(inputs)), side)
        main = self.head(self.encoder(inputs))
        return self.shape(main, self.other(inputs))


@pytest.mark.parametrize("first", [True, False])
def test_two_heads(first):
    assert find_head(TwoHeads(lambda main, side: (main, side), first), X) == "head"
    assert find_head(TwoHeads(lambda main, side: (side, main), first), X) == "other"
    with pytest.raises(LayerError, match=r"TwoHeads has none among .*head, other. Name the layer"):
        find_head(TwoHeads(lambda main, side: (main + side) / 2, first), X)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv1d(2, 3, 1), nn.Flatten()), "none among none"),
        (nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1)), "none among 0. Name the layer, as in"),
        (nn.Sequential(nn.Linear(6, 3), nn.ReLU()), "none among 0"),
    ],
)
def test_no_linear_head(net, message):
    inputs = torch.ones(4, 2, 3) if isinstance(net[0], nn.Conv1d) else X
    with pytest.raises(LayerError, match=f"big: expected a linear layer.*{message}"):
        Capture(net, ["penultimate"], example=inputs, name="big")
    assert hooks(net) == 0


def test_penultimate_needs_an_example():
    with pytest.raises(LayerError, match="expected example inputs"):
        Capture(Net(), ["penultimate"])


def test_unknown_layers_name_their_neighbours():
    net = Net()
    with pytest.raises(
        LayerError, match=r"got 'encodr\.0', .*encoder, spare, head. Did you mean encoder"
    ):
        Capture(net, ["head", "encodr.0"])
    assert hooks(net) == 0
    with pytest.raises(LayerError, match="Its children are none"):
        Capture(nn.Identity(), ["x"])


def test_a_layer_that_does_not_run():
    with (
        Capture(Net().eval(), ["head", "spare"], name="student") as capture,
        pytest.raises(LayerError, match="student: expected layers spare to run"),
    ):
        capture(X)


class Sometimes(Net):
    def forward(self, inputs):
        return super().forward(
            self.spare(inputs[:, :5]).repeat(1, 2)[:, :6] if inputs[0, 0] > 0 else inputs
        )


def test_a_layer_that_stops_running():
    with Capture(Sometimes().eval(), ["spare"]) as capture:
        capture(X.abs() + 1)
        with pytest.raises(LayerError, match="expected layers spare to run"):
            capture(-X.abs())


class Several(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.part = nn.LSTM(6, 3, batch_first=True)
        self.other = SaysDict()
        self.head = nn.Linear(3, 2)
        self.output = output

    def forward(self, inputs):
        self.other(inputs)
        return self.output(self.head(self.part(inputs[:, None])[0][:, 0]))


class SaysDict(nn.Module):
    def forward(self, inputs):
        return {"x": inputs}


def test_layers_that_give_several_things():
    with Capture(Several(lambda z: z), ["part"]) as capture:
        assert capture(X).features["part"].shape == (4, 1, 3)
    with (
        Capture(Several(lambda z: z), ["other"]) as capture,
        pytest.raises(LayerError, match="layer 'other' to give a tensor; got dict"),
    ):
        capture(X)


@pytest.mark.parametrize(
    "output", [{"out": X}, SimpleNamespace(pooled=X), SimpleNamespace(logits=None), (), "x", None]
)
def test_no_logits(output):
    with pytest.raises(ModelError, match=f"teacher: .*got {type(output).__name__}. Wrap the model"):
        logits_of(output, "teacher")


def test_hooks_are_removed():
    net = Net()
    with Capture(net, ["encoder", "penultimate"], example=X):
        assert hooks(net) == 2
    assert hooks(net) == 0
    with pytest.raises(ModelError, match="mat1 and mat2"):
        find_head(net, X[:, :2])
    assert hooks(net) == 0


def test_modes_and_statistics_are_left_as_they_were():
    net = seeded(Net).train()
    net.encoder[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Capture(net, ["penultimate"], example=X).close()
    assert not evaluated(net, X).requires_grad
    with pytest.raises(ModelError, match="mat1 and mat2"):
        evaluated(net, X[:, :2])
    assert (net.training, net.encoder.training, net.encoder[1].training) == (True, True, False)
    net.encoder[1].train()
    evaluated(net, X)
    assert net.encoder[1].training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_inputs_take_the_type_of_the_model(kind):
    net = seeded(Net).eval().to(kind)
    with Capture(net, ["penultimate", "encoder"], example=X) as capture:
        outputs = capture(X)
    assert {outputs.logits.dtype, *(f.dtype for f in outputs.features.values())} == {kind}


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 5), nn.Linear(5, 2)

    def forward(self, ids, mask):
        return {"logits": self.head((self.table(ids) * mask[..., None]).sum(1))}


def test_named_inputs():
    net = seeded(Text).double()
    inputs = {"ids": torch.tensor([[1, 2], [3, 0]]), "mask": torch.tensor([[1.0, 1.0], [1.0, 0.0]])}
    with Capture(net, ["penultimate"], example=inputs) as capture:
        outputs = capture(inputs)
    expected = torch.stack([net.table.weight[1] + net.table.weight[2], net.table.weight[3]])
    torch.testing.assert_close(outputs.features["penultimate"], expected)
    assert call(net, inputs | {"mask": inputs["mask"].double()})["logits"].shape == (2, 2)


class Positions(nn.Module):
    """A text model whose configuration says what it can take, as those of transformers do."""

    def __init__(self, vocab_size, length):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocab_size, max_position_embeddings=length)
        self.tokens, self.places = nn.Embedding(vocab_size, 4), nn.Embedding(length, 4)

    def forward(self, input_ids):
        return self.tokens(input_ids).sum(1) + self.places(torch.arange(input_ids.shape[1])).sum(0)


def test_token_ids_and_lengths_beyond_a_text_model_are_named():
    net = Positions(10, 5)
    assert evaluated(net, {"input_ids": torch.tensor([[9, 0, 1, 2, 3]])}).shape == (1, 4)
    with pytest.raises(ModelError, match=r"failed: .*Token id 10, vocabulary 10 \(ids 0 to 9\): "):
        evaluated(net, {"input_ids": torch.tensor([[3, 10]])}, "teacher")
    with pytest.raises(ModelError, match=r"failed: .*Rows of 6 tokens, max_position_embeddings 5"):
        evaluated(net, {"input_ids": torch.zeros(2, 6, dtype=torch.int64)})
    with pytest.raises(ModelError, match="input size, channels and device"):  # it is something else
        evaluated(net, {"input_ids": torch.tensor([[3, -11]])})


def test_through_a_compiled_form(without_shape_hook):
    net = seeded(Net).eval()
    with Capture(net, ["encoder.1", "penultimate"], example=X) as capture:
        compiled = torch.compile(net, backend="eager")
        plain = capture(X)
        for inputs in (X, X * 2, X):
            fast = capture(inputs, through=compiled)
        torch.testing.assert_close(fast.logits, plain.logits)
        torch.testing.assert_close(fast.features, plain.features)
