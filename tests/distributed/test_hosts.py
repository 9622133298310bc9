"""Two hosts, which are network namespaces of this machine with a link between them: they cluster, and end, together."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baco_gpu import CoclusteringResult
from graphs import random_graph, write_clicks

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.heavy("starts processes"),
    pytest.mark.nightly("makes networks, where it may"),
    pytest.mark.skipif(not shutil.which("ip") or os.geteuid() != 0, reason="makes networks: needs ip, and to be root"),
]
_ROWS = "--gamma", "50", "--budget-rows", "100"  # which take a while


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)


class Hosts:
    """Two hosts, 0 and 1; what runs on them is killed in the end."""

    def __init__(self):
        self.names = [f"baco{os.getpid()}h{host}" for host in range(2)]
        self.links = [f"b{os.getpid() % 10**6}l{host}" for host in range(2)]
        self._running = []

    def make(self):
        for name in self.names:
            ip("netns", "add", name)
        ends = zip(self.links, self.names, strict=True)
        (first, here), (second, there) = ends
        ip("link", "add", first, "netns", here, "type", "veth", "peer", "name", second, "netns", there)
        for host, (name, link) in enumerate(zip(self.names, self.links, strict=True)):
            ip("-n", name, "addr", "add", f"10.77.0.{host + 1}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def end(self):
        for launch in self._running:
            if launch.poll() is None:
                os.killpg(launch.pid, signal.SIGKILL)
            launch.communicate()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def cut(self):
        ip("-n", self.names[0], "link", "set", self.links[0], "down")

    def launch(self, *arguments):
        """The same command of baco on both, one process each, by torchrun."""
        for host, (name, link) in enumerate(zip(self.names, self.links, strict=True)):
            launcher = ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={host}", "--nproc-per-node=1"]
            launcher += ["--master-addr=10.77.0.1", "--master-port=29511", "-m", "baco_gpu"]
            command = shlex.join([sys.executable, *launcher, *map(str, arguments)])
            self._running.append(
                subprocess.Popen(
                    [*shlex.split(f"ip netns exec {name} unshare --uts sh -c"), f"hostname host{host}; exec {command}"],
                    env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": link},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        return self._running[-2:]


@pytest.fixture
def hosts():
    made = Hosts()
    try:
        made.make()
        yield made
    finally:
        made.end()


def test_hosts_cluster_to_the_result_of_one(hosts, baco, tmp_path):
    clicks = write_clicks(tmp_path / "clicks.csv", random_graph(120, 90, 700, seed=1))
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    assert baco("compress", clicks, "--out", alone, "--quiet")[0] == 0
    for launch in hosts.launch("compress", clicks, "--out", together, "--quiet"):
        _, errors = launch.communicate(timeout=300)
        assert launch.returncode == 0, errors
    assert CoclusteringResult.load(together).labels_sha256 == CoclusteringResult.load(alone).labels_sha256


def test_a_cut_link_ends_both_hosts_with_a_line_each(hosts, tmp_path):
    clicks = write_clicks(tmp_path / "clicks.csv", random_graph(30_000, 20_000, 300_000, seed=1))
    out = tmp_path / "codes.safetensors"
    first, second = hosts.launch("compress", clicks, *_ROWS, "--rank-timeout", "10", "--out", out)
    said = ""
    while "clustering" not in said:
        line = first.stderr.readline()
        assert line, said
        said += line
    hosts.cut()
    told = [launch.communicate(timeout=200)[1] for launch in (first, second)]
    assert [first.returncode, second.returncode] == [1, 1]
    assert "baco: error: no answer from rank 1; no output was written" in told[0]
    assert "(rank 0, unless a launcher does) has ended, or cannot be reached; no output was written" in told[1]
    assert not list(tmp_path.glob("codes*"))
