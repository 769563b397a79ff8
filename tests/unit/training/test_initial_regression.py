"""A network with a start is a regression of each target before it is trained, and is kept so unless training helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpf.config.settings import ComputeSettings, ModelSettings, TrainSettings
from dpf.model.checkpoint import ControlWells, TrainedModel, load_model, save_model
from dpf.model.initial_regression import InitialRegression, RegressionShape
from dpf.model.losses import TargetBatch, part_weights, well_losses
from dpf.model.losses import loss_sums as sums_of
from dpf.model.network import PerturbFormer, TargetLayout, build_network, empty_network
from dpf.regression.stacking import stack
from dpf.training import initial_regression
from dpf.training.compute.device import resolve_compute
from dpf.training.data import MemberData
from dpf.training.initial_regression import fit_initial_regression
from dpf.training.member import MemberTraining
from dpf.workflows.predict.outputs import activation_axes

WELLS, GENES = 80, 25
LAYOUT = TargetLayout(("a", "b"), "label", "act")
SETTINGS = ModelSettings(width=8, heads=2, layers=1, feed_forward=16, latent=6, start="stacked")
LEARNED = np.arange(60)
GROUPS = np.arange(WELLS) // 2


def screen() -> tuple[torch.Tensor, TargetBatch]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(WELLS, GENES, generator=generator)
    truth = torch.randn(GENES, 2, generator=generator)
    scores = x @ truth / 5 + 0.5 * torch.randn(WELLS, 2, generator=generator)
    scores[:, 1] += x[:, 0] * x[:, 1]
    return x, TargetBatch(scores, (scores[:, 0] > 0).float(), scores.sum(1))


def network_of(kind: str = "stacked") -> tuple[PerturbFormer, torch.Tensor, TargetBatch, torch.Tensor]:
    x, targets = screen()
    generator = torch.Generator().manual_seed(2)
    network = build_network(GENES, LAYOUT, replace(SETTINGS, start=kind), False, generator)
    start, parts = fit_initial_regression(network, x, targets, GROUPS, LEARNED, 5)
    assert len(parts) == 4
    return network, x, targets, start


@pytest.mark.parametrize("kind", ["ridge", "stacked"])
def test_before_training_the_network_predicts_what_the_regression_does(kind: str) -> None:
    network, x, targets, _ = network_of(kind)
    prediction = network.eval()(x)
    columns = torch.cat([targets.scores, 2 * targets.label[:, None] - 1, targets.activation[:, None]], 1)
    found = stack(
        x.double().numpy()[LEARNED], columns.double().numpy()[LEARNED], GROUPS[LEARNED], 5, only_ridge=kind == "ridge"
    )
    expected = torch.from_numpy(found(x.double().numpy())).float()
    torch.testing.assert_close(prediction.scores, expected[:, :2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prediction.activation, expected[:, 3], rtol=1e-4, atol=1e-4)
    assert prediction.label_logit is not None
    order = torch.argsort(expected[:, 2])
    assert (prediction.label_logit[order].diff() >= -1e-5).all()  # a probability of it, with the same order
    logit, label = prediction.label_logit[60:], targets.label[60:]  # of wells it was not fitted to
    assert logit[label == 1].mean() > 0 > logit[label == 0].mean()


def test_of_many_wells_it_is_fitted_to_some_and_is_out_of_fold_for_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(initial_regression, "MOST_WELLS", 40)
    _, x, targets, start = network_of("ridge")
    fitted = initial_regression._wells_to_fit(LEARNED, GROUPS, 5)
    assert len(fitted) == 40
    assert not set(GROUPS[fitted]) & set(GROUPS[np.setdiff1d(LEARNED, fitted)])  # whole groups
    columns = torch.cat([targets.scores, 2 * targets.label[:, None] - 1, targets.activation[:, None]], 1)
    found = stack(x.double().numpy()[fitted], columns.double().numpy()[fitted], GROUPS[fitted], 5, only_ridge=True)
    others = np.setdiff1d(np.arange(WELLS), fitted)
    torch.testing.assert_close(start[fitted, :4], torch.from_numpy(found.out_of_fold).float())
    torch.testing.assert_close(start[others, :4], torch.from_numpy(found(x.double().numpy()[others])).float())


def test_dimensions_that_never_move_are_no_part_of_the_activation_axis() -> None:
    network, x, *_ = network_of()
    nobody = ControlWells([], [], [], [[]], [torch.empty(0, 6)])
    axes, name = activation_axes(TrainedModel([network], [f"g{i}" for i in range(GENES)], LAYOUT, nobody, {}))
    assert name == "act"
    np.testing.assert_array_equal(axes, [[0, 0, 0, 1, 0, 0]])
    other, *_ = network_of()
    with torch.no_grad():
        other.activation.weight[:, other.moving] = 0.0  # type: ignore[union-attr]
    both = TrainedModel([network, other], [f"g{i}" for i in range(GENES)], LAYOUT, nobody, {})
    assert activation_axes(both) == (None, "act")  # a member without direction: there is none to compare
    torch.testing.assert_close(network.eval()(x).latent[:, ~network.moving], torch.zeros(WELLS, 2), rtol=0, atol=0)
    with torch.no_grad():
        network.latent_out.weight[5, 0] = 0.1
    assert network.moving.tolist() == [True, True, True, True, False, True]


def test_the_start_is_differentiable_in_the_expression() -> None:
    network, x, _, _ = network_of()
    start = network.start
    assert start is not None
    assert len(start.components)  # kernels are in it
    double = InitialRegression(RegressionShape.of(network.state_dict()) or RegressionShape(0, 0)).double()  # type: ignore[arg-type]
    double.load_state_dict(start.double().state_dict())
    point = x[:3].double().requires_grad_()
    assert torch.autograd.gradcheck(double, point)


def test_while_training_a_learned_well_has_the_value_of_a_fit_without_its_compound() -> None:
    network, x, _, start = network_of()
    assert network.start is not None
    fitted = network.in_latent(network.start(x))
    new = torch.arange(60, WELLS)
    torch.testing.assert_close(start[new], fitted[new])
    assert (start[:60, 0] - fitted[:60, 0]).abs().mean() > 0.01
    given = network.eval()(x, start=start)
    torch.testing.assert_close(given.latent, start)


def test_the_transformer_learns_and_the_start_stays() -> None:
    network, x, _, _ = network_of()
    network(x).scores.square().sum().backward()
    assert network.start is not None
    assert not list(network.start.parameters())
    assert network.latent_out.weight.grad is not None
    assert network.latent_out.weight.grad.abs().sum() > 0


def test_a_model_file_brings_its_start_back(tmp_path) -> None:
    network, x, _, _ = network_of()
    about = {"settings": {"model": SETTINGS.__dict__, "train": {"zscore": False}}}
    known = ControlWells([], [], [], [[]], [torch.empty(0, 6)])
    genes = [f"g{i}" for i in range(GENES)]
    save_model(tmp_path / "model.safetensors", TrainedModel([network], genes, LAYOUT, known, about))
    again = load_model(tmp_path / "model.safetensors").members[0]
    torch.testing.assert_close(again(x).latent, network.eval()(x).latent, rtol=0, atol=0)


def test_a_model_of_before_the_start_was_called_so(tmp_path) -> None:
    """Its ridge was a matrix named `linear`, its setting `linear_path`."""
    settings = {key: value for key, value in SETTINGS.__dict__.items() if key != "start"} | {"linear_path": True}
    network = empty_network(GENES, LAYOUT, SETTINGS, False)
    generator = torch.Generator().manual_seed(3)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    network.register_module("linear", torch.nn.Linear(GENES, 6, bias=False))
    path = tmp_path / "model.safetensors"
    about = {"settings": {"model": settings, "train": {"zscore": False}}}
    known = ControlWells([], [], [], [[]], [torch.empty(0, 6)])
    save_model(path, TrainedModel([network], [f"g{i}" for i in range(GENES)], LAYOUT, known, about))
    x, _ = screen()
    again = load_model(path).members[0]
    expected = network.eval()(x).latent + x @ network.linear.weight.T
    torch.testing.assert_close(again(x).latent, expected)


def test_what_each_well_adds_sums_to_the_total() -> None:
    network, x, targets, _ = network_of()
    targets = TargetBatch(targets.scores.clone(), targets.label.clone(), targets.activation.clone())
    targets.scores[::3, 0] = torch.nan
    targets.label[::4] = torch.nan
    weights = part_weights(0.2, torch.device("cpu"))
    prediction = network.eval()(x)
    losses = well_losses(prediction, targets, weights)
    assert losses.shape == (WELLS,)
    total = (sums_of(prediction, targets).means() * weights).sum()
    torch.testing.assert_close(losses.sum(), total)


def test_a_gene_that_is_silent_in_training_is_silent_to_the_model() -> None:
    """It is heard in a validation well that the start learns from too: nothing may come of its infinite z-score."""
    x, targets = screen()
    x[:, 0] = 0.0
    x[55, 0] = 5.0
    networks = []
    for heard in (x, torch.where(x == 5.0, 0.0, x)):
        network = build_network(GENES, LAYOUT, SETTINGS, True, torch.Generator().manual_seed(2))
        network.gene_mean.copy_(heard[:50].mean(0))
        network.gene_std.copy_(heard[:50].std(0, correction=0))
        scaled = network.scale(heard)
        assert scaled.abs().max() < 100
        fit_initial_regression(network, scaled, targets, GROUPS, LEARNED, 5)
        networks.append(network.eval())
    first, second = (network.predict(x).scores for network in networks)
    torch.testing.assert_close(first, second)


def test_the_module_says_what_the_float64_regression_does() -> None:
    """Smooth targets of few components, where kernels weigh most."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        programs = rng.standard_normal((120, 3))
        x = torch.from_numpy(programs @ rng.standard_normal((3, 40)) + 0.1 * rng.standard_normal((120, 40))).float()
        y = np.sin(programs[:, :1]) + programs[:, 1:2] ** 2 + 0.05 * rng.standard_normal((120, 1))
        found = stack(x.double().numpy(), y, np.arange(120), 1)
        values = InitialRegression.from_stacked(found)(x).double().numpy()
        np.testing.assert_allclose(values, found(x.double().numpy()), atol=2e-3 * y.std())


