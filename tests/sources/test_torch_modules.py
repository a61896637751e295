"""PyTorch modules, from `nn.Module` to checked bytes, against PyTorch itself."""

import subprocess
import sys
import time

import numpy as np
import pytest

import lstm_toolkit
from lstm_toolkit import Runner
from lstm_toolkit.errors import ConversionError

pytestmark = [pytest.mark.backends, pytest.mark.xdist_group("litert-torch")]

torch = pytest.importorskip("torch", reason="PyTorch is an optional extra: pip install lstm_toolkit[torch]")
pytest.importorskip("litert_torch", reason="litert-torch is in the same extra")

from torch import nn  # noqa: E402 (behind the skip)

from tests.helpers import torch_modules as modules  # noqa: E402

TOLERANCE = 1e-5
FUSED, MERGED = "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"


def floats(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def check(conversion, wanted, *, calls=3, delegates=(True, False)):
    """Runs a file on a few calls in a row, with and without XNNPACK.

    Args:
        wanted: gives for the number of a call the inputs by name, and the outputs by name as PyTorch has them.
    """
    for delegated in delegates:
        runner = Runner(conversion.tflite, xnnpack=delegated)
        for call in range(calls):
            inputs, outputs = wanted(call)
            given = runner.outputs(**{name: np.asarray(each) for name, each in inputs.items()})
            assert list(given) == list(outputs) or set(given) == set(outputs)
            for name, value in outputs.items():
                np.testing.assert_allclose(given[name], value.numpy(), atol=TOLERANCE, err_msg=f"{name}, call {call}")


def test_between_other_layers():
    module = modules.randomized(modules.Attended())
    conversion = lstm_toolkit.convert(module, input_signature=floats(2, 7, 3))
    assert conversion.report.ops[FUSED] == 1
    assert not {"WHILE", "LOGISTIC"} & set(conversion.report.ops)
    (layer,) = conversion.report.layers
    assert (layer.name, layer.layer_class, layer.op, layer.reason) == ("recurrent", "LSTM", FUSED, None)
    assert conversion.report.checked.calls == 7

    def wanted(call):
        x = floats(2, 7, 3, seed=call)
        return {"signal": x}, modules.expected(module, x)

    check(conversion, wanted)


def test_layers_directions_and_dropout():
    module = modules.randomized(modules.Layers(num_layers=3, bidirectional=True, dropout=0.4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert module.training
    conversion = lstm_toolkit.convert(module, input_signature=floats(6, 2, 3))
    assert module.training
    assert all(each.training for each in module.modules())
    assert not module.recurrent._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert conversion.report.ops[MERGED] == 3
    assert [each.name for each in conversion.report.layers][:3] == [
        "recurrent_l0",
        "recurrent_l0_reverse",
        "recurrent_l1",
    ]

    def wanted(call):
        x = floats(6, 2, 3, seed=call)
        y, (h, c) = modules.expected(module, x)
        return {"x": x}, {"output_0": y, "output_1": h, "output_2": c}

    check(conversion, wanted)


def test_projection_and_given_states():
    module = modules.randomized(modules.Continued(num_layers=2, proj_size=4))
    states = floats(2, 3, 4), floats(2, 3, 5)
    conversion = lstm_toolkit.convert(module, input_signature=(floats(3, 6, 3), states))
    assert conversion.report.ops[FUSED] == 2
    assert [each.name for each in conversion.report.layers] == ["encoder.one_l0", "encoder.one_l1"]

    def wanted(call):
        x, h, c = floats(3, 6, 3, seed=call), floats(2, 3, 4, seed=call + 10), floats(2, 3, 5, seed=call + 20)
        y, (last_h, last_c) = modules.expected(module, x, (h, c))
        return {"x": x, "states_0": h, "states_1": c}, {"output_0": y, "output_1": last_h, "output_2": last_c}

    check(conversion, wanted)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_several_inputs_and_kinds_in_other_precision(dtype):
    module = modules.randomized(modules.Mixed()).to(getattr(torch, dtype))
    tokens, features = torch.zeros(2, 7, dtype=torch.int64), np.zeros((2, 7, 2), dtype)
    signature = {"features": features, "tokens": tokens}
    conversion = lstm_toolkit.convert(module, input_signature=signature)
    assert {each.layer_class: each.op for each in conversion.report.layers} == {
        "GRU": "loop",
        "RNN": "UNIDIRECTIONAL_SEQUENCE_RNN",
        "LSTM": FUSED,
    }
    assert [each.reason for each in conversion.report.layers] == ["there is no fused op for a GRU", None, None]
    assert next(module.parameters()).dtype == getattr(torch, dtype)

    def wanted(call):
        x, numbers = floats(2, 7, 2, seed=call), np.random.default_rng(call).integers(0, 11, (2, 7))
        y = modules.expected(module, torch.from_numpy(numbers), features=x)
        return {"features": x, "tokens": numbers.astype(np.int32)}, y._asdict()

    check(conversion, wanted)


def test_a_cell_step_by_step():
    module = modules.randomized(modules.Stepwise())
    conversion = lstm_toolkit.convert(module, input_signature=floats(2, 7, 3))
    assert conversion.report.ops[FUSED] == 1
    assert "LOGISTIC" not in conversion.report.ops
    assert [each.op for each in conversion.report.layers] == [FUSED]

    def wanted(call):
        x = floats(2, 7, 3, seed=call)
        return {"x": x}, {"output_0": modules.expected(module, x)}

    check(conversion, wanted)


def test_many_steps_are_not_unrolled():
    module = modules.randomized(modules.Layers(num_layers=4, batch_first=True))
    lstm_toolkit.convert(modules.Layers(batch_first=True), input_signature=floats(1, 2, 3), verify=False)
    start = time.process_time()
    conversion = lstm_toolkit.convert(module, input_signature=floats(1, 500, 3), verify=False)
    # It took 15 seconds of this process where torch.export went through the steps.
    assert time.process_time() - start < 5
    assert conversion.report.ops[FUSED] == 4
    assert sum(conversion.report.ops.values()) < 60

    def wanted(call):
        x = floats(1, 500, 3, seed=call)
        y, (h, c) = modules.expected(module, x)
        return {"x": x}, {"output_0": y, "output_1": h, "output_2": c}

    check(conversion, wanted, calls=2, delegates=(True,))


def test_explicit_states():
    module = modules.randomized(modules.Layers(nn.GRU, batch_first=True, bidirectional=True))
    conversion = lstm_toolkit.convert(module, input_signature=floats(2, 7, 3), state="explicit")

    def wanted(call):
        x, h = floats(2, 7, 3, seed=call), floats(2, 2, 5, seed=call + 10)
        y, last = modules.expected(module.recurrent, x, h)
        return {"x": x, "recurrent_h": h}, {"output_0": y, "output_1": last, "recurrent_h": last}

    check(conversion, wanted)


def test_carried_states():
    module = modules.randomized(modules.Wrapped())
    conversion = lstm_toolkit.convert(module, input_signature=floats(2, 7, 3), state="carry")
    x = floats(2, 21, 3)
    parts = modules.expected(module, x).split(7, dim=1)
    check(conversion, lambda call: ({"x": x.split(7, dim=1)[call]}, {"output_0": parts[call]}))


@pytest.mark.parametrize("options", [{"lowering": "unrolled"}, {"lowering": "loop"}, {"target": "micro"}])
def test_other_forms(options):
    module = modules.randomized(modules.Layers(nn.LSTM if "lowering" in options else nn.GRU, batch_first=True))
    conversion = lstm_toolkit.convert(module, input_signature=floats(2, 7, 3), **options)
    assert FUSED not in conversion.report.ops
    (layer,) = conversion.report.layers
    assert layer.op == options.get("lowering", layer.op)


def dropped(y):
    return nn.functional.dropout(y, 0.5)


class Attribute(modules.Wrapped):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


class Unusual(modules.Wrapped):
    def forward(self, x):
        return torch.special.zeta(super().forward(x).abs() + 2, torch.tensor(1.0))


REFUSED = {
    "no examples": (
        modules.Attended,
        None,
        {},
        ("needs example inputs", "pass input_signature=torch.zeros("),
    ),
    "other arguments": (modules.Attended, {"sound": floats(2, 7, 3)}, {}, ("Attended.forward(signal)", "'signal'")),
    "other shapes": (
        modules.Attended,
        floats(2, 3, 7),
        {},
        ("'signal': [2, 3, 7]", "pass as input_sig"),
    ),
    "packed": (
        modules.Packed,
        floats(2, 7, 3),
        {},
        ("'packed' (LSTM)", "PackedSequence", "on the padded"),
    ),
    "batch_size": (modules.Attended, floats(2, 7, 3), {"batch_size": 1}, ("the batch of its example inputs",)),
    "time_steps": (modules.Attended, floats(2, 7, 3), {"time_steps": 9}, ("the time steps of its example inputs",)),
    "time_major": (modules.Attended, floats(2, 7, 3), {"time_major": True}, ("give its layers batch_first=False",)),
    "dropout": (lambda: modules.Wrapped(dropped), floats(2, 7, 3), {}, ("draws random numbers", "self.training")),
    "buffer": (modules.Counting, floats(2, 7, 3), {}, ("Counting changes its 'count'", "an input and an output")),
    "attribute": (Attribute, floats(2, 7, 3), {}, ("Attribute changes its 'last'", "an input and an output")),
    "branch": (
        lambda: modules.Wrapped(lambda y: y if y.sum() > 0 else -y),
        floats(2, 7, 3),
        {},
        ("torch.export cannot trace Wrapped", "let no branch"),
    ),
    "no tensor": (
        lambda: modules.Wrapped(lambda y: (y, "text")),
        floats(2, 7, 3),
        {},
        ("returns str beside tensors", "return tensors alone"),
    ),
    "an op": (Unusual, floats(2, 7, 3), {}, ("litert-torch cannot convert Unusual", "zeta", "outside of the file")),
    "carried by a GRU": (
        lambda: modules.Layers(nn.GRU),
        floats(2, 7, 3),
        {"state": "carry"},
        ("'recurrent' (GRU)", 'pass state="explicit"'),
    ),
    "carried twice": (
        modules.Twice,
        floats(2, 7, 5),
        {"state": "carry"},
        ("'shared'", "than once", 'pass state="explicit"'),
    ),
    "no recurrent layer": (
        lambda: nn.Linear(3, 2),
        floats(2, 3),
        {},
        ("calls no recurrent layer", "with litert_torch.convert"),
    ),
    "script": (
        lambda: torch.jit.trace(modules.Wrapped(), floats(2, 7, 3)),
        floats(2, 7, 3),
        {},
        ("a module of TorchScript", "pass the module that it was made of"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, signature, options, told = REFUSED[name]
    with pytest.raises(ConversionError) as refusal:
        lstm_toolkit.convert(make(), input_signature=signature, **options)
    assert [each for each in told if each not in str(refusal.value)] == []


class Obedient(modules.Wrapped):
    """Does what the refusals advise: dropout in training alone, no branch, and states as outputs."""

    def forward(self, x, last):
        y = nn.functional.dropout(super().forward(x), 0.5, self.training)
        return torch.where(y.sum() > 0, y, -y) + last, y


def test_what_the_refusals_advise():
    module = modules.randomized(Obedient())
    conversion = lstm_toolkit.convert(module, input_signature={"last": floats(2, 7, 5), "x": floats(2, 7, 3)})

    def wanted(call):
        x, last = floats(2, 7, 3, seed=call), floats(2, 7, 5, seed=call + 10)
        first, second = modules.expected(module, x, last)
        return {"x": x, "last": last}, {"output_0": first, "output_1": second}

    check(conversion, wanted)
    assert conversion.report.ops[FUSED] == 1
    explicit = lstm_toolkit.convert(modules.Twice(), input_signature=floats(2, 7, 5).numpy(), state="explicit")
    assert set(explicit.runner().input_shapes) == {"x", "shared_h", "shared_c", "shared_call1_h", "shared_call1_c"}


def test_what_a_packed_sequence_becomes():
    module = modules.randomized(modules.Packed())
    x, (alone,) = floats(2, 7, 3), [nn.Sequential(module.packed)]
    packed = modules.expected(module, x)
    for row, steps in enumerate((7, 4)):
        example = x[row : row + 1, :steps]
        given = lstm_toolkit.convert(alone, input_signature=example).runner().outputs(input=example.numpy())
        np.testing.assert_allclose(given["output_0"], packed[row : row + 1, :steps].numpy(), atol=TOLERANCE)


def test_an_int8_gru_in_plain_ops():
    module = modules.randomized(modules.Layers(nn.GRU, batch_first=True))
    samples = [[floats(1, 7, 3, seed=seed).numpy()] for seed in range(20)]
    conversion = lstm_toolkit.convert(
        module,
        input_signature=floats(1, 7, 3),
        quantization="int8",
        representative_dataset=samples,
    )
    given = conversion.runner().outputs(x=samples[0][0])
    wanted, _ = modules.expected(module, torch.from_numpy(samples[0][0]))
    # 8 bits of the weights and 16 of the state: about 2 percent.
    np.testing.assert_allclose(given["output_0"], wanted.numpy(), atol=0.05)


def test_an_int8_lstm():
    module = modules.randomized(modules.Attended())
    samples = [[floats(1, 7, 3, seed=seed).numpy()] for seed in range(20)]
    conversion = lstm_toolkit.convert(
        module, input_signature=floats(1, 7, 3), quantization="int8", representative_dataset=samples
    )
    assert conversion.report.ops[FUSED] == 1
    given = conversion.runner().outputs(signal=samples[0][0])
    wanted = modules.expected(module, torch.from_numpy(samples[0][0]))
    np.testing.assert_allclose(given["logits"], wanted["logits"].numpy(), atol=0.15)


class Generated(nn.Module):
    """Weights that are made of an input."""

    def forward(self, x, scale):
        weights = [torch.ones(20, 3) * scale, torch.ones(20, 5), torch.ones(20), torch.ones(20)]
        zeros = torch.zeros(1, len(x), 5)
        return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, False, False, True)[0]


def test_weights_that_are_computed():
    with pytest.raises(ConversionError, match="layer 'lstm': its weight_ih is not a constant"):
        lstm_toolkit.convert(Generated(), input_signature=(floats(2, 7, 3), floats(1)))
    module = modules.randomized(modules.Wrapped())
    nn.utils.parametrizations.weight_norm(module.recurrent, "weight_hh_l0")
    assert lstm_toolkit.convert(module, input_signature=floats(2, 7, 3)).report.ops[FUSED] == 1


def test_an_exported_program(tmp_path):
    module = modules.randomized(modules.Attended()).eval()
    torch.export.save(torch.export.export(module, (floats(2, 7, 3),)), tmp_path / "program.pt2")
    with pytest.raises(ConversionError, match=r"is a file of PyTorch.*torch\.export\.load\(path\)\.module\(\)"):
        lstm_toolkit.convert(tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    conversion = lstm_toolkit.convert(loaded, input_signature=floats(2, 7, 3))
    assert conversion.report.ops[FUSED] == 1
    assert [each.name for each in conversion.report.layers] == ["lstm"]

    def wanted(call):
        x = floats(2, 7, 3, seed=call)
        return {"signal": x}, modules.expected(module, x)

    check(conversion, wanted)


def test_without_litert_torch(monkeypatch):
    from lstm_toolkit.sources import torch_modules

    monkeypatch.setattr(torch_modules, "is_installed", lambda: False)
    with pytest.raises(ConversionError, match=r'which is not installed; pip install "lstm_toolkit\[torch\]"'):
        lstm_toolkit.convert(modules.Wrapped(), input_signature=floats(2, 7, 3))


def test_a_process_that_ends(monkeypatch):
    from lstm_toolkit.runtime.worker import WorkerProcess
    from lstm_toolkit.stock import torch_worker

    monkeypatch.setattr(torch_worker, "_worker", None)
    monkeypatch.setattr(torch_worker, "_started", lambda: WorkerProcess([sys.executable, "-c", "raise SystemExit(3)"]))
    with pytest.raises(ConversionError, match="litert-torch ended its own process: exit code 3; find the module"):
        lstm_toolkit.convert(modules.Wrapped(), input_signature=floats(2, 7, 3))


def test_neither_tensorflow_nor_jax_is_loaded():
    program = (
        "import sys, torch, lstm_toolkit; "
        "lstm_toolkit.convert(torch.nn.Sequential(torch.nn.GRU(3, 5)), input_signature=torch.zeros(7, 1, 3)); "
        "print({'tensorflow', 'keras', 'jax', 'litert_torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "set()"), done.stderr
    assert not [line for line in done.stderr.splitlines() if "Warning" in line]
