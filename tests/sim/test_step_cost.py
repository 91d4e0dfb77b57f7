"""The price of a step: the sum of its operators' prices, straight while it says so, and never below the roofline."""

import functools
import itertools
from unittest import mock

import pytest
from engines import LinearDecode, LinearPrefill, stage_cost, table
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.collectives import AnyFabric
from hardware_models.device import Device
from hardware_models.ops import Collective
from policies.serving import UNLIMITED, Sequence
from sim.run import run
from sim.scenario import ClusterSection, ModelSection, Scenario, ServingSection, WorkloadSection
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.deployment import Deployment, deploy, tensor_fabric
from sim.serving.memory import plan_memory
from sim.serving.row_costs import CELL, EVERY_ROW
from sim.serving.step_cost import StageCost
from workloads.models import catalog as models
from workloads.models.counts import forward_flop, kv_bytes_per_token
from workloads.models.operators import LayerRange, attention_shapes, head_operators, token_operators
from workloads.models.weights import head_weights, layer_weights

MODELS = models.names()
GPUS = catalog.names("gpu")
NODES = {"a100-80gb-sxm": "dgx-a100-80gb", "h100-sxm": "dgx-h100"}
ENDLESS = 1_000_000  # output tokens of a sequence that never finishes


# -- batches -----------------------------------------------------------------------------------------------------------


def sequence(index: int, prompt: int, prefilled: int = 0) -> Sequence:
    return Sequence(index, 0.0, prompt, ENDLESS, 0, prompt, prefilled)


def price(cost: StageCost, chunks, contexts, padding: int = 0) -> tuple[float, float, int]:
    """Price a step; chunks: (tokens before, new tokens) of each; contexts: KV tokens of each decoding sequence."""
    load, pool = ChunkLoad(cost.window), DecodePool(16, cost.window)
    load.set([(sequence(i, before + new + 1, before), new) for i, (before, new) in enumerate(chunks)])
    for i, context in enumerate(contexts):
        pool.join(sequence(1000 + i, context), context)
    return cost.price(load, len(contexts), padding, pool)


@st.composite
def batches(draw, most_chunks: int = 4):
    """Chunks (before, new) and the contexts of decoding sequences; not both empty."""
    chunk = st.tuples(st.sampled_from([0, 0, 1, 300, 4095, 4096, 9000]), st.integers(1, 900))
    chunks = draw(st.lists(chunk, max_size=most_chunks))
    contexts = draw(st.lists(st.integers(1, 9000), min_size=0 if chunks else 1, max_size=40))
    return chunks, contexts


# -- a model on a device, priced without the engine --------------------------------------------------------------------


@functools.cache
def deployment(model: str, gpu: str, tp: int = 1, engine: str = "vllm-0.12") -> Deployment:
    """A deployment on a server whose GPUs are `gpu`, as if they had room for any model."""
    spec, node = catalog.gpu(gpu), catalog.node(NODES.get(gpu, "dgx-a100-80gb"))
    dtype = "bf16" if "bf16" in spec.peak_flop_per_s else "fp16"
    scenario = Scenario(
        model=ModelSection(config=model, weight_dtype=dtype),
        cluster=ClusterSection(node=node.name),
        serving=ServingSection(tensor_parallel_size=tp, engine=engine),
        workload=WorkloadSection(trace="none"),
    )
    with (
        mock.patch.object(catalog, "node", return_value=node.model_copy(update={"gpu": gpu})),
        mock.patch(
            "sim.serving.deployment.plan_memory", lambda **sizes: plan_memory(**sizes | {"device_bytes": 10**14})
        ),
    ):
        return deploy(scenario)


def seen(before: int, new: int, window: int) -> list[int]:
    """Keys that each new token sees, itself included."""
    return [min(before + i + 1, window or UNLIMITED) for i in range(new)]


def keys_read(before: int, new: int, window: int) -> int:
    """Cached tokens that some new token sees."""
    return before + new - max(0, before + 1 - window) if window else before + new


def row_operators(served: Deployment, tp: int, rows: int) -> list[tuple]:
    """Operators that see each row of a step alike, with how often each runs."""
    architecture = served.architecture
    layers = LayerRange(0, architecture.num_layers, architecture.num_layers)
    return [(o.op, o.count) for o in token_operators(architecture, float(rows), tp, layers, served.dtypes)]


