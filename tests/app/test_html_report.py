import re
from collections.abc import Callable

import pytest

from app.html_report import html_report
from sim.result import Result

Simulate = Callable[..., Result]


def test_the_page_needs_no_network_and_stays_small(simulate: Simulate) -> None:
    page = html_report(simulate())
    assert len(page) < 6e6
    own = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.DOTALL)  # without plotly's own code
    assert not re.findall(r'(?:src|href)="[^"]', own)
    assert "http" not in own


def test_the_same_run_gives_the_same_page(simulate: Simulate) -> None:
    assert html_report(simulate()) == html_report(simulate())


def test_the_answer_stands_before_the_pictures(simulate: Simulate) -> None:
    page = html_report(simulate())
    assert page.index('p99 TTFT &le; 500 ms: <b class="met">met</b>') < page.index('id="figure-1"')
    assert page.index('id="figure-5"') < page.index("<h2>Latencies, ms</h2>")


def test_names_are_escaped(simulate: Simulate) -> None:
    page = html_report(simulate('name="<script>alert(1)</script>"'))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(("overrides", "text"), [
    (("workload.num_requests=1",), "1 request of "),
    (("serving.max_model_len=5",), "never: requests were rejected"),
    (("slo.ttft_s=1e-6",), '<b class="missed">missed</b>'),
])  # fmt: skip
def test_odd_runs_have_a_page_too(simulate: Simulate, overrides: tuple[str, ...], text: str) -> None:
    assert text in html_report(simulate(*overrides))
