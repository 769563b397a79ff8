"""What was asked for is there, or it is an error that says what is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError
from dpf.training.compute import device
from dpf.training.compute.device import Compute, PassMemory, memory_errors, resolve_compute

CPU = Compute(torch.device("cpu"), "fp32", torch.float32, 1000)


@pytest.fixture(autouse=True)
def _as_it_was():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    cudnn = torch.backends.cudnn.deterministic
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.backends.cudnn.deterministic = cudnn
    if workspace is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_the_cpu_where_there_is_no_gpu(without_gpu):
    compute = resolve_compute(ComputeSettings(threads=1))
    assert compute.device == torch.device("cpu")
    assert compute.precision in ("fp32", "bf16")
    assert compute.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[compute.precision]
    assert compute.describe().startswith(f"cpu, 1 thread, {compute.precision}")


@pytest.mark.parametrize(
    ("gpus", "mps", "expected"), [(2, False, "cuda:0"), (0, True, "mps"), (1, True, "cuda:0"), (0, False, "cpu")]
)
def test_auto_takes_the_best_there_is(monkeypatch, gpus, mps, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert str(resolve_compute(ComputeSettings(precision="fp32")).device) == expected


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps", "cpu:1"])
def test_a_device_that_is_not_there_is_an_error_never_a_fallback(without_gpu, name):
    with pytest.raises(DeviceError) as caught:
        resolve_compute(ComputeSettings(device=name))
    assert caught.value.what == f"there is no device '{name}' here"
    assert caught.value.found == "available: cpu"
    assert caught.value.expected == "auto, cpu, cuda, cuda:N or mps"


@pytest.mark.parametrize("name", ["gpu", "", "tpu:0", "CPU"])
def test_a_name_that_is_no_device_is_an_error(name):
    with pytest.raises(DeviceError, match=f"'{name}' is not a device"):
        resolve_compute(ComputeSettings(device=name))


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_on_gpus_that_are_fast_at_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolve_compute(ComputeSettings(device="cuda")).precision == precision


@pytest.mark.parametrize(
    ("flags", "precision"), [("fpu avx512_bf16", "bf16"), ("fpu amx_bf16", "bf16"), ("fpu avx2 avx512f", "fp32")]
)
def test_auto_is_bf16_on_cpus_that_are_fast_at_it(monkeypatch, flags, precision):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags : {flags}")
    assert resolve_compute(ComputeSettings(device="cpu")).precision == precision


def test_auto_is_fp32_where_the_cpu_does_not_tell(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert resolve_compute(ComputeSettings(device="cpu")).precision == "fp32"


def test_tf32_is_for_gpus_from_ampere_on(monkeypatch):
    with pytest.raises(DeviceError, match=r"tf32 exists on NVIDIA GPUs[\s\S]*found: cpu[\s\S]*--precision fp32"):
        resolve_compute(ComputeSettings(device="cpu", precision="tf32"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(DeviceError, match="tf32"):
        resolve_compute(ComputeSettings(device="cuda", precision="tf32"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    compute = resolve_compute(ComputeSettings(device="cuda", precision="tf32"))
    assert (compute.precision, compute.dtype) == ("tf32", torch.float32)
    assert torch.get_float32_matmul_precision() == "high"
    resolve_compute(ComputeSettings(device="cpu", precision="fp32"))
    assert torch.get_float32_matmul_precision() == "highest"


def test_fp16_is_for_gpus(monkeypatch):
    with pytest.raises(DeviceError, match=r"fp16 is offered on NVIDIA GPUs only[\s\S]*found: cpu[\s\S]*bf16 or fp32"):
        resolve_compute(ComputeSettings(device="cpu", precision="fp16"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    compute = resolve_compute(ComputeSettings(device="cuda", precision="fp16"))
    assert (compute.precision, compute.dtype) == ("fp16", torch.float16)


def test_bf16_is_not_offered_on_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(DeviceError, match="bf16 is not offered on mps"):
        resolve_compute(ComputeSettings(device="mps", precision="bf16"))


def test_threads_are_those_asked_for_or_those_this_process_may_use(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    resolve_compute(ComputeSettings(device="cpu", threads=1))
    assert torch.get_num_threads() == 1
    if hasattr(os, "sched_getaffinity"):
        resolve_compute(ComputeSettings(device="cpu"))
        assert torch.get_num_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("tokens", "genes", "wells"), [(1000, 10, 100), (1000, 333, 3), (1000, 2541, 1), (1000, 0, 1000)]
)
def test_a_pass_holds_as_many_wells_as_fit_and_at_least_one(tokens, genes, wells):
    assert resolve_compute(ComputeSettings(device="cpu", tokens_at_once=tokens)).wells_at_once(genes) == wells


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_running_out_of_memory_says_what_would_fit(error):
    with pytest.raises(DeviceError) as caught, memory_errors(CPU, 10):
        raise error
    assert caught.value.what == "cpu ran out of memory"
    assert caught.value.found == "100 wells x 10 genes in one pass"
    assert caught.value.hint == "the same result in less memory, 25 wells in a pass: --set compute.tokens_at_once=250"
    assert caught.value.__cause__ is error


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "wells", "fit", "proposed"),
    [
        (9, 32, 17, 16),  # (0.9 x (9 + 1) - 0.5) / 0.5 = 17
        (4, 32, 8, 8),
        (0.2, 32, 1, 1),
        (0, 32, 0, 1),
        (100, 32, 180, 16),  # it should have fitted: memory in pieces, or another program's for a while
    ],
)
def test_on_a_gpu_what_would_fit_is_computed_from_what_was_measured(monkeypatch, free, wells, fit, proposed):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free * GIB), 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: GIB)
    gpu = Compute(torch.device("cuda:0"), "bf16", torch.bfloat16, 1 << 20)
    measured = PassMemory(GIB / 2, GIB / 2)
    with pytest.raises(DeviceError) as caught, memory_errors(gpu, 2541, wells, measured):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert caught.value.what == "cuda:0 ran out of memory"
    assert caught.value.found.startswith("32 wells x 2,541 genes in one pass at 512 MiB a well; ")
    assert f"{free + 1:.1f} GiB are there for dpf, enough for {fit} well" in caught.value.found
    assert caught.value.hint.endswith(f"--set compute.tokens_at_once={proposed * 2541}")


def test_running_out_of_memory_on_one_well_does_not_send_in_circles():
    text = r"1 well x 20,000 genes[\s\S]*one well is the least there is"
    with pytest.raises(DeviceError, match=text), memory_errors(CPU, 20_000):
        raise MemoryError


def test_a_real_failure_to_allocate_is_caught():
    with pytest.raises(DeviceError, match="cpu ran out of memory"), memory_errors(CPU, 10):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes differ"), memory_errors(CPU, 10):
        raise RuntimeError("shapes differ")


def test_what_is_available_is_named():
    assert device._available()[0] == "cpu"


@pytest.mark.parametrize("on", [True, False])
def test_determinism_is_set_as_asked(monkeypatch, on):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    resolve_compute(ComputeSettings(device="cpu", deterministic=on))
    assert torch.are_deterministic_algorithms_enabled() == on
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ  # there is no cuBLAS here
    assert not torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    resolve_compute(ComputeSettings(device="cuda", deterministic=on))
    assert torch.backends.cudnn.deterministic == on
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if on else None)


def test_an_operation_without_a_deterministic_form_is_named():
    resolve_compute(ComputeSettings(device="cpu", deterministic=True))
    with pytest.raises(DeviceError) as caught, memory_errors(CPU, 10):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    assert caught.value.what == "the computation has no deterministic form on cpu"
    assert caught.value.found == "put_ does not have a deterministic implementation"
    assert caught.value.hint.startswith("--no-deterministic")
    assert isinstance(caught.value.__cause__, RuntimeError)
    resolve_compute(ComputeSettings(device="cpu", deterministic=False))
    with memory_errors(CPU, 10):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))


def test_a_workspace_of_the_users_that_is_not_deterministic_is_named(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    text = (  # PyTorch's own words
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
        "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
        "CuBLAS and you have CUDA >= 10.2. To enable deterministic behavior in this case, you must set an environment "
        "variable before running your PyTorch application: CUBLAS_WORKSPACE_CONFIG=:4096:8 or "
        "CUBLAS_WORKSPACE_CONFIG=:16:8."
    )
    with pytest.raises(DeviceError) as caught, memory_errors(CPU, 10):
        raise RuntimeError(text)
    assert caught.value.found == ":0:0"
    assert caught.value.hint == "unset CUBLAS_WORKSPACE_CONFIG, or use --no-deterministic"


def refused(name):
    with pytest.raises(DeviceError) as caught:
        resolve_compute(ComputeSettings(device=name))
    assert caught.value.exit_code == 6
    return caught.value


def test_without_cuda_it_is_said_how_to_get_it(without_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert refused("cuda").hint == (
        f"this PyTorch ({torch.__version__}) is built without CUDA: install one with it "
        "(https://pytorch.org/get-started/locally), or use --device cpu"
    )
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    expected = "PyTorch sees no GPU: does nvidia-smi, and has the job been given one? Or use --device cpu"
    assert refused("cuda:0").hint == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "given one; CUDA_VISIBLE_DEVICES is ''?" in refused("cuda").hint
    assert refused("mps").hint == "mps is there on Macs with Apple silicon only; use --device auto or cpu"
    assert refused("cpu:1").hint == refused("gpu").hint == "choose one of those with --device"


def test_a_gpu_too_many_names_those_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    error = refused("cuda:2")
    assert (error.what, error.found) == ("there is no device 'cuda:2' here", "available: cpu, cuda:0, cuda:1")
    assert error.hint == "choose one of those with --device"


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "tf32"])
def test_a_gpu_that_does_not_start_is_an_error_of_the_device(monkeypatch, precision):
    def fail(_):
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    with pytest.raises(DeviceError) as caught:
        resolve_compute(ComputeSettings(device="cuda", precision=precision))
    assert caught.value.what == "cuda:0 is there but cannot be used"
    assert caught.value.found == "The NVIDIA driver on your system is too old (found version 11040)."
    assert "update the driver" in caught.value.hint


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (12, 0)])
@pytest.mark.parametrize("asked", ["auto", "fp32", "tf32", "bf16"])
def test_what_a_gpu_computes_in(monkeypatch, asked, capability):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    settings = ComputeSettings(device="cuda", precision=asked)
    if asked == "tf32" and capability < (8, 0):
        with pytest.raises(DeviceError, match="from Ampere on only"):
            resolve_compute(settings)
        return
    compute = resolve_compute(settings)
    expected = asked if asked != "auto" else "bf16" if capability >= (8, 0) else "fp32"
    assert compute.precision == expected
    assert compute.dtype == (torch.bfloat16 if expected == "bf16" else torch.float32)
    assert torch.get_float32_matmul_precision() == ("high" if expected == "tf32" else "highest")
    assert compute.describe().startswith(f"NVIDIA H200, {expected}")
    assert compute.attention_kernel == "torch"