def other_operators(served: Deployment, tp: int, chunks, contexts, padding: int = 0) -> list[tuple]:
    """The output head, and attention."""
    architecture = served.architecture
    layers = LayerRange(0, architecture.num_layers, architecture.num_layers)
    samples = len(chunks) + len(contexts) + padding
    result = [(o.op, o.count) for o in head_operators(architecture, float(samples), tp, served.dtypes)]
    mixed = bool(chunks) and served.gpu.architecture != "hopper"  # FlashAttention-3 has one kernel for both
    for shape in attention_shapes(architecture, tp, layers):
        if contexts:
            kv = float(sum(seen(context, 1, shape.window)[0] for context in contexts))
            op = shape.decode_op(sequences=float(len(contexts)), kv_tokens=kv, dtypes=served.dtypes, mixed=mixed)
            result.append((op, shape.layers))
        if chunks:
            op = shape.prefill_op(
                pairs=float(sum(sum(seen(*chunk, shape.window)) for chunk in chunks)),
                queries=float(sum(new for _, new in chunks)),
                kv_tokens=float(sum(keys_read(*chunk, shape.window) for chunk in chunks)),
                sequences=float(len(chunks)),
                dtypes=served.dtypes,
            )
            result.append((op, shape.layers))
    return result


def step_rows(chunks, contexts, padding: int = 0) -> int:
    return sum(new for _, new in chunks) + len(contexts) + padding


def summed_seconds(operators: list[tuple], device: Device, fabric: AnyFabric) -> float:
    total = 0.0
    for op, count in operators:
        collective = isinstance(op, Collective)
        seconds = fabric.seconds(op.kind, op.payload_bytes) if collective else device.price(op).seconds
        total += count * float(seconds)
    return total


def row_seconds(served: Deployment, tp: int, rows: int, fabric: AnyFabric) -> float:
    """Beyond 512 rows, kernels are a line between the first and the last row of a cell of 16; exchanges are not."""
    here = row_operators(served, tp, rows)
    device, exchanges = Device(served.gpu), [(op, n) for op, n in here if isinstance(op, Collective)]
    if rows <= EVERY_ROW:
        return summed_seconds(here, device, fabric)
    first = (rows - 1) // CELL * CELL + 1
    ends = []
    for edge in (first, first + CELL - 1):
        kernels = [(op, n) for op, n in row_operators(served, tp, edge) if not isinstance(op, Collective)]
        ends.append(summed_seconds(kernels, device, fabric))
    share = (rows - first) / (CELL - 1)
    return (1 - share) * ends[0] + share * ends[1] + summed_seconds(exchanges, device, fabric)


def expected_seconds(served: Deployment, tp: int, chunks, contexts, padding: int = 0) -> float:
    """A step's time, from nothing but operator prices and the framework's profile."""
    fabric = tensor_fabric(served.node, tp, None)
    busy_s = row_seconds(served, tp, step_rows(chunks, contexts, padding), fabric)
    busy_s += summed_seconds(other_operators(served, tp, chunks, contexts, padding), Device(served.gpu), fabric)
    profile = served.profile
    if chunks or not profile.decode_graphs:
        busy_s = max(busy_s, served.architecture.num_layers * profile.kernels_per_layer * profile.launch_s)
    samples = len(chunks) + len(contexts) + padding
    return busy_s + profile.host_s_per_step + profile.host_s_per_sequence * samples


def holds(model: str, tp: int) -> bool:
    return models.model(model).groups[0].attention.heads % tp == 0


BETWEEN_KNOTS = 5e-3  # of a step, by which a line misses decode attention between two knots of its context, at most


@pytest.mark.parametrize(("number", "model"), list(enumerate(MODELS)))
@given(gpu=st.sampled_from(list(NODES)), batch=batches(), padding=st.integers(0, 3))
@settings(max_examples=5, deadline=None)
def test_a_step_costs_the_sum_of_its_operators(number, model, gpu, batch, padding):
    tp = 1 + (number + list(NODES).index(gpu)) % 2  # each model alone on one GPU and on two of the other
    tp = tp if holds(model, tp) else 1
    served = deployment(model, gpu, tp)
    seconds = price(served.stages[0], *batch, padding)[0]
    assert seconds == pytest.approx(expected_seconds(served, tp, *batch, padding), rel=BETWEEN_KNOTS)


@pytest.mark.parametrize("model", MODELS)
def test_a_step_on_the_knots_costs_exactly_the_sum_of_its_operators(model):
    served = deployment(model, "h100-sxm")
    for context in (15, 1023, 8191):  # and the new token
        if served.stages[0].window and context >= served.stages[0].window:
            continue
        for sequences in (1, 7, 200):
            contexts = [context] * sequences
            seconds = price(served.stages[0], [(0, 300)], contexts)[0]
            assert seconds == pytest.approx(expected_seconds(served, 1, [(0, 300)], contexts), rel=1e-12)


