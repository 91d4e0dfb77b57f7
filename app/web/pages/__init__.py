"""The pages of the app, one module each with TITLE, ICON and render(); a new family of pages is one more line here."""

from __future__ import annotations

PAGES: dict[str, str] = {  # url path -> module, in the order of reading
    "serving": "app.web.pages.serving",
    "training": "app.web.pages.training",
    "power": "app.web.pages.power",
    "offload": "app.web.pages.offload",
    "compare": "app.web.pages.compare",
    "sweep": "app.web.pages.sweep",
    "plan": "app.web.pages.plan",
    "gallery": "app.web.pages.gallery",
    "hardware": "app.web.pages.hardware",
    "fidelity": "app.web.pages.fidelity",
}
