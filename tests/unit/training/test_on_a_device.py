"""What training, prediction and attribution promise on a device, asked of each that is here; of a GPU, more.

The encoder itself is held against PyTorch's on every device in `test_encoder`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpf.analysis.attribution import gradient_times_input
from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError
from dpf.model.losses import TargetBatch
from dpf.training.compute.determinism import set_determinism
from dpf.training.compute.device import resolve_compute
from dpf.training.data import MemberData
from dpf.training.inference import predict_wells
from dpf.training.pretraining import pretrain
from dpf.training.probe import probe
from tests.support import tiny

CPU = torch.device("cpu")


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """The CPU, and a GPU where there is one."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield torch.device("cuda:0" if request.param == "cuda" else "cpu")
    set_determinism(False, CPU)


@pytest.fixture
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield torch.device("cuda:0")
    set_determinism(False, CPU)


def compute_on(device, precision="fp32", **changes):
    return resolve_compute(
        ComputeSettings(device=str(device), precision=precision, attention_kernel="torch", **changes)
    )


def data_on(device):
    data = tiny.member_data()
    targets = TargetBatch(*(part.to(device) for part in data.targets))
    return MemberData(data.expression.to(device), targets, data.train.to(device), data.validation.to(device))


def training_on(device, precision="fp32", dropout=0.1, wells_at_once=100, **settings):
    model = tiny.ModelSettings(**{**vars(tiny.MODEL), "dropout": dropout})
    compute = compute_on(device, precision, tokens_at_once=wells_at_once * tiny.GENES)
    return tiny.training(compute=compute, data=data_on(device), model=model, **settings)


def losses(training, epochs=4):
    return [training.run_epoch().train_total for _ in range(epochs)]


def test_without_dropout_the_losses_are_the_cpus_however_a_batch_is_cut(device):
    cut = losses(training_on(device, dropout=0.0, wells_at_once=3))
    np.testing.assert_allclose(cut, losses(training_on(CPU, dropout=0.0)), rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits(device, precision):
    weights = []
    for _ in range(2):
        training = training_on(device, precision)
        losses(training)
        weights.append(tiny.digest(training.network.state_dict()))
    assert weights[0] == weights[1]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(gpu, precision):
    total = losses(training_on(gpu, precision, epochs=30), 30)
    assert total[-1] < 0.8 * total[0]


def test_prediction_does_not_depend_on_the_pass(device):
    network, x = tiny.network(), tiny.expression()
    whole = predict_wells(network, x, compute_on(device))
    cut = predict_wells(network, x, compute_on(device, tokens_at_once=3 * tiny.GENES))
    here = predict_wells(network, x, compute_on(CPU))
    for part, other, expected in zip(whole, cut, here, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)


def test_attributions_are_the_cpus_however_the_wells_are_cut(device):
    x, mask = tiny.expression(), np.arange(tiny.WELLS) % 5 == 0
    found = [
        gradient_times_input(
            tiny.network(), x, mask, lambda p: p.activation, device=one, wells_at_once=wells
        ).importance
        for one, wells in ((device, 4), (CPU, tiny.WELLS))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_pretraining_lowers_the_error_of_hidden_genes(device):
    network, told = tiny.network().to(device), []
    x = (
        torch.from_numpy(np.repeat(np.random.default_rng(1).normal(size=(64, 1)), tiny.GENES, axis=1))
        .float()
        .to(device)
    )
    wells = torch.arange(64).to(device)
    pretrain(network, x, wells, 40, 16, compute_on(device), (1, 0), lambda _, loss: told.append(loss))
    assert told[-1] < 0.7 * told[0]


def test_a_gpus_memory_is_measured_before_a_pass_is_tried(gpu):
    training = training_on(gpu)
    estimate = probe(training)
    assert estimate.gib > 0
    assert training.memory is not None
    assert training.memory.per_well > 0


def test_a_gpu_is_not_waited_for_in_an_epochs_steps(gpu):
    training = training_on(gpu, "bf16")
    training._train(None)  # sets things up
    order = training.data.train.clone()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in enumerate(order.split(8)):
            training._step(batch, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_does_not_fit_into_a_gpu_says_what_would(gpu):
    wells = 200_000  # 45 MB of tokens, a few times over
    compute = compute_on(gpu, tokens_at_once=wells * tiny.GENES)
    torch.cuda.set_per_process_memory_fraction(2**26 / torch.cuda.mem_get_info(gpu)[1])
    try:
        with pytest.raises(DeviceError, match="ran out of memory") as caught:
            predict_wells(tiny.network(), np.zeros((wells, tiny.GENES), np.float32), compute)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "--set compute.tokens_at_once=" in caught.value.hint


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_on_a_gpu_the_losses_are_the_plain_ones(gpu):
    plain = training_on(gpu)
    data = data_on(gpu)
    compiled = tiny.training(
        compute=resolve_compute(ComputeSettings(device="cuda", precision="fp32", compile=True)), data=data
    )
    np.testing.assert_allclose(losses(compiled), losses(plain), rtol=1e-3)