@pytest.mark.parametrize("model", ["llama-3-8b", "qwen2.5-72b", "deepseek-v2-lite", "gpt2"])
@pytest.mark.parametrize("gpu", list(NODES))
@given(rows=st.integers(513, 8000))
@settings(max_examples=10, deadline=None)
def test_a_line_between_the_ends_of_a_cell_of_rows_is_close_to_every_row_in_it(gpu, model, rows):
    served = deployment(model, gpu)
    fabric = tensor_fabric(served.node, 1, None)
    alone = summed_seconds(row_operators(served, 1, rows), Device(served.gpu), fabric)
    assert row_seconds(served, 1, rows, fabric) == pytest.approx(alone, rel=5e-3)


@pytest.mark.parametrize("engine", ["ideal", "orca", "vllm-0.2", "sarathi-serve", "fastertransformer"])
@given(batch=batches())
@settings(max_examples=15, deadline=None)
def test_a_step_costs_the_sum_of_its_operators_under_every_framework(engine, batch):
    served = deployment("mistral-7b", "a100-80gb-sxm", 1, engine)
    seconds = price(served.stages[0], *batch)[0]
    assert seconds == pytest.approx(expected_seconds(served, 1, *batch), rel=BETWEEN_KNOTS)


# -- slope and how long it holds ---------------------------------------------------------------------------------------


def later_prices(cost: StageCost, chunks, contexts, steps: int) -> list[float]:
    """Each of the next steps priced afresh: the chunk has moved on and every context has grown."""
    return [
        price(cost, [(before + i * new, new) for before, new in chunks], [context + i for context in contexts])[0]
        for i in range(steps)
    ]


def straight_steps(cost: StageCost, valid: int, contexts, most: int) -> int:
    """Steps over which a price must be straight: as the price says, and until a context reaches the window."""
    to_window = [cost.window - context for context in contexts if context < cost.window]
    return min([valid, most, *to_window])


@pytest.mark.parametrize("model", ["llama-3-8b", "mistral-7b"])
@pytest.mark.parametrize("gpu", list(NODES))
@given(batch=batches(most_chunks=1))
@settings(max_examples=25, deadline=None)
def test_each_later_step_costs_a_slope_more(gpu, model, batch):
    cost = deployment(model, gpu).stages[0]
    first_s, slope_s, valid = price(cost, *batch)
    steps = straight_steps(cost, valid, batch[1], most=12)
    assert slope_s >= 0.0
    assert later_prices(cost, *batch, steps) == pytest.approx([first_s + i * slope_s for i in range(steps)], rel=1e-12)


@st.composite
def bent_costs(draw):
    """Made-up costs whose attention changes from memory to compute, or leaves the launch floor, within a few steps."""
    seconds = st.sampled_from([0.0, 1e-9, 3e-8, 1e-7, 1e-6])
    window = draw(st.sampled_from([0, 50, 700]))
    parts = [
        [
            kind(windowed, draw(st.sampled_from([0.0, 1e-4])), draw(seconds), draw(seconds), draw(seconds))
            for windowed in ([False, True] if window else [False])
        ]
        for kind in (LinearDecode, LinearPrefill)
    ]
    floor_s = draw(st.sampled_from([0.0, 8.2e-3, 8.5e-3, 1e-2, 5e-2]))
    flat = stage_cost()
    return StageCost(flat.rows, parts[0], parts[1], window, 1e-3, 1e-5, floor_s, draw(st.sampled_from([0.0, floor_s])))


@given(cost=bent_costs(), batch=batches(most_chunks=1))
@settings(max_examples=200, deadline=None)
def test_the_slope_holds_for_as_many_steps_as_the_price_says(cost, batch):
    first_s, slope_s, valid = price(cost, *batch)
    assert valid >= 1
    steps = straight_steps(cost, valid, batch[1], most=30)
    assert later_prices(cost, *batch, steps) == pytest.approx([first_s + i * slope_s for i in range(steps)], rel=1e-9)
    if 30 < valid < UNLIMITED and not cost.window:  # and at the far end
        last = valid - 1
        chunks = [(before + last * new, new) for before, new in batch[0]]
        last_s = price(cost, chunks, [context + last for context in batch[1]])[0]
        assert last_s == pytest.approx(first_s + last * slope_s, rel=1e-9)


def test_a_bend_is_announced_at_its_step():
    # compute takes 1e-9 a KV token, memory 5e-10 a KV token and 1e-6 a query: they meet at 2,000 tokens
    part = LinearDecode(False, 0.0, 1e-9, 5e-10, 1e-6)
    cost = StageCost(stage_cost().rows, [part], [], 0, 0.0, 0.0, 0.0, 0.0)
    first_s, slope_s, valid = price(cost, [], [1900])
    assert (slope_s, valid) == (pytest.approx(5e-10), 99)  # contexts 1,901 to 1,999
    meeting_s, steeper_s, _ = price(cost, [], [1900 + valid])
    assert meeting_s == pytest.approx(first_s + valid * slope_s, rel=1e-12)
    assert steeper_s == pytest.approx(1e-9)