def member(learning_rate: float, kind: str = "stacked") -> MemberTraining:
    network, x, targets, start = network_of(kind)
    data = MemberData(x, targets, torch.arange(50), torch.arange(50, 60), start, torch.from_numpy(GROUPS))
    compute = resolve_compute(ComputeSettings(device="cpu", precision="fp32", attention_kernel="torch"))
    return MemberTraining(network, data, TrainSettings(epochs=4, learning_rate=learning_rate), compute, (1, 0))


def test_epoch_zero_is_the_start_alone() -> None:
    training = member(1e-3)
    record = training.evaluate_initial_regression()
    assert record.epoch == training.best_epoch == 0
    targets = training.data.targets.rows(training.data.validation)
    prediction = training.network.eval()(
        training.data.expression[training.data.validation], start=training.data.initial_of(training.data.validation)
    )
    total = (sums_of(prediction, targets).means() * training.weights).sum().item()
    assert record.validation_total == pytest.approx(total, rel=1e-5)


def test_an_epoch_that_does_not_help_does_not_replace_the_start() -> None:
    training = member(0.3)  # so high a rate that it only harms
    start = training.evaluate_initial_regression()
    begun = {name: value.clone() for name, value in training.best.items()}
    for _ in range(4):
        record = training.run_epoch()
        assert not record.is_best or record.validation_total < start.validation_total
    assert training.best_epoch == 0
    assert all(torch.equal(begun[name], value) for name, value in training.best.items())


def test_an_epoch_replaces_the_start_only_beyond_its_standard_error() -> None:
    training = member(1e-3)
    training.evaluate_initial_regression()
    wells = training.data.validation
    targets = training.data.targets.rows(wells)
    assert training.data.initial is not None
    with torch.no_grad():
        outputs = training.network.read(training.data.initial[wells])

    def beats(moved: torch.Tensor) -> bool:
        return training._beats_initial_regression(
            outputs._replace(scores=outputs.scores + moved * (targets.scores - outputs.scores))
        )

    everywhere = torch.full((10, 1), 0.5)
    one_compound = torch.zeros(10, 1)
    one_compound[:2] = 0.5
    assert beats(everywhere)
    assert not beats(one_compound)  # lower in total, but one compound's luck
    assert not beats(-everywhere)
