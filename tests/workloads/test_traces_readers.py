"""Every trace format is read by its columns, zipped or not."""

import gzip
import json
import time

import numpy as np
import pandas as pd
import pytest

from hardware_models.errors import FleetcastError
from workloads.request import RequestTable, merge
from workloads.traces import read_trace


def write(tmp_path, text, name="trace.bin"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}\n'
    '{"timestamp": 1500, "input_length": 520, "output_length": 7, "hash_ids": [0, 2]}\n'
)


def test_azure_times_count_from_the_first_request_to_a_tenth_of_a_microsecond(tmp_path):
    table = read_trace(write(tmp_path, AZURE))
    assert table.arrival_s.tolist() == [0.0, 4.314579]
    assert table.prompt_tokens.tolist() == [374, 396]
    assert table.output_tokens.tolist() == [44, 109]


def test_azure_with_images_zone_and_unanswered_requests(tmp_path):
    text = (
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:01+00:00,1,10,2\n2024-05-10 00:00:00.009930+00:00,0,0,0\n2024-05-10 00:00:00.5+00:00,0,7,3\n"
    )
    table = read_trace(write(tmp_path, text))
    assert table.arrival_s.tolist() == [0.0, 0.5]
    assert table.prompt_tokens.tolist() == [7, 10]
    assert table.notes == ("dropped 1 of 3 requests, which have 0 output tokens",)


@pytest.mark.parametrize("form", ["plain", "gzip", "byte order mark", "CRLF", "blank lines", "no last newline"])
def test_the_same_table_however_the_text_is_packed(tmp_path, form):
    raw = AZURE.encode()
    packed = {
        "plain": raw,
        "gzip": gzip.compress(raw),
        "byte order mark": b"\xef\xbb\xbf" + raw,
        "CRLF": raw.replace(b"\n", b"\r\n"),
        "blank lines": raw.replace(b"\n", b"\n\n"),
        "no last newline": raw.rstrip(),
    }[form]
    table = read_trace(write(tmp_path, packed))
    assert table.arrival_s.tolist() == [0.0, 4.314579]


def test_mooncake_lines_carry_hashes_of_512_token_blocks(tmp_path):
    table = read_trace(write(tmp_path, gzip.compress(MOONCAKE.encode())))
    assert table.arrival_s.tolist() == [0.0, 1.5]
    assert table.prefix_hashes == ((0, 1), (0, 2))
    assert table.prefix_block_tokens == 512


def test_burstgpt_drops_failures_and_keeps_the_model_as_tenant(tmp_path):
    text = (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,API log\n"
    )
    table = read_trace(write(tmp_path, text))
    assert table.arrival_s.tolist() == [5.0, 118.0]
    assert table.tenant == ("ChatGPT", "GPT-4")
    assert table.notes == ("dropped 1 of 3 requests, which have 0 output tokens",)


@pytest.mark.parametrize(
    "header",
    [
        "arrived_at,num_prefill_tokens,num_decode_tokens",
        "arrived_at_s,num_prefill_tokens,num_decode_tokens",
        "arrival_timestamp,prompt_size,token_size",
    ],
)
def test_vidur_and_splitwise_spellings(tmp_path, header):
    table = read_trace(write(tmp_path, f"{header}\n0.5,10,3\n1.5,20,4\n"))
    assert table.arrival_s.tolist() == [0.5, 1.5]
    assert table.prompt_tokens.tolist() == [10, 20]
    assert table.output_tokens.tolist() == [3, 4]


def test_lengths_without_arrivals_need_a_rate(tmp_path):
    path = write(tmp_path, "num_prefill_tokens,num_decode_tokens\n" + "10,3\n" * 4000)
    with pytest.raises(FleetcastError, match=r"holds lengths but no arrivals.*give request_rate, in requests per"):
        read_trace(path)
    table = read_trace(path, request_rate=8.0)
    assert table.mean_rate_per_s == pytest.approx(8.0, rel=0.08)
    with pytest.raises(FleetcastError, match="request_rate = -1"):
        read_trace(path, request_rate=-1)


def test_a_given_rate_replaces_time_stamps_that_are_none(tmp_path):
    path = write(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\nXXX,107,15\nXXX,396,513\n")
    assert read_trace(path, request_rate=1.0).prompt_tokens.tolist() == [107, 396]
    with pytest.raises(FleetcastError, match=r"line 2: TIMESTAMP is 'XXX'.*request_rate"):
        read_trace(path)


def test_vllm_bench_start_times_count_from_the_first(tmp_path):
    result = {"duration": 3, "input_lens": [5, 6, 7], "output_lens": [1, 0, 2], "start_times": [100.5, 100.0, 101.0]}
    table = read_trace(write(tmp_path, json.dumps(result, indent=1)))
    assert table.arrival_s.tolist() == [0.5, 1.0]
    assert table.prompt_tokens.tolist() == [5, 7]
    assert table.notes == ("dropped 1 of 3 requests, which have 0 output tokens",)


def test_vllm_bench_without_start_times_takes_a_rate(tmp_path):
    path = write(tmp_path, json.dumps({"input_lens": [5] * 9, "output_lens": [2] * 9, "request_rate": float("inf")}))
    with pytest.raises(FleetcastError, match="no start_times; give request_rate"):
        read_trace(path)
    assert len(read_trace(path, request_rate=2.0)) == 9
    path = write(tmp_path, json.dumps({"input_lens": [5] * 9, "output_lens": [2] * 9, "request_rate": 4.0}))
    assert len(read_trace(path)) == 9


def test_plain_csv_with_all_columns(tmp_path):
    text = (
        "request_id,arrival_s,prompt_tokens,output_tokens,priority,tenant,session,ttft_s\n"
        "a,1.0,10,3,0,blue,s1,0.1\nb,0.5,20,4,2,,,0.1\nc,0.5,30.0,1e1,1,red,s2,0.1\n"
    )
    table = read_trace(write(tmp_path, text))
    assert table.arrival_s.tolist() == [0.5, 0.5, 1.0]
    assert table.labels == ("b", "c", "a")
    assert table.request_id.tolist() == [1, 2, 0]
    assert table.output_tokens.tolist() == [4, 10, 3]
    assert table.priority is not None
    assert table.priority.tolist() == [2, 1, 0]
    assert table.tenant == ("", "red", "blue")
    assert table.session is not None
    assert table.session.tolist() == [-1, 1, 0]


def test_plain_parquet_equals_plain_csv(tmp_path):
    frame = pd.DataFrame(
        {"arrival_s": [0.25, 1.0], "prompt_tokens": [3, 4], "output_tokens": [5, 6], "request_id": [7, 9]}
    )
    frame.to_parquet(tmp_path / "a")
    frame.to_csv(tmp_path / "b", index=False)
    one, two = read_trace(tmp_path / "a"), read_trace(tmp_path / "b")
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "request_id"):
        assert getattr(one, name).tolist() == getattr(two, name).tolist()


