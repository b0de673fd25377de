"""Drawings: the rails line by line, the layout by its promises, SVG and PNG as files of their kind."""

import itertools
import struct
import sys
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlayers as jl
from jlayers.inspect.draw import draw
from jlayers.inspect.draw.diagram import diagram
from jlayers.inspect.draw.layout import layout
from jlayers.inspect.draw.picture import png, svg

SVG = "{http://www.w3.org/2000/svg}"


@jl.layer
def Total():
    return (lambda key, *xs: {}), (lambda params, *xs: sum(xs[1:], xs[0]))


@jl.layer
def Joined():
    return (lambda key, *xs: {}), (lambda params, *xs: jnp.concatenate(xs, -1))


def classifier():
    return jl.Sequential(jl.Flatten(), jl.Dense(64, activation="relu"), jl.Dense(10, activation="softmax"))


def residual(blocks=2):
    image = x = jl.Input((32,), name="image")
    for _ in range(blocks):
        y = jl.Dense(32)(jl.Dense(32, activation="relu")(x))
        x = jl.Activation("relu")(Total()(x, y))
    return jl.Model(image, jl.Dense(10)(x))


def twin():
    left, right = jl.Input((4,), name="left"), jl.Input((4,), name="right")
    encode = jl.Dense(8, name="encode")
    a, b = encode(left), encode(right)
    head = jl.Sequential(jl.Dense(16, activation="relu"), jl.Dense(8), name="head")
    h = head(Joined()(a, b))
    outputs = {"y": jl.Dense(2, name="last")(h), "same": jl.Dense(1)(Total()(a, b, h))}
    return jl.freeze(jl.Model([left, right], outputs), "encode")


def dense_net(n=4):
    x = jl.Input((8,), name="x")
    parts = [x]
    for _ in range(n):
        parts.append(jl.Dense(8)(Joined()(*parts) if len(parts) > 1 else x))
    return jl.Model(x, jl.Dense(1)(Joined()(*parts)))


# -------------------------------------------------------------------------------------------- text


def test_a_chain_without_shapes_and_with_them():
    assert draw(classifier()).splitlines() == [
        "○  input    Input",
        "●  flatten  Flatten()",
        "●  dense    Dense(64, activation='relu')",
        "●  dense_1  Dense(10, activation='softmax')",
    ]
    assert draw(classifier(), inputs=(32, 8, 8, 1)).splitlines()[1:3] == [
        "●  flatten  Flatten()                        (32, 64)",
        "●  dense    Dense(64, activation='relu')     (32, 64)",
    ]


def test_the_input_of_a_sequential_is_drawn_once():
    model = jl.Sequential(jl.Input((4,), name="features"), jl.Dense(2))
    assert draw(model).splitlines() == [
        "○  features  Input     (None, 4)",
        "●  dense     Dense(2)  (None, 2)",
    ]


def test_skip_connections():
    assert draw(residual()).splitlines() == [
        "○    image         Input                         (None, 32)",
        "├─╮",
        "│ ●  dense         Dense(32, activation='relu')  (None, 32)",
        "│ ●  dense_1       Dense(32)                     (None, 32)",
        "├─╯",
        "●    total         Total()                       (None, 32)",
        "●    activation    Activation('relu')            (None, 32)",
        "├─╮",
        "│ ●  dense_2       Dense(32, activation='relu')  (None, 32)",
        "│ ●  dense_3       Dense(32)                     (None, 32)",
        "├─╯",
        "●    total_1       Total()                       (None, 32)",
        "●    activation_1  Activation('relu')            (None, 32)",
        "●    dense_4       Dense(10)                     (None, 10)",
    ]


def test_several_inputs_and_outputs_shared_frozen_and_nested():
    assert draw(twin()).splitlines() == [
        "○      left                     Input       (None, 4)",
        "│ ○    right                    Input       (None, 4)",
        "● │    encode (frozen)          Dense(8)    (None, 8)",
        "│ ●    encode (frozen, shared)  Dense(8)    (None, 8)",
        "├─┼─╮",
        "│ │ ●  joined                   Joined()    (None, 16)",
        "│ │ ◉  head                     Sequential  (None, 8)",
        "├─┴─┤",
        "●   │  total                    Total()     (None, 8)",
        "●   │  dense                    Dense(1)    (None, 1)",
        "│   ●  last                     Dense(2)    (None, 2)",
        "◇   │  same                     Output",
        "    ◇  y                        Output",
    ]


