"""Each mistake in a trace file is one sentence with the file, the line, the value and the remedy."""

import gzip

import pandas as pd
import pytest

from hardware_models.errors import FleetcastError
from workloads.traces import read_trace

PLAIN = "arrival_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n"
LINE = '{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}\n'
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"

CASES = {
    "empty": ("", "is empty; give a trace file"),
    "blank": (" \n\n", "is empty"),
    "header only": (PLAIN, "holds no requests"),
    "nothing answered": (BURST + "5,GPT-4,10,0,10,API log\n", "holds no requests; dropped 1 of 1 requests"),
    "unknown columns": ("a,b\n1,2\n", "the columns 'a, b' are of no known trace format; known are plain table"),
    "half known": (
        "TIMESTAMP,ContextTokens\n1,2\n",
        "lacks the column GeneratedTokens, which the format Azure LLM CSV",
    ),
    "word for tokens": (PLAIN + "0,1,1\n1,abc,1\n", "line 3: prompt_tokens is 'abc'; give a whole number of tokens"),
    "negative tokens": (PLAIN + "0,1,1\n1,-5,1\n", "line 3: prompt_tokens is '-5'"),
    "no tokens": (PLAIN + "0,1,1\n1,,1\n", "line 3: prompt_tokens is ''"),
    "NaN": (PLAIN + "0,1,1\n\n1,nan,1\n", "line 4: prompt_tokens is 'nan'"),
    "infinity": (PLAIN + "0,1,1\ninf,1,1\n", "line 3: arrival_s is 'inf'; give a time in seconds, at least 0"),
    "zero prompt": (PLAIN + "0,0,1\n", "line 2: prompt_tokens is '0'; give a whole number of tokens, at least 1"),
    "zero output": (PLAIN + "0,1,0\n", "line 2: output_tokens is '0'"),
    "half a token": (PLAIN + "0,1.5,1\n", "line 2: prompt_tokens is '1.5'"),
    "too many tokens": (PLAIN + "0,1e18,1\n", "line 2: prompt_tokens is '1e18'"),
    "negative time": (PLAIN + "0,1,1\n-3,1,1\n", "line 3: arrival_s is '-3'"),
    "short row": (PLAIN + "0,1,1\n1,2\n", "line 3: has 2 fields where the header has 3; mend or delete the row"),
    "long row": (PLAIN + "0,1,1\n1,2,3,4\n", "line 3: has 4 fields where the header has 3"),
    "CRLF": (PLAIN.replace("\n", "\r\n") + "0,1,1\r\n1,x,1\r\n", "line 3: prompt_tokens is 'x'"),
    "no time": (AZURE + "yesterday,1,1\n", "line 3: TIMESTAMP is 'yesterday'; give a time such as 2023-11-16"),
    "zero Azure prompt": (AZURE + "2023-11-16 18:15:47,0,5\n", "line 3: ContextTokens is '0'"),
    "bad priority": ("priority," + PLAIN + "x,0,1,1\n", "line 2: priority is 'x'; give a whole number"),
    "binary junk": (bytes(range(256)) * 8, "is neither text nor Parquet"),
    "other alphabet": (b"\xff\xfe\xfa" * 9, "is neither text nor Parquet"),
    "damaged gzip": (gzip.compress(b"a" * 9999)[:20], "is a damaged gzip file"),
    "damaged Parquet": (b"PAR1 and no more", "is a damaged Parquet file"),
    "broken first line": (LINE[:-4] + "\n" + LINE, "line 1: is not JSON"),
    "broken line": (LINE + LINE + LINE[:40] + "\n", "line 3: is not JSON"),
    "line that is a list": (LINE + "[1]\n", "line 2: is not a JSON object"),
    "missing key": (LINE + '{"timestamp": 1, "input_length": 5}\n', "line 2: output_length is missing"),
    "missing hashes": (LINE + LINE.replace("hash_ids", "x"), "line 2: hash_ids is no list of integers"),
    "zero input": (LINE + "\n" + LINE.replace("700", "0"), "line 3: input_length is 0; give a whole number"),
    "text time": (LINE.replace('": 0', '": "0"'), 'line 1: timestamp is "0"; give a time in milliseconds'),
    "unanswered lines": (LINE.replace('": 5', '": 0'), "holds no requests with output tokens"),
    "JSON array": ("[" + LINE.strip() + "]", "is one JSON array; write one request"),
    "unknown keys": ('{"a": 1}', "the JSON keys 'a' are of no known trace format; known are Mooncake JSON lines"),
    "broken bench": ('{\n"input_lens": [1,\n2,]\n}', "line 3: is not JSON"),
    "bench without lists": ('{"input_lens": 4, "output_lens": [1]}', "input_lens is no list.*--save-detailed"),
    "bench of two sizes": ('{"input_lens": [4], "output_lens": [1, 2]}', "input_lens has 1 values and output_lens 2"),
    "bench word": ('{"input_lens": [4, "x"], "output_lens": [1, 2]}', r'input_lens\[1\] is "x"; give a whole number'),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_one_sentence(tmp_path, case):
    content, message = CASES[case]
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FleetcastError, match=message) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FleetcastError, match="no such file; check the path"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(FleetcastError, match="is a directory; give the path of one trace file"):
        read_trace(tmp_path)


def test_a_bad_parquet_value_names_its_row(tmp_path):
    frame = pd.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [3, 0], "output_tokens": [5, 6]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(FleetcastError, match="row 2: prompt_tokens is '0'"):
        read_trace(tmp_path / "t.parquet")
