"""HTML as a tree of elements; every text is escaped when the tree is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

__all__ = ["Element", "element", "inline_svg", "page", "table"]

Element = ElementTree.Element

# What a page may load or run: nothing but its own style and pictures that it holds itself.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SVG = {"svg", "g", "defs", "path", "use", "clipPath", "rect", "circle", "text", "tspan", "image"}
_LINK = "{http://www.w3.org/1999/xlink}href"


def element(tag: str, *children: Any, **attributes: Any) -> Element:
    """An element; children are elements, texts, None for nothing, or iterables of these.

    Names of attributes are written with `_` for `-`; `class_` is `class`.

    >>> ElementTree.tostring(element("p", "a < b ", element("b", "!"), class_="x"), "unicode", "html")
    '<p class="x">a &lt; b <b>!</b></p>'
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    made = Element(
        tag, {names[n]: _clean(str(value)) for n, value in attributes.items() if value is not None}
    )
    _fill(made, children)
    return made


def _fill(parent: Element, children: Iterable[Any]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif isinstance(child, (str, int, float)):
            text = _clean(str(child))
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + text
            else:
                parent.text = (parent.text or "") + text
        else:
            _fill(parent, child)


def _clean(text: str) -> str:
    """A text without the characters that a page cannot hold."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]], **attributes: Any) -> Element:
    """A table whose first column names its rows; on a narrow screen it scrolls by itself."""
    made = [
        element("tr", [element("td" if place else "th", cell) for place, cell in enumerate(row)])
        for row in rows
    ]
    head = [element("th", cell) for cell in head]
    parts = [element("thead", element("tr", head))] if head else []
    return element("div", element("table", parts, element("tbody", made), **attributes), class_="wide")


def inline_svg(document: str, number: int, label: str) -> Element:
    """A picture of ours as a part of a page: only what draws is kept, and names are made its own.

    Args:
        document: an SVG document.
        number: number of the picture on the page.
        label: what it shows, for who cannot see it.
    """
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", document))
    made = _drawn(root, f"s{number}-")
    assert made is not None
    made.set("role", "img")
    made.set("aria-label", _clean(label))
    return made


def _drawn(node: Element, own: str) -> Element | None:
    tag = node.tag.partition("}")[2]
    if tag not in _SVG:
        return None
    made = Element(tag)
    for name, value in node.attrib.items():
        if name == "id":
            value = own + value
        elif name == _LINK:
            name, value = "href", f"#{own}{value[1:]}" if value.startswith("#") else value
            if not value.startswith(("#", "data:image/png;base64,")):
                continue
        elif name.startswith(("{", "on")):
            continue
        made.set(name, value.replace("url(#", f"url(#{own}"))
    made.text, made.tail = node.text, node.tail
    made.extend(child for one in node if (child := _drawn(one, own)) is not None)
    return made


def page(title: str, style: str, *body: Any) -> str:
    """A whole document, complete in itself."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", style),
    )
    whole = element("html", head, element("body", *body), lang="en")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(whole, "unicode", "html") + "\n"
