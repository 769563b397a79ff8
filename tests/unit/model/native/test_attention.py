"""The native kernel is exact attention: against float64, against PyTorch's own kernels, at every odd size.

Tolerances. Float32: 3e-6 relative to the norm, the rounding of sums over 2,541 genes. bf16: a number has 8 bits, an
operation a relative error of up to 2^-9 = 0.2%; outputs and gradients of random inputs stay within 1%, and within 1.5
times the error that PyTorch's own bf16 kernel makes on the same inputs.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError
from dpf.model.dropout import Noise
from dpf.model.encoder import Encoder, reset_parameters, torch_attention
from dpf.model.native import build as native_build
from dpf.model.native.attention import WIDEST, NativeAttention
from dpf.model.native.build import CannotBuildError, load_library
from dpf.training.compute.device import Compute, resolve_compute

DTYPES = [torch.float32, torch.bfloat16]
#: (wells, genes, heads, width): one gene, fewer than a vector, blocks that do not come out even, several wells.
SHAPES = [
    (1, 1, 4, 32),
    (3, 7, 2, 32),
    (2, 48, 1, 16),
    (2, 97, 3, 64),
    (1, 300, 4, 32),
    (2, 301, 1, 20),
    (1, 145, 2, 1),
    (1, 193, 1, 128),
]


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def native(dtype):
    """The kernel, or a skip that says why not."""
    try:
        return NativeAttention(dtype)
    except CannotBuildError as error:
        pytest.skip(f"no native attention kernel: {error}")


def inputs(shape, dtype, scale=1.0, seed=0):
    """Queries, keys and values side by side, and a gradient of the output."""
    wells, genes, heads, width = shape
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(wells, genes, 3, heads, width, generator=generator)
    qkv[:, :, 0] *= scale
    return qkv.to(dtype), torch.randn(wells, genes, heads, width, generator=generator).to(dtype)


def run(attention, qkv, grad_out):
    """The output and the gradients of queries, keys and values."""
    qkv = qkv.clone().requires_grad_()
    out = attention(qkv)
    out.backward(grad_out)
    return out.detach(), *qkv.grad.unbind(2)


def explicit(qkv, grad_out):
    """Attention written out in float64."""

    def attention(x):
        q, k, v = x.permute(2, 0, 3, 1, 4)
        return ((q @ k.transpose(-1, -2) / math.sqrt(x.shape[4])).softmax(-1) @ v).transpose(1, 2)

    return run(attention, qkv.double(), grad_out.double())


def error(found, expected):
    """Norm of the difference over the norm, which for one gene's gradients is 0: then over 1."""
    norm = float(expected.norm())
    return float((found.double() - expected).norm()) / (norm if norm > 1e-9 else 1.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_and_gradients_are_those_of_attention_written_out(shape, dtype):
    kernel = native(dtype)
    qkv, grad_out = inputs(shape, dtype)
    limit = {torch.float32: 3e-6, torch.bfloat16: 0.01}[dtype]
    expected = explicit(qkv, grad_out)
    for name, ours, theirs, exact in zip(
        ("out", "q", "k", "v"),
        run(kernel, qkv, grad_out),
        run(torch_attention, qkv, grad_out),
        expected,
        strict=True,
    ):
        assert ours.dtype == dtype
        assert error(ours, exact) < limit, name
        if dtype == torch.bfloat16:
            assert error(ours, exact) < 1.5 * error(theirs, exact) + 1e-6, name


#: (wells, queries, keys, heads, width): few ask many, many ask few, one asks some, nothing that comes out even.
CROSSED = [(2, 48, 301, 2, 32), (2, 301, 48, 2, 32), (1, 1, 5, 1, 16), (3, 7, 2, 2, 20), (1, 97, 145, 3, 64)]


def crossed(shape, dtype, seed=0):
    """Queries; keys and values of others side by side; a gradient of the output."""
    wells, queries, keys, heads, width = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = (wells, queries, heads, width), (wells, keys, 2, heads, width), (wells, queries, heads, width)
    return [torch.randn(size, generator=generator).to(dtype) for size in sizes]


def run_crossed(cross, q, kv, grad_out):
    """The output and the gradients of queries, keys and values."""
    q, kv = q.clone().requires_grad_(), kv.clone().requires_grad_()
    out = cross(q, kv)
    out.backward(grad_out)
    return out.detach(), q.grad, *kv.grad.unbind(2)


def written_out(q, kv):
    """Attention of some over others, by its formula."""
    k, v = kv.permute(2, 0, 3, 1, 4)
    weights = (q.transpose(1, 2) @ k.transpose(-1, -2) / math.sqrt(q.shape[3])).softmax(-1)
    return (weights @ v).transpose(1, 2)


@pytest.mark.parametrize("shape", CROSSED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_over_others_is_the_same_formula(shape, dtype):
    kernel = native(dtype)
    q, kv, grad_out = crossed(shape, dtype)
    expected = run_crossed(written_out, q.double(), kv.double(), grad_out.double())
    limit = {torch.float32: 3e-6, torch.bfloat16: 0.01}[dtype]
    for cross in (kernel.cross, torch_attention.cross):
        found = run_crossed(cross, q, kv, grad_out)
        for name, ours, exact in zip(("out", "q", "k", "v"), found, expected, strict=True):
            assert ours.dtype == dtype
            assert error(ours, exact) < limit, name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_over_others_is_the_same_bit_for_bit_with_any_number_of_threads(dtype):
    kernel = native(dtype)
    inputs_ = crossed((3, 50, 211, 3, 32), dtype)
    torch.set_num_threads(1)
    first = run_crossed(kernel.cross, *inputs_)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(run_crossed(kernel.cross, *inputs_), first, strict=True))


def test_queries_that_all_wells_share_are_taken_as_they_are():
    kernel = native(torch.float32)
    q, kv, grad_out = crossed((3, 9, 40, 2, 32), torch.float32)
    shared = q[:1].clone().requires_grad_()
    kernel.cross(shared.expand_as(q), kv).backward(grad_out)
    expected = run_crossed(written_out, q[:1].expand_as(q), kv, grad_out)[1].sum(0, keepdim=True)
    torch.testing.assert_close(shared.grad, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_real_size_is_as_exact_as_pytorchs_kernel(dtype):
    kernel = native(dtype)
    qkv, grad_out = inputs((1, 2541, 1, 32), dtype)
    expected = explicit(qkv, grad_out)
    ours, theirs = run(kernel, qkv, grad_out), run(torch_attention, qkv, grad_out)
    for one, other, exact in zip(ours, theirs, expected, strict=True):
        if dtype == torch.bfloat16:
            assert error(one, exact) < 1.5 * error(other, exact)
        else:
            assert error(one, exact) < 3e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_log_sum_is_that_of_the_scores(dtype):
    kernel = native(dtype)
    qkv, _ = inputs((2, 203, 2, 32), dtype)
    _, log_sum = kernel.forward(*qkv.unbind(2))
    q, k, _ = qkv.double().permute(2, 0, 3, 1, 4)
    expected = (q @ k.transpose(-1, -2) / math.sqrt(32)).logsumexp(-1)
    torch.testing.assert_close(log_sum.double() * math.log(2), expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_scores_neither_overflow_nor_vanish(dtype):
    """Scores of ±80 and beyond: weights of 0 and 1, sums that a plain exponential would not hold."""
    kernel = native(dtype)
    qkv, grad_out = inputs((1, 300, 2, 32), dtype, scale=30.0)
    q, k, _ = qkv.double().permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(32)
    assert scores.max() > 80
    assert scores.min() < -80
    ours, theirs = run(kernel, qkv, grad_out), run(torch_attention, qkv, grad_out)
    for one, other, exact in zip(ours, theirs, explicit(qkv, grad_out), strict=True):
        assert torch.isfinite(one).all()
        assert error(one, exact) < 1.5 * error(other, exact) + 1e-6
    # All scores of a row the same and huge: the mean of the values.
    qkv[:, :, 0] = qkv[:, :, 1] = 30.0
    out = kernel(qkv)
    mean = qkv[:, :, 2].double().mean(1, keepdim=True)
    torch.testing.assert_close(out.double(), mean.expand_as(out), rtol=0.01, atol=0.003)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_not_hidden(dtype, value):
    kernel = native(dtype)
    qkv, _ = inputs((2, 60, 1, 32), dtype)
    qkv[1, 7, 0, 0, 3] = value
    out = kernel(qkv)
    assert out[1, 7].isnan().all()
    assert torch.isfinite(out[0]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bit_for_bit_the_same_again_with_any_number_of_threads_and_in_any_batch(dtype):
    kernel = native(dtype)
    qkv, grad_out = inputs((3, 211, 3, 32), dtype)
    torch.set_num_threads(1)
    first = run(kernel, qkv, grad_out)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(run(kernel, qkv, grad_out), first, strict=True))
    alone = run(kernel, qkv[1:2], grad_out[1:2])
    assert all(torch.equal(a, b[1:2]) for a, b in zip(alone, first, strict=True))


def test_several_calls_at_once_do_not_disturb_each_other():
    kernel = native(torch.float32)
    cases = [inputs((1, 120 + n, 2, 32), torch.float32, seed=n) for n in range(8)]
    expected = [run(kernel, *case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: run(kernel, *case), cases))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_gradient_that_does_not_lie_in_order_is_taken_as_it_is():
    kernel = native(torch.float32)
    qkv, grad_out = inputs((2, 50, 2, 32), torch.float32)
    turned = grad_out.transpose(0, 1).contiguous().transpose(0, 1)
    assert not turned.is_contiguous()
    assert torch.equal(run(kernel, qkv, turned)[1], run(kernel, qkv, grad_out)[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_encoder_is_the_same_with_either_kernel(dtype):
    kernel = native(dtype)
    encoder = Encoder(130, 64, 4, 2, 96)
    reset_parameters(encoder, torch.Generator().manual_seed(0))
    x = torch.randn(3, 130, generator=torch.Generator().manual_seed(1)).requires_grad_()
    results = []
    for attention in (torch_attention, kernel):
        encoder.zero_grad()
        x.grad = None
        out = encoder(x, dtype, Noise(0.1, (5,), torch.device("cpu")), attention)
        (out**2).sum().backward()
        results.append([out.detach(), x.grad, *(weight.grad.clone() for weight in encoder.parameters())])
    limit = {torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    norm = max(float(value.norm()) for value in results[0][2:])
    for theirs, ours in zip(*results, strict=True):
        scale = max(float(theirs.norm()), norm / 100)  # some gradients are 0 but for rounding: the keys' bias
        assert float((ours - theirs).norm()) < limit * scale


def test_heads_wider_than_the_kernel_are_refused():
    kernel = native(torch.float32)
    with pytest.raises(DeviceError, match=r"width / model.heads = 129[\s\S]*attention_kernel=torch"):
        kernel(torch.zeros(1, 3, 3, 1, WIDEST + 1))
    with pytest.raises(DeviceError, match="has no heads this wide"):
        kernel.cross(torch.zeros(1, 3, 1, WIDEST + 1), torch.zeros(1, 4, 2, 1, WIDEST + 1))


@pytest.mark.long
def test_it_is_compiled_once_into_the_users_cache(tmp_path, monkeypatch):
    native(torch.float32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "from dpf.model.native.build import load_library; load_library(bf16=False)"
    at_once = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in at_once] == [0, 0]
    (library,) = (tmp_path / "dpf").iterdir()
    before = library.stat().st_mtime_ns
    load_library(bf16=False)
    assert library.stat().st_mtime_ns == before


_LOADS = """
import sys
from pathlib import Path
from dpf.model.native import build
build._FOLDER = Path(sys.argv[1])
library = build.load_library(bf16=False, log=lambda text: print(text, file=sys.stderr))
print(library.dpf_attention_forward())
"""


class Cached(NamedTuple):
    """The library of a small C++ source with the kernel's functions, in a cache of its own."""

    sources: Path
    path: Path

    def load(self):
        """What the library answers to a process that has never loaded it, and the line that it was compiled with."""
        done = subprocess.run([sys.executable, "-c", _LOADS, str(self.sources)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout), done.stderr


def functions(answer):
    """A C++ source."""
    names = ("dpf_attention_forward", "dpf_attention_backward")
    return "".join(f'extern "C" int {name}() {{ return {answer}; }}\n' for name in names)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    native(torch.float32)
    (tmp_path / "attention.cpp").write_text(functions(7))
    (tmp_path / "attention_panel.h").write_text("")
    monkeypatch.setattr(native_build, "_FOLDER", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answer, line = Cached(tmp_path, tmp_path).load()
    (path,) = (tmp_path / "cache/dpf").iterdir()
    assert answer == 7
    assert re.match(rf"compiling the native attention kernel with \S+ into {path}, once for this machine", line)
    return Cached(tmp_path, path)


def test_the_first_compilation_is_announced_and_the_library_nobody_elses(cached):
    assert cached.load() == (7, "")
    assert cached.path.stat().st_mode & 0o777 == 0o600
    assert cached.path.parent.stat().st_mode & 0o777 == 0o700


def planted(path):
    """A library that loads, and does something else."""
    code = 'extern "C" { int dpf_attention_forward() { return 13; } int dpf_attention_backward() { return 13; } }\n'
    source = path.parent.parent / "planted.cpp"
    source.write_text(code)
    subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)


SPOILT = {
    "another in its place": planted,
    "cut to a page": lambda path: os.truncate(path, 4096),
    "empty": lambda path: os.truncate(path, 0),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:999] + b"\xff" + path.read_bytes()[1000:]),
    "others may write": lambda path: path.chmod(0o622),
    "a link": lambda path: path.symlink_to(path.rename(path.parent.parent / "elsewhere.so")),
    "a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_whatever_is_not_the_library_that_was_written_is_compiled_anew(cached, spoil):
    spoil(cached.path)
    answer, line = cached.load()
    assert answer == 7
    assert line.startswith("compiling")
    assert cached.load() == (7, "")


def test_a_library_or_a_folder_of_another_user_is_not_used(cached, monkeypatch):
    folder = cached.path.parent
    folder.chmod(0o777)
    assert cached.load() == (7, "")
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(native_build.os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(CannotBuildError, match="is another user's: set XDG_CACHE_HOME"):
        load_library(bf16=False)
    monkeypatch.setattr(native_build, "_private_folder", lambda: folder)
    with pytest.raises(CannotBuildError, match="has not the content that was compiled into it"):
        load_library(bf16=False)


def test_a_library_without_the_functions_is_no_kernel(cached):
    (cached.sources / "attention.cpp").write_text("int something() { return 1; }\n")
    with pytest.raises(CannotBuildError, match="has not the functions of the kernel"):
        load_library(bf16=False)


def test_a_cache_folder_that_is_relative_is_ignored(cached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_library(bf16=False)
    assert list((tmp_path / "home/.cache/dpf").iterdir())
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("hangs", ["sleep 60", "case $1 in --version) echo 1;; *) sleep 60;; esac"])
def test_a_compiler_that_hangs_is_stopped_with_what_it_started(tmp_path, monkeypatch, hangs):
    native(torch.float32)
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\n{hangs}\n")
    script.chmod(0o700)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(native_build, "_SECONDS", 0.3)
    began = time.monotonic()
    assert refused(precision="fp32") == f"{script} has not ended within 0.3 s"
    assert time.monotonic() - began < 20
    script.write_text("no program")
    assert refused(precision="fp32") == f"{script} cannot be run: Exec format error"


def refused(**compute):
    with pytest.raises(DeviceError, match="the native attention kernel cannot run here") as caught:
        resolve_compute(ComputeSettings(device="cpu", attention_kernel="native", threads=1, **compute))
    return caught.value.found


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(native_build, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert "this CPU has no avx512bw, avx512dq, avx512vl" in refused(precision="fp32")
    monkeypatch.setattr(native_build, "cpu_flags", lambda: frozenset(native_build._NEEDED))
    assert refused(precision="bf16") == "this CPU has no avx512_bf16"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert refused(precision="fp32") == "there is no C++ compiler (CXX is no-such-compiler)"
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "false cannot compile it" in refused(precision="fp32")
    assert not list((tmp_path / "dpf").iterdir())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "there is no folder for it" in refused(precision="fp32")
    monkeypatch.setattr(native_build.sys, "platform", "win32")
    assert refused(precision="fp32") == "it is for Linux on x86-64 only"


def test_auto_falls_back_and_says_why(monkeypatch):
    monkeypatch.setattr(native_build, "cpu_flags", lambda: frozenset({"avx2"}))
    compute = resolve_compute(ComputeSettings(device="cpu", precision="fp32", threads=1))
    assert compute.attention is torch_attention
    assert compute.describe().startswith("cpu, 1 thread, fp32, torch attention (no native kernel: this CPU has no avx5")
    asked = resolve_compute(ComputeSettings(device="cpu", precision="fp32", threads=1, attention_kernel="torch"))
    assert asked.describe() == "cpu, 1 thread, fp32, torch attention"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_auto_takes_it_where_it_runs(precision, dtype):
    native(dtype)
    compute = resolve_compute(ComputeSettings(device="cpu", precision=precision, threads=1))
    assert compute.attention_kernel == "native"
    assert compute.describe() == f"cpu, 1 thread, {precision}, native attention"


def test_it_is_not_for_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with pytest.raises(DeviceError, match="it is for CPUs, not cuda"):
        resolve_compute(ComputeSettings(device="cuda", attention_kernel="native"))
    assert resolve_compute(ComputeSettings(device="cuda")).attention_kernel == "torch"


def test_a_compute_made_by_hand_takes_pytorchs():
    assert Compute(torch.device("cpu"), "fp32", torch.float32, 1000).attention_kernel == "torch"
