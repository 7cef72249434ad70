"""The parts of a report that are pure: escaping, layout, scales, charts of whatever a step may have written."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.report.charts import draw_confusion, draw_roc, read_confusion, read_roc, slices
from intermodal.report.layers import Size, Spacing, lay_out
from intermodal.report.markup import Markup, clean, escape, join, tag
from intermodal.report.timeline import Bar, Scale
from intermodal.report.visuals import markdown, script_hashes
from intermodal.report.words import clip, duration, number, size

SPACING = Spacing(across=10, down=20, row=5, widest=500)


def test_text_is_escaped_wherever_it_goes():
    assert (
        tag("p", "<b>&\"'", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;&quot;&#x27;</p>'
    )
    assert tag("p", [tag("i", 1), None, [Markup("<br>")]], class_="a", hidden=True, data_x=None) == (
        '<p class="a" hidden><i>1</i><br></p>'
    )
    assert join("<", Markup("<")) == "&lt;<"
    assert escape("a\x00\x1b\ud800\n") == "a\ufffd\ufffd\ufffd\n" == clean("a\x00\x1b\ud800\n")
    assert tag("br") == "<br>" and tag("path", d="M0 0") == '<path d="M0 0"></path>'


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[tuple[str, str]]]:
    """Any acyclic graph of up to a dozen nodes of any size."""
    count = draw(st.integers(1, 12))
    sizes = {str(n): Size(draw(st.integers(1, 200)), draw(st.integers(1, 100))) for n in range(count)}
    pairs = [(str(a), str(b)) for a, b in combinations(range(count), 2)]
    return sizes, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@given(graphs())
def test_nodes_never_overlap_and_edges_go_down(graph: tuple[dict[str, Size], list[tuple[str, str]]]):
    sizes, edges = graph
    layout = lay_out(sizes, edges, SPACING)
    boxes = {name: (x, y, x + sizes[name].width, y + sizes[name].height) for name, (x, y) in layout.places.items()}
    assert boxes.keys() == sizes.keys()
    for left, right in combinations(boxes.values(), 2):
        apart = left[2] <= right[0] + 1e-6 or right[2] <= left[0] + 1e-6 or left[3] <= right[1] or right[3] <= left[1]
        assert apart, (left, right)
    for x, y, right, bottom in boxes.values():
        assert x >= -1e-6 and y >= 0 and right <= layout.width + 1e-6 and bottom <= layout.height + 1e-6
    for source, target in edges:
        assert boxes[source][3] < boxes[target][1]
        route = layout.routes[source, target]
        assert all(upper[1] <= lower[1] for upper, lower in pairwise(route))


def test_long_edges_pass_beside_what_stands_between():
    sizes = dict.fromkeys("abcd", Size(100, 50))
    layout = lay_out(sizes, [("a", "b"), ("b", "c"), ("a", "c")], SPACING)
    x = layout.routes["a", "c"][1][0]
    left = layout.places["b"][0]
    assert not left < x < left + 100


def test_a_layer_too_wide_is_folded():
    layout = lay_out({str(n): Size(90, 30) for n in range(1000)}, [], SPACING)
    assert layout.width <= 500 and len({y for _, y in layout.places.values()}) == 200


def bars(*times: tuple[float, float]) -> list[Bar]:
    return [Bar(start, end, "succeeded", "") for start, end in times]


def test_times_become_shares_of_the_width():
    scale = Scale(bars((100, 150), (150, 200)))
    assert [scale(moment) for moment in (90, 100, 125, 200, 300)] == [0, 0, 25, 100, 100]
    assert Scale(bars((5, 5)))(5) == 0


def test_a_long_pause_is_cut_short():
    scale = Scale(bars((0, 100), (50, 120), (100_000, 100_100)))
    assert scale.pauses == [(120, 100_000)]
    assert scale(120) == pytest.approx(96 * 120 / 220) and scale(100_000) == pytest.approx(scale(120) + 4)
    assert scale(100_100) == pytest.approx(100)
    moments = [scale(moment) for moment in range(0, 100_100, 50)]
    assert moments == sorted(moments)
    assert Scale(bars((0, 10), (50, 60))).pauses == []  # a minute's wait is part of the picture


def test_lengths_of_time_sizes_and_numbers():
    assert [duration(s) for s in (0.0004, 0.04, 0.1, 59.94, 60, 125, 3725)] == [
        "0ms", "40ms", "0.1s", "59.9s", "1m00s", "2m05s", "1h02m",
    ]  # fmt: skip
    assert [size(count) for count in (0, 999, 1000, 2_500_000, 8 * 10**12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "2.5 MB",
        "8000 GB",
    ]
    assert [number(value) for value in (1.0, 0.123456789, 3, True, "x", None, math.inf, [1], 10**30)] == [
        "1", "0.12346", "3", "true", "x", "null", "inf", "[1]", str(10**30),
    ]  # fmt: skip
    assert clip("abcdef", 4) == "abc…"


MATRIX = {"annotationSpecs": [{"displayName": "a"}, {"displayName": "b"}], "rows": [{"row": [1, 2]}, {"row": [0, 0]}]}


@pytest.mark.parametrize(
    "broken",
    [
        None, 3, [], {}, {"annotationSpecs": 3}, MATRIX | {"rows": [{"row": [1, 2]}]}, MATRIX | {"rows": [{"row": [1]}, {"row": [2]}]},
        MATRIX | {"rows": [{"row": ["<script>", 1]}, {"row": [1, 1]}]}, MATRIX | {"rows": [{"row": [math.nan, 1]}, {"row": [1, 1]}]},
        {"annotationSpecs": [{"displayName": str(n)} for n in range(99)], "rows": [{"row": [0] * 99}] * 99},
    ],
)  # fmt: skip
def test_what_is_no_confusion_matrix_is_not_drawn(broken: Any):
    assert read_confusion({"confusionMatrix": broken}) is None


def test_a_confusion_matrix_is_coloured_by_its_rows():
    for wrapped in (MATRIX, {"struct": MATRIX}):  # as newer and older SDKs write it
        found = read_confusion({"confusionMatrix": wrapped})
        assert found is not None and found.rows == ((1, 2), (0, 0))
        drawn = draw_confusion(found)
        assert (
            '--share:0.333" class="right"' in drawn and '--share:0.667" class="wrong"' in drawn and "NaN" not in drawn
        )


@pytest.mark.parametrize("broken", [None, 3, {}, [], [3], [{"recall": 1}], [{"recall": "x", "falsePositiveRate": 0}]])
def test_what_is_no_roc_curve_is_not_drawn(broken: Any):
    assert read_roc({"confidenceMetrics": broken}) is None


def test_a_roc_curve_has_its_area_whatever_the_order_and_the_number_of_points():
    points = [
        {"falsePositiveRate": n / 5000, "recall": math.sqrt(n / 5000), "confidenceThreshold": 1} for n in range(5001)
    ]
    found = read_roc({"confidenceMetrics": {"list": points[::-1]}})
    assert found is not None and found.area == pytest.approx(2 / 3, abs=1e-3)
    assert len(draw_roc(found)) < 20_000
    odd = read_roc({"confidenceMetrics": [{"falsePositiveRate": -1, "recall": 7}]})
    assert odd is not None and "-240" not in draw_roc(odd)


def test_slices_are_drawn_one_by_one():
    inside = {"confusionMatrix": MATRIX}
    given_ = {"evaluationSlices": [{"slice": "young", "sliceClassificationMetrics": inside}, {"slice": 3}, "x"]}
    assert slices(given_) == [("young", inside)]
    assert slices({}) == slices({"evaluationSlices": 3}) == []


def test_markdown_is_rendered_and_html_in_it_is_text():
    page = markdown(
        "# T\n\n<script>x</script> **b** ~~s~~ [l](javascript:alert(1)) [k](https://example.com) ![i](https://x/y.png)\n\n|a|\n|-|\n|1|\n"
    )
    assert "<h1>T</h1>" in page and "<strong>b</strong>" in page and "<s>s</s>" in page and "<table>" in page
    assert (
        "<script" not in page
        and "<img" not in page
        and 'href="javascript' not in page
        and 'href="https://example.com"' in page
    )


def test_the_scripts_of_a_page_are_named_by_hash():
    # sha256 of `let a = "<b>";` and of the empty text, base64, as `openssl dgst -sha256 -binary | base64` gives them.
    page = '<p>x<script type="x">let a = "<b>";</script><SCRIPT></SCRIPT><script src="y.js">ignored</script><!--<script>no</script>-->'
    assert script_hashes(page) == [
        "'sha256-Yec60kKRbfUEVY+af2er7srYeGCy7INO1VppjnXhVdM='",
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    ]
