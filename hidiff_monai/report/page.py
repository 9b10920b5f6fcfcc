"""What the pages share: style and script put into a template, sections, and pictures held in the page itself."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any


def render(template: str, **fields: str) -> str:
    """A template of this package with its fields filled in; `$style` and `$sort_script` are filled in for every page.

    Args:
        template: the name of the file.
        **fields: HTML.
    """
    shared = {"style": read_part("style.css"), "sort_script": read_part("sort.js")}
    return Template(read_part(template)).substitute(shared, **fields)


def read_part(name: str) -> str:
    """The text of a file that lies beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def section(name: str, title: str, note: str, content: str) -> str:
    """A section; `note` and `content` are HTML."""
    return f"<section id='{name}'><h2>{title}</h2><p>{note}</p>{content}</section>"


def manifest_section(manifest: Mapping[str, Any]) -> str:
    """The facts of a run, a line each; what is no text stands as JSON."""
    lines = "".join(
        f"<tr><th scope='row'>{escape(str(key))}</th><td>{escape(_shown(value))}</td></tr>"
        for key, value in manifest.items()
    )
    table = f"<table class='manifest'>{lines}</table>"
    return section("manifest", "Manifest", "What this result was made with.", table)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def lightbox(png: bytes, alt: str, loading: str = "") -> str:
    """A picture on the dark ground it was made for; `loading` as in the `img` element's attribute."""
    return f"<figure class='lightbox'>{_image(png, alt, loading)}</figure>"


def chart(light: bytes, dark: bytes, alt: str) -> str:
    """A chart that follows the theme of the page."""
    source = f"<source media='(prefers-color-scheme: dark)' srcset='{data_uri(dark)}'>"
    return f"<figure class='chart scroll'><picture>{source}{_image(light, alt)}</picture></figure>"


def _image(png: bytes, alt: str, loading: str = "") -> str:
    width, height = struct.unpack(">II", png[16:24])  # of the PNG header, so that the page does not jump
    lazily = f" loading='{loading}'" if loading else ""
    return f"<img width='{width}' height='{height}'{lazily} alt='{escape(alt)}' src='{data_uri(png)}'>"


def data_uri(png: bytes) -> str:
    """The picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
