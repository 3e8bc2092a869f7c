"""A server of the tiny model with a monitor, a browser, and the page that is open in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_case import Served, serving

from helpers.chromium import Page, chromium
from personascope.dynamics.monitor import Monitor, Threshold


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    monitor = Monitor(Threshold("token", 0.5, 4), layer=2)
    with serving(tmp_path_factory.mktemp("page"), key=None, monitor=monitor, slow=0.02) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(served: Served, browser: Page) -> Page:
    browser.problems.clear()
    browser.open(f"{served.url}/?{id(object())}")
    browser.wait("document.querySelectorAll('.picker').length === 2")
    return browser
