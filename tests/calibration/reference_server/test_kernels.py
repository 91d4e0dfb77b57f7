"""Graphs' padding, Triton's kernels, and every attention backend against plain attention."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import config_file, requests

from calibration.reference_server import executor as executor_module
from calibration.reference_server.attention import PagedAttention
from calibration.reference_server.elementwise import make_elementwise, rope_table
from calibration.reference_server.executor import Executor
from calibration.reference_server.experts import Experts
from calibration.reference_server.graphs import DecodeGraphs, graph_sizes
from calibration.reference_server.memory import check_weights_fit, count_blocks
from calibration.reference_server.model import Model
from calibration.reference_server.options import ServerOptions
from calibration.reference_server.seats import Seats
from calibration.reference_server.server import serve
from calibration.reference_server.shape import model_shape
from calibration.reference_server.weights import random_weights
from hardware_models.errors import DoesNotFitError
from workloads.models.catalog import model as load_model
from workloads.request import RequestTable

OPTIONS = {"device": "cpu", "num_gpu_blocks_override": 64, "max_num_seqs": 8, "max_num_batched_tokens": 24}


class ReplayedOnTheHost(DecodeGraphs):
    """Instead of a CUDA graph, the forward pass again over the same static inputs."""

    def _recorded(self, inputs, rows):
        tokens = self.forward(inputs, rows).clone()
        return lambda: tokens.copy_(self.forward(inputs, rows)), tokens


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (3, [1, 2, 8]), (4, [1, 2, 4]), (20, [1, 2, 4, 8, 16, 24]), (600, None)]
)
def test_graph_sizes_hold_the_largest_batch(largest, sizes) -> None:
    got = graph_sizes(largest)
    assert got == sorted(set(got))
    assert got[-1] == 512 if sizes is None else got == sizes


def test_padded_graphs_give_the_tokens_of_unpadded_steps(torch, tmp_path, monkeypatch) -> None:
    path = config_file(tmp_path, "llama")
    table = RequestTable.build(  # the first, which holds the first block, stays to the end
        source="made up", arrival_s=[0.0] * 10, prompt_tokens=[30] * 10, output_tokens=[40, *range(3, 12)]
    )
    plain = serve(path, table, ServerOptions(**OPTIONS)).engine
    resolve, gathered = ServerOptions.resolved, PagedAttention._gathered

    def with_graphs(options: ServerOptions, device: str) -> ServerOptions:
        return replace(resolve(options, device), graphs=True)

    def over_the_whole_table(attention, decodes):  # as a graph's kernel must, which knows no lengths
        return gathered(attention, replace(decodes, longest=attention._longest))

    monkeypatch.setattr(executor_module, "DecodeGraphs", ReplayedOnTheHost)
    monkeypatch.setattr(ServerOptions, "resolved", with_graphs)
    monkeypatch.setattr(PagedAttention, "_gathered", over_the_whole_table)
    padded = serve(path, table, ServerOptions(**OPTIONS)).engine
    used = [step for step in padded.steps if step.graph_rows]
    assert used
    assert all(step.prefill_tokens == 0 for step in used)
    assert any(step.graph_rows > step.decode_seqs for step in used)
    assert [padded.outputs[i].tolist() for i in range(10)] == [plain.outputs[i].tolist() for i in range(10)]


def test_grouped_experts_give_the_tokens_of_one_after_another(torch, tmp_path) -> None:
    if not hasattr(torch.nn.functional, "grouped_mm"):
        pytest.skip("this PyTorch has no grouped product on a CPU")
    path, table = config_file(tmp_path, "mixtral"), requests(6, prompt=40, output=10)
    loop = serve(path, table, ServerOptions(**OPTIONS)).engine
    grouped = serve(path, table, ServerOptions(**OPTIONS, experts="grouped")).engine
    assert [grouped.outputs[i].tolist() for i in range(6)] == [loop.outputs[i].tolist() for i in range(6)]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs with TRITON_INTERPRET=1")
@pytest.mark.parametrize("name", ["llama", "qwen2", "mixtral"])
def test_triton_kernels_give_the_tokens_of_plain_pytorch(torch, tmp_path, name) -> None:
    pytest.importorskip("triton")
    path, table = config_file(tmp_path, name), requests(6, prompt=40, output=10)
    plain = serve(path, table, ServerOptions(**OPTIONS)).engine
    fused = serve(path, table, ServerOptions(**OPTIONS, attention="triton", elementwise="triton")).engine
    assert [fused.outputs[i].tolist() for i in range(6)] == [plain.outputs[i].tolist() for i in range(6)]


def test_bf16_runs_on_a_cpu_and_finishes_all(torch, tmp_path) -> None:
    table = requests(6, prompt=40, output=10)
    engine = serve(config_file(tmp_path, "mixtral"), table, ServerOptions(**OPTIONS, dtype="bf16")).engine
    assert [len(engine.outputs[i]) for i in range(6)] == table.output_tokens.tolist()


def test_chunked_logits_equal_whole_ones_to_rounding(torch, tmp_path) -> None:
    logits = {}
    for budget in (64, 7):
        seats, executor = bare_server(torch, config_file(tmp_path, "llama"))
        done, out = 0, None
        while done < 50:
            new = min(budget, 50 - done)
            work = seats.work([(0, new)], [])
            executor.table.copy_(torch.from_numpy(seats.table))
            out = executor.model.logits(executor._batch(work), executor.cache)
            seats.take(work, np.zeros(1, dtype=np.int64))
            done += new
        logits[budget] = out
    assert torch.allclose(logits[64], logits[7], atol=1e-4)


def bare_server(torch, path):
    shape = model_shape(load_model(path))
    seats = Seats(seats=2, longest=64, blocks=9, block_size=8)
    seats.open(0, np.arange(50, dtype=np.int32), 7)
    table = torch.zeros(3, seats.width, dtype=torch.int32)
    elementwise = make_elementwise("torch", torch, shape, rope_table(torch, 64, shape.head_dim, "cpu"))
    model = Model(
        torch, shape, random_weights(torch, shape, torch.float32, "cpu", 0), elementwise,
        PagedAttention(torch, shape, table, 8, "torch"), Experts(torch, shape, elementwise, "loop"),
    )  # fmt: skip
    sizes = 10, 8, shape.kv_heads, shape.head_dim
    cache = [(torch.zeros(sizes), torch.zeros(sizes)) for _ in range(shape.layers)]
    return seats, Executor(torch, model, cache, table)


def gpu_with(free_gib: float, total_gib: float) -> SimpleNamespace:
    """As much of PyTorch as sizing asks."""
    cuda = SimpleNamespace(
        mem_get_info=lambda: (int(free_gib * 2**30), int(total_gib * 2**30)),
        get_device_name=lambda: "NVIDIA H200",
        empty_cache=lambda: None,
    )
    return SimpleNamespace(cuda=cuda)


def test_a_model_that_does_not_fit_is_refused_before_it_is_drawn() -> None:
    options = ServerOptions().resolved("cuda")
    with pytest.raises(DoesNotFitError, match=r"its weights take 131\.\d GiB, .* smaller model"):
        check_weights_fit(gpu_with(139, 140), load_model("llama-3.3-70b"), options)
    assert check_weights_fit(gpu_with(139, 140), load_model("mixtral-8x7b"), options) == pytest.approx(93.4e9, rel=0.01)


def test_kv_blocks_fill_what_the_gpu_has_left() -> None:
    options = ServerOptions().resolved("cuda")
    shape = model_shape(load_model("llama-3.1-8b"))
    blocks = count_blocks(gpu_with(124, 140), shape, options, 2**30, 4096)
    gib = 140 * 0.9 - 16 - 1.2 - 1.0  # usable, weights and context, activations, graphs
    assert blocks == pytest.approx(gib * 2**30 / (16 * 131072), abs=2)  # 128 KiB a token
    with pytest.raises(DoesNotFitError, match="where the longest request needs 62500"):
        count_blocks(gpu_with(124, 140), shape, options, 2**30, 10**6)