def test_crossing_lanes_are_not_joined():
    lines = [line.split("  ")[0] for line in draw(dense_net(3)).splitlines()]
    assert lines == ["○", "├─╮", "│ ●", "├─┼─╮", "│ │ ●", "│ │ ●", "├─┼─┼─╮", "│ │ │ ●", "│ │ │ ●",
                     "├─┴─┴─╯", "●", "●"]  # fmt: skip
    x = jl.Input((8,), name="x")
    branches = [jl.Dense(2)(x), jl.Dense(3)(x), jl.Dense(4)(x)]
    lines = [line.split("  ")[0] for line in draw(jl.Model(x, Joined()(*branches))).splitlines()]
    assert lines == ["○", "├─╮", "│ ●", "├─│─╮", "│ │ ●", "● │ │", "├─┴─╯", "●"]


def test_depth():
    names = [[box.name for box in diagram(twin(), None, depth).boxes] for depth in (0, 1, None)]
    assert names[0] == ["left", "right", "model", "same", "y"]
    assert "head" in names[1]
    assert names[2][5:7] == ["head/dense", "head/dense_1"]


def test_an_output_used_inside_is_shown():
    x = jl.Input((4,), name="x")
    h = jl.Dense(3)(x)
    boxes = diagram(jl.Model(x, [h, jl.Dense(2)(h)]), None, 1).boxes
    assert [(b.name, b.kind) for b in boxes[-2:]] == [("output_0", "output"), ("output_1", "output")]


def test_an_inner_shared_container_is_opened_at_each_use():
    shared = jl.Sequential(jl.Dense(4), jl.Dense(4), name="tower")
    a, b = jl.Input((4,), name="a"), jl.Input((4,), name="b")
    drawn = diagram(jl.Model([a, b], Total()(shared(a), shared(b))), None, None)
    assert [(box.name, box.shared) for box in drawn.boxes[2:6]] == [
        ("tower/dense", False), ("tower/dense_1", False), ("tower/dense", True), ("tower/dense_1", True)
    ]  # fmt: skip
    assert drawn.edges == ((0, 2), (2, 3), (1, 4), (4, 5), (3, 6), (5, 6))


def test_single_layers_and_tuple_outputs():
    assert draw(jl.Dense(3), inputs=(2, 4)).splitlines() == [
        "○  input  Input     (2, 4)",
        "●  dense  Dense(3)  (2, 3)",
    ]
    x = jl.Input((5, 3), name="x")
    y, _h, c = jl.LSTM(4, return_state=True)(x)
    drawn = diagram(jl.Model(x, Joined()(y, c)), None, 1)
    assert drawn.boxes[1].shapes == ("(None, 4)",) * 3
    assert drawn.edges == ((0, 1), (1, 2))


# ------------------------------------------------------------------------------------------ layout

GRAPHS = {
    "residual": residual,
    "twin": twin,
    "dense_net": dense_net,
    "deep": lambda: residual(30),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_no_boxes_overlap_and_edges_point_down(name):
    drawn = diagram(GRAPHS[name](), None, None)
    sizes = [(60.0 + 13 * (i % 7), 50.0) for i in range(len(drawn.boxes))]
    places = layout(sizes, drawn.edges)
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(places.corners, sizes, strict=True)]
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in itertools.combinations(boxes, 2):
        assert r1 < l2 or r2 < l1 or b1 < t2 or b2 < t1
    for (source, target), path in zip(drawn.edges, places.paths, strict=True):
        assert path[0][1] == pytest.approx(boxes[source][3])
        assert path[-1][1] == pytest.approx(boxes[target][1])
        assert boxes[target][0] <= path[-1][0] <= boxes[target][2]
        heights = [y for _, y in path]
        assert heights == sorted(heights)
    for x, y in (point for path in places.paths for point in path):
        assert 0 <= x <= places.width
        assert 0 <= y <= places.height


