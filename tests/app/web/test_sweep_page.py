"""The Sweep page in a browser: a sweep is started, watched through a refresh, stopped, taken up again."""

import time
from typing import Any

from app.web.sweeps import all_kept

SMALL = """
schema = 1
name = "mine"
[axes]
"serving.max_num_seqs" = [8, 16]
[goal]
minimize = "ttft_s.p99"
[scenario.model]
config = "llama-3.1-8b"
[scenario.cluster]
node = "dgx-h100"
[scenario.workload]
trace = "azure-conv-2023"
duration_s = 20
"""


def open_sweep(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h2')
    settled(page)


def settled(page: Any) -> None:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def fill(page: Any, label: str, text: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")
    settled(page)


def finished(page: Any) -> None:
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settled(page)


def test_a_sweep_started_in_the_page_finishes_and_survives_a_refresh(server: Any, page: Any, look: Any) -> None:
    open_sweep(page, f"{server.url}/sweep")
    finished(page)  # the example, with which the page opens
    page.get_by_role("button", name="Sweep file").click()
    file = {"name": "mine.toml", "mimeType": "application/toml", "buffer": SMALL.encode()}
    page.locator('input[type="file"]').set_input_files(file)
    page.get_by_role("button", name="Start 2 points").wait_for()
    page.keyboard.press("Escape")
    settled(page)
    page.wait_for_function("document.querySelectorAll('input[aria-label=\"values of axis 1\"]').length === 1")
    fill(page, "values of axis 1", "8, 16, 32")
    page.get_by_role("button", name="Start 3 points").click()
    page.wait_for_selector('h2:has-text("mine")')
    page.reload()
    page.wait_for_selector('h2:has-text("mine")')
    finished(page)
    assert page.get_by_text("best: TTFT p99").first.is_visible()
    kept = next(one for one in all_kept(server.store) if one.definition().name == "mine")
    assert kept.state.name == "finished"
    assert kept.progress()["done"] == kept.progress()["total"] == 3
    assert kept.sweep_id in page.url
    assert look.complaints == []
    page.get_by_text("Open the best in Serving").click()
    page.wait_for_url("**/serving**")
    page.wait_for_selector(".fc-card")


def test_a_sweep_is_stopped_and_goes_on(server: Any, page: Any, look: Any) -> None:
    open_sweep(page, f"{server.url}/sweep")
    finished(page)
    fill(page, "name", "long")
    fill(page, "values of axis 1", "512 to 4096 in 80")
    page.get_by_role("button", name="Start 160 points").click()
    page.wait_for_selector('h2:has-text("long")')
    page.wait_for_selector('[data-testid="stProgress"] :text-matches("[1-9][0-9]* of 160 points")')
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").wait_for()
    kept = next(one for one in all_kept(server.store) if one.definition().name == "long")
    assert kept.state.name == "stopped"
    done = kept.progress()["done"]
    assert 0 < done < 160
    page.get_by_role("button", name="Go on").click()
    until = time.monotonic() + 60
    while kept.progress().get("done", 0) <= done or kept.progress()["state"] != "running":
        assert time.monotonic() < until
        time.sleep(0.2)
    assert kept.progress()["cached"] >= done - kept.progress()["failed"]
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").wait_for()
    assert look.complaints == []


def test_a_bad_axis_and_a_bad_file_show_the_sentences_of_the_command_line(server: Any, page: Any) -> None:
    open_sweep(page, f"{server.url}/sweep")
    fill(page, "values of axis 1", "many")
    page.get_by_text("serving.max_num_batched_tokens = 'many': give a whole number").first.wait_for()
    assert page.get_by_role("button", name="Start").is_disabled()
    page.get_by_role("button", name="Sweep file").click()
    page.locator('input[type="file"]').set_input_files(
        {"name": "bad.toml", "mimeType": "application/toml", "buffer": b"schema = 1\n[axes\n"}
    )
    page.get_by_text("bad.toml: is not valid TOML").wait_for()
