"""Tests run offline, on one thread and from fixed seeds; whatever they cache lies in a folder of this session."""

import functools
import gc
import os
import random
import shutil
import socket
import subprocess
import tempfile
from contextlib import nullcontext

from tests import ROOT

CACHE = tempfile.mkdtemp(prefix="mmprofile-tests-")
# Read when transformers and torch are imported, so set before any test file is.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HOME=f"{CACHE}/huggingface",
    HF_MODULES_CACHE=f"{CACHE}/modules",
    TRACKIO_DIR=f"{CACHE}/trackio",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",  # of subprocesses too, whose numbers are compared to the bit
)
for name in ("NO_PROXY", "no_proxy"):  # the tests' Hub
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))

# What is imported from here on stays: the garbage collector, which each run of a program calls, need not look there.
gc.disable()

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from huggingface_hub.utils import http_backoff  # noqa: E402

torch.set_num_threads(1)  # the models are too small to be shared out


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections beyond this machine fail at once."""
    connect = socket.socket.connect

    def connect_here(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests are offline, this one connects to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def hub(monkeypatch):
    """A Hub on loopback that this process talks to."""
    from tests.hub_server import HubServer

    with HubServer() as server:
        server.use_in_process(monkeypatch)
        yield server


@pytest.fixture
def no_client_retries(monkeypatch):
    """Those of a large file take 23 s."""
    monkeypatch.setattr("huggingface_hub.lfs.http_backoff", functools.partial(http_backoff, max_retries=0))


@pytest.fixture
def small_disk(tmp_path):
    """Runs a shell command in which the folder `$DISK` is a disk of so many bytes."""

    def run(size, command):
        mount = f'mkdir -p "$DISK" && mount -t tmpfs -o size={size} tmpfs "$DISK" && {command}'
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
        environment = os.environ | {"DISK": str(tmp_path / "disk"), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
        return subprocess.run(unshare, cwd=ROOT, env=environment, capture_output=True, text=True)

    if not shutil.which("unshare") or run(4096, "true").returncode:
        pytest.skip("no disk can be mounted here")
    return run


@pytest.fixture
def products(monkeypatch):
    """The shapes of what oneDNN multiplies, states and weight; it takes small products too."""
    from prediction import linear

    monkeypatch.setattr(linear.onednn_gains, "found", True)
    if isinstance(linear.fast_linears(torch.device("cpu")), nullcontext):
        pytest.skip("this CPU has no AVX-512")
    monkeypatch.setattr(linear, "MIN_PRODUCTS", 1)
    plain, seen = linear.onednn_linear, []

    def noted(states, weight, bias=None):
        seen.append((tuple(states.shape), tuple(weight.shape)))
        return plain(states, weight, bias)

    monkeypatch.setattr(linear, "onednn_linear", noted)
    return seen


@pytest.fixture
def cudnn_attention():
    """Lets cuDNN compute attention, and yields what tells whether it still may; restores what was before."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield torch.backends.cuda.cudnn_sdp_enabled
    torch.backends.cuda.enable_cudnn_sdp(before)