# -- what the hardware can do at best ----------------------------------------------------------------------------------


def matrix_bytes(served: Deployment) -> float:
    """Bytes of the matrices that every token is multiplied by, once: no embedding table and no routed experts."""
    architecture = served.architecture
    head = [(1, weight) for weight in head_weights(architecture, shares_embedding=False)]
    body = [(group.count, weight) for group in architecture.groups for weight in layer_weights(architecture, group)]
    return 2.0 * sum(n * w.elements for n, w in head + body if w.multiplies and w.part != "experts")


@pytest.mark.parametrize(("model", "gpu"), list(zip(MODELS, itertools.cycle(GPUS), strict=False)))
@given(batch=batches())
@settings(max_examples=5, deadline=None)
def test_no_step_beats_the_roofline_on_any_gpu(model, gpu, batch):
    chunks, contexts = batch
    served = deployment(model, gpu)
    device, architecture = Device(served.gpu), served.architecture
    seconds = price(served.stages[0], chunks, contexts)[0]
    operators = row_operators(served, 1, step_rows(*batch)) + other_operators(served, 1, *batch)
    assert seconds > sum(count * float(device.floor_s(op)) for op, count in operators)
    work = [*((new, before) for before, new in chunks), *((1, context) for context in contexts)]
    flop = sum(float(forward_flop(architecture, float(new), float(before))) for new, before in work)
    assert seconds > flop / device.peak_flop_per_s(served.dtypes.activation)
    moved = matrix_bytes(served)
    if not any(group.attention.window for group in architecture.groups):
        moved += kv_bytes_per_token(architecture, "bf16") * sum(new + before for new, before in work)
    assert seconds > moved / device.spec.memory_bandwidth_bytes_per_s


def test_a_prompt_of_8192_tokens_takes_its_arithmetic_and_little_more():
    served = deployment("llama-3-8b", "h100-sxm", 1, "ideal")
    matrices = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14_336  # of a layer
    layer_flop = 2 * 8192 * matrices + 4 * 32 * 128 * 8192 * 8193 / 2
    at_peak_s = (32 * layer_flop + 2 * 4096 * 128_256) / 989e12  # and one row of logits
    assert at_peak_s == pytest.approx(float(forward_flop(served.architecture, 8192.0, 0.0)) / 989e12, rel=1e-12)
    assert at_peak_s < price(served.stages[0], [(0, 8192)], [])[0] < 1.5 * at_peak_s


# -- the public way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "prompt", "answer"), [("llama-3-8b", 700, 300), ("mistral-7b", 3900, 400)])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tp", [1, 2])
def test_a_lone_request_takes_the_sum_of_its_operators(model, prompt, answer, exact, tp):
    scenario = Scenario(
        model=ModelSection(config=model),
        cluster=ClusterSection(node="dgx-h100"),
        serving=ServingSection(tensor_parallel_size=tp, max_num_batched_tokens=8192),
        workload=WorkloadSection(trace="none"),
    )
    result = run(scenario, exact=exact, requests=table([0.0], [prompt], [answer]))
    served = result.run.deployment
    first_s = expected_seconds(served, tp, [(0, prompt)], [])
    steps_s = [expected_seconds(served, tp, [], [prompt + i]) for i in range(answer - 1)]
    request = result.requests.iloc[0]
    assert request["queue_s"] == 0.0
    assert request["ttft_s"] == pytest.approx(first_s, rel=1e-12)
    assert request["tpot_s"] == pytest.approx(sum(steps_s) / len(steps_s), rel=BETWEEN_KNOTS)
    assert request["max_tbt_s"] == pytest.approx(max(steps_s), rel=BETWEEN_KNOTS)
    assert request["e2e_s"] == pytest.approx(first_s + sum(steps_s), rel=BETWEEN_KNOTS)


@pytest.mark.parametrize("tp", [1, 2])
def test_a_lone_token_on_a_knot_takes_exactly_the_sum_of_its_operators(tp):
    scenario = Scenario(
        model=ModelSection(config="llama-3-8b"),
        cluster=ClusterSection(node="dgx-h100"),
        serving=ServingSection(tensor_parallel_size=tp),
        workload=WorkloadSection(trace="none"),
    )
    result = run(scenario, requests=table([0.0], [1023], [2]))
    expected_s = expected_seconds(result.run.deployment, tp, [], [1023])
    assert result.requests["tpot_s"][0] == pytest.approx(expected_s, rel=1e-12)
