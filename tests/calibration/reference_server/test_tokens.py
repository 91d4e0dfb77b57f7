"""Paged, chunked and batched execution gives the tokens that each sequence has alone."""

import pytest
from tiny import CONFIGS, config_file, naive_tokens, requests

from calibration.reference_server.options import ServerOptions
from calibration.reference_server.server import serve
from calibration.reference_server.shape import model_shape
from calibration.reference_server.weights import random_weights
from workloads.models.catalog import model as load_model
from workloads.randomness import stream

OPTIONS = {"device": "cpu", "num_gpu_blocks_override": 64, "max_num_seqs": 8, "max_num_batched_tokens": 24}


def expected(torch, path, table):
    shape = model_shape(load_model(path))
    weights = random_weights(torch, shape, torch.float32, "cpu", 0)
    tokens = []
    for index in range(len(table)):
        prompt = stream(0, f"prompt {index}").integers(0, shape.vocab, int(table.prompt_tokens[index]))
        tokens.append(naive_tokens(torch, weights, prompt.tolist(), int(table.output_tokens[index]), shape))
    return tokens


def served_tokens(engine, count):
    return [engine.outputs[index].tolist() for index in range(count)]


@pytest.mark.parametrize("scheduler", ["chunked_prefill", "prefill_first"])
@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_equal_those_of_full_attention_alone(torch, tmp_path, name, scheduler) -> None:
    path, table = config_file(tmp_path, name), requests(8, prompt=60, output=12)
    engine = serve(path, table, ServerOptions(**OPTIONS, scheduler=scheduler)).engine
    steps = engine.steps
    assert any(step.prefill_tokens and step.decode_seqs for step in steps) == (scheduler == "chunked_prefill")
    assert any(step.decode_seqs > 1 for step in steps)
    assert served_tokens(engine, len(table)) == expected(torch, path, table)


@pytest.mark.parametrize("scheduler", ["chunked_prefill", "prefill_first"])
def test_preempted_sequences_are_recomputed_to_the_same_tokens(torch, tmp_path, scheduler) -> None:
    path, table = config_file(tmp_path, "llama"), requests(8, seed=1, prompt=20, output=40, span_s=0.001)
    tight = ServerOptions(**OPTIONS | {"num_gpu_blocks_override": 11}, block_size=8, scheduler=scheduler)
    engine = serve(path, table, tight).engine
    assert sum(engine.requests.preemptions) > 0
    assert served_tokens(engine, len(table)) == expected(torch, path, table)