def test_wall_clock_arrivals_count_from_the_first(tmp_path):
    table = read_trace(write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n1700000001,1,1\n1700000000,2,2\n"))
    assert table.arrival_s.tolist() == [0.0, 1.0]


def test_unsorted_arrivals_are_sorted_and_ties_keep_their_order(tmp_path):
    text = "arrival_s,prompt_tokens,output_tokens\n2,1,1\n1,2,1\n2,3,1\n1,4,1\n"
    assert read_trace(write(tmp_path, text)).prompt_tokens.tolist() == [2, 4, 1, 3]


def test_twenty_thousand_rows_take_milliseconds(tmp_path):
    rows = "".join(f"{i / 7},{i % 900 + 1},{i % 80 + 1}\n" for i in range(20_000))
    path = write(tmp_path, "arrival_s,prompt_tokens,output_tokens\n" + rows)
    read_trace(path)
    taken = []
    for _ in range(5):
        start = time.process_time()
        read_trace(path)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.1  # about 0.01 s on an ordinary core


def table(**changes):
    given = {"source": "t", "arrival_s": [1.0, 2.0, 4.0], "prompt_tokens": [1, 2, 3], "output_tokens": [4, 5, 6]}
    return RequestTable.build(**(given | changes))


def test_scaling_the_rate_divides_times_and_keeps_tokens():
    scaled = table().scale_rate(2.0)
    assert scaled.arrival_s.tolist() == [0.5, 1.0, 2.0]
    assert scaled.prompt_tokens.sum() == 6
    assert scaled.mean_rate_per_s == pytest.approx(2 * table().mean_rate_per_s)


def test_head_and_slice_keep_the_first_of_every_column():
    full = table(tenant=["a", "b", "c"], session=[0, 1, 0], prefix_hashes=[[1], [2], [3]], prefix_block_tokens=16)
    assert full.head(2).tenant == ("a", "b")
    assert full.slice_time(4.0).prefix_hashes == ((1,), (2,))
    assert len(full.slice_time(4.1)) == 3


def test_columns_are_read_only_copies():
    arrival = np.array([1.0, 2.0, 4.0])
    made = table(arrival_s=arrival)
    arrival[0] = 0.0
    assert made.arrival_s[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        made.arrival_s[0] = 0.0


def test_merging_keeps_all_requests_in_order():
    merged = merge("both", [table(tenant=["a"] * 3), table(arrival_s=[0.5, 2.0, 3.0], tenant=["b"] * 3)])
    assert merged.arrival_s.tolist() == [0.5, 1.0, 2.0, 2.0, 3.0, 4.0]
    assert merged.tenant == ("b", "a", "a", "b", "b", "a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrival_s": []}, "trace t holds no requests"),
        ({"arrival_s": [1.0, -2.0, 4.0]}, "arrival_s of request 1 is -2.0"),
        ({"arrival_s": [1.0, float("nan"), 4.0]}, "arrival_s of request 1 is nan"),
        ({"prompt_tokens": [1, 0, 3]}, "prompt_tokens of request 1 is 0; give a whole number of at least 1"),
        ({"output_tokens": [1.5, 1, 3]}, "output_tokens of request 0 is 1.5"),
        ({"tenant": ["a"]}, "tenant has 1 values for 3 requests"),
        ({"prefix_hashes": [[1], [2], [3]]}, "prefix_block_tokens = None"),
        ({"request_id": [1, 2, 1]}, "request_id 1 is given twice"),
    ],
)
def test_bad_columns_are_named(changes, message):
    with pytest.raises(FleetcastError, match=message):
        table(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.head(0), "num_requests = 0"),
        (lambda t: t.slice_time(0), "duration_s = 0"),
        (lambda t: t.slice_time(0.5), "holds no requests before duration_s = 0.5; its first arrives at 1 s"),
        (lambda t: t.scale_rate(0), "rate_scale = 0"),
        (lambda t: t.scale_rate(float("inf")), "rate_scale = inf"),
    ],
)
def test_bad_parts_and_scales_are_named(call, message):
    with pytest.raises(FleetcastError, match=message):
        call(table())
