"""The report: it opens offline, escapes what it is given, and its bars and cards say what the numbers say."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from panfit.charts import curve_chart
from panfit.evaluate import METRICS, Result
from panfit.heat import color_bar
from panfit.report import Card, Look, Report, Row, render

ODD = "<script>alert(\"1\")</script> & 'Mädchen' 100% {x} http"
VOID = {"meta", "img", "br", "use", "path"}


def result(value: float) -> Result:
    """A Result whose every metric is ``value``."""
    return Result(
        split="test",
        negatives="random",
        fitb=value,
        auc=value,
        ndcg=value,
        ndcg_plain=value,
        relaxed=dict.fromkeys(METRICS, value + 0.01),
        ci95=dict.fromkeys(METRICS, (value - 0.02, value + 0.03)),
        users=5,
        questions=9,
        seconds=1.0,
        dataset="odd",
        checksum="0",
        user_ids=(),
        values={},
        num_questions=np.zeros(0, dtype=np.int64),
    )


@pytest.fixture
def report(rng: np.random.Generator) -> Report:
    def photo() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))

    card = Card((photo(), photo()), (ODD, "jeans"), general=0.5, personal=-1.25, note=ODD)
    look = Look(ODD, ODD, (photo(), photo()), (ODD, ODD))
    return Report(
        title=ODD,
        lead=ODD,
        facts=[(ODD, ODD)],
        rows=[Row(ODD, ODD, result(0.7), result(0.6)), Row("UL", "", result(0.8), result(0.45))],
        ceiling=Row("ceiling", ODD, result(0.9), result(0.9)),
        curves={ODD: ([1, 2], [0.5, 0.6]), "UL": ([1, 2], [0.5, 0.6])},
        user=ODD,
        user_note=ODD,
        liked=[card],
        recommended=[replace(card, general=2.5)],
        looks=[look, look],
        slots=[ODD, "bottom"],
        attention=[ODD],
        color_bar=color_bar(),
        config='title = "<b>"',
        environment={ODD: ODD},
        seconds={"drawing": 1.0, "training": 2.4},
    )


class _Page(HTMLParser):
    """Which elements there are, and whether every one that opens is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_nothing_refers_outside(report: Report) -> None:
    page = render(report).replace("{x} http", "")
    assert not re.search(r"https?:|//[a-z]|@import|<link|<script|url\((?!#)", page)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)


def test_odd_texts_are_escaped_and_the_page_is_well_formed(report: Report) -> None:
    html = render(report)
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.seen
    assert page.seen.count("svg") == 2
    assert "&lt;script&gt;" in html
    assert "Mädchen" in html


def test_bars_run_from_chance_to_the_ceiling_and_parts_add_up(report: Report) -> None:
    page = render(report)
    assert "width: 50.0%" in page  # AUC .7 between chance .5 and the ceiling .9
    assert "width: 0.0%" in page  # AUC .45 on hard negatives is below chance: an empty bar, not a negative one
    assert 'class="total number">-0.75</span>' in page
    assert 'class="total number">+1.25</span>' in page
    assert "left: 25.0%; width: 25.0%" in page  # personal -1.25 of a reach of 2.5: left of the middle
    assert "3 s" in page


def test_a_report_without_cards_still_renders(report: Report) -> None:
    assert "<h1>" in render(replace(report, liked=[], recommended=[], looks=[], seconds={}))


def test_labels_of_equal_curves_do_not_lie_on_each_other() -> None:
    chart = curve_chart({"a": ([0, 1], [0.2, 0.5]), "b": ([0, 1], [0.1, 0.5])}, x_label="x", y_label="y")
    heights = [float(y) for y in re.findall(r'fill: var\(--series-\d\)"[^>]* y="([\d.]+)"', chart)]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) > 8