@pytest.mark.parametrize("name", GRAPHS)
def test_no_edge_runs_through_a_box(name):
    drawn = diagram(GRAPHS[name](), None, None)
    sizes = [(90.0, 50.0)] * len(drawn.boxes)
    places = layout(sizes, drawn.edges)
    t = np.linspace(0, 1, 21)[:, None]
    for edge, path in zip(drawn.edges, places.paths, strict=True):
        for i in range(0, len(path) - 1, 3):
            a, b, c, d = map(np.array, path[i : i + 4])
            curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
            for number, (x, y) in enumerate(places.corners):
                if number not in edge:
                    inside = (
                        (curve[:, 0] > x)
                        & (curve[:, 0] < x + 90)
                        & (curve[:, 1] > y)
                        & (curve[:, 1] < y + 50)
                    )
                    assert not inside.any()


def test_the_trunk_of_a_residual_network_is_straight():
    drawn = diagram(residual(5), None, None)
    sizes = [(80.0 + 10 * (i % 3), 50.0) for i in range(len(drawn.boxes))]
    places = layout(sizes, drawn.edges)
    middles = {round(x + w / 2, 6) for (x, _), (w, _) in zip(places.corners, sizes, strict=True)}
    assert len(middles) == 1


def test_few_crossings():
    """Two chains that are listed crosswise are laid side by side."""
    edges = [(0, 3), (1, 2), (2, 5), (3, 4)]
    places = layout([(50.0, 30.0)] * 6, edges)
    x = [corner[0] for corner in places.corners]
    assert x[0] == x[3] == x[4]
    assert x[1] == x[2] == x[5]


# ---------------------------------------------------------------------------------------- pictures


def test_svg_is_well_formed_and_complete():
    drawn = diagram(twin(), None, 1)
    root = ElementTree.fromstring(svg(drawn))
    texts = [e.text for e in root.iter(SVG + "text")]
    for box in drawn.boxes:
        assert any(t.startswith(box.name) for t in texts)
    assert "(None, 16)" in texts
    assert len(list(root.iter(SVG + "path"))) == len(drawn.edges)
    titles = [e.text for e in root.iter(SVG + "title")]
    assert any("Dense(16, activation='relu')" in t for t in titles)  # inside the folded head


def test_svg_shades_frozen_layers():
    root = ElementTree.fromstring(svg(diagram(twin(), None, 1)))
    dashed = [e for e in root.iter(SVG + "rect") if e.get("stroke-dasharray")]
    assert len(dashed) == 2


def test_svg_escapes_text():
    @jl.layer
    def DrawOdd(text: str):
        return (lambda key, x: {}), (lambda params, x: x)

    document = svg(diagram(jl.Sequential(DrawOdd("<a & b>")), None, 1))
    texts = [e.text for e in ElementTree.fromstring(document).iter(SVG + "text")]
    assert any("<a & b>" in text for text in texts)


def test_png_is_an_image_of_the_layout():
    pytest.importorskip("matplotlib")
    data = png(diagram(twin(), None, 1))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    root = ElementTree.fromstring(svg(diagram(twin(), None, 1)))
    width, height = struct.unpack(">II", data[16:24])
    assert width == pytest.approx(2 * int(root.get("width")), abs=3)
    assert height == pytest.approx(2 * int(root.get("height")), abs=3)


@pytest.mark.parametrize("suffix", [".txt", ".svg", ".png"])
def test_files(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    lines = draw(residual(), file)
    assert lines == draw(residual())
    start = {".txt": "○".encode(), ".svg": b"<svg", ".png": b"\x89PNG"}[suffix]
    assert file.read_bytes().startswith(start)


def test_unknown_suffix_teaches(tmp_path):
    with pytest.raises(ValueError, match=r"ending with \.svg, \.png or \.txt, received file='model\.pdf'"):
        draw(classifier(), "model.pdf")


def test_png_without_matplotlib_teaches(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ModuleNotFoundError, match=r"jlayers\[plot\].*\.svg"):
        draw(classifier(), tmp_path / "model.png")


def test_drawing_a_large_model_computes_nothing():
    model = jl.Sequential(jl.Input((1_000_000,)), jl.Dense(1_000_000))
    assert "(None, 1000000)" in draw(model)
    assert not jax.live_arrays() or max(a.size for a in jax.live_arrays()) < 10**9
