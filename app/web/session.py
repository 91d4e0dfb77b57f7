"""What a session keeps from page to page: the pinned baseline and the basket of runs to compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import streamlit as st

BASKET, BASELINE = "fleetcast.basket", "fleetcast.baseline"
PAGE, FROM, PAGES = "fleetcast.page", "fleetcast.from", "fleetcast.pages"
BASKET_SIZE = 12  # runs that one page can still show


def basket() -> list[str]:
    """Runs to compare, by identity or folder, in the order in which they were added."""
    runs: list[str] = st.session_state.setdefault(BASKET, [])
    return runs


def add_to_basket(run: str) -> None:
    """Add a run once; the oldest makes room."""
    st.session_state[BASKET] = [*(other for other in basket() if other != run), run][-BASKET_SIZE:]


def remove_from_basket(run: str) -> None:
    """Take a run out."""
    st.session_state[BASKET] = [other for other in basket() if other != run]


def set_basket(runs: list[str]) -> None:
    """These runs and no others."""
    st.session_state[BASKET] = list(dict.fromkeys(runs))[:BASKET_SIZE]


def baseline(family: str) -> str | None:
    """The run of a kind of scenario that others of its kind are set against."""
    run: str | None = st.session_state.get(f"{BASELINE}.{family}")
    return run


def pin(run: str | None, family: str) -> None:
    """Set others of a kind against this run from now on; None: against none."""
    st.session_state[f"{BASELINE}.{family}"] = run


def keep_pages(pages: Mapping[str, st.Page]) -> None:
    """Where `open_page` finds them."""
    st.session_state[PAGES] = dict(pages)


def open_page(path: str, parameters: Mapping[str, str]) -> NoReturn:
    """Go to a page, by its path, with parameters in its URL."""
    st.switch_page(st.session_state[PAGES][path], query_params=dict(parameters))


def came_from() -> str:
    """The page that this session showed before this look; the same one, where a widget was touched."""
    return str(st.session_state.get(FROM, ""))


def enter(page: str) -> None:
    """A look at a page begins."""
    st.session_state[FROM] = st.session_state.get(PAGE, "")
    st.session_state[PAGE] = page
