"""The demo's report: plain values -> one HTML file that opens offline, in light and in dark.

Knows no model and no data set: whoever makes a `Report` has measured already. Every text is escaped, every picture is
inside the page, and nothing in it refers to another place.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from PIL import Image

from panfit.charts import Interval, curve_chart, interval_chart
from panfit.evaluate import Result
from panfit.page import definitions, html_page, page_header

CHANCE = {"auc": 0.5, "fitb": 0.25}
"""What guessing scores: FITB has four candidates."""


@dataclass(frozen=True, eq=False)
class Row:
    """One recipe's results on test.

    Attributes:
        name, note: what it is called, and what it does in a few words.
        random, hard: results against random and against hard negatives.
    """

    name: str
    note: str
    random: Result
    hard: Result


@dataclass(frozen=True, eq=False)
class Card:
    """An outfit as a card.

    Attributes:
        photos, titles: of its items, in slot order.
        general, personal: the two parts of its score.
        note: one more line.
    """

    photos: tuple[Image.Image, ...]
    titles: tuple[str, ...]
    general: float
    personal: float
    note: str = ""

    @property
    def score(self) -> float:
        return self.general + self.personal


@dataclass(frozen=True, eq=False)
class Look:
    """Where one user looks on the items of an outfit.

    Attributes:
        user, note: whose eyes, and what this user is known to care about.
        pictures: heat maps on the photos, in slot order.
        captions: a line under each.
    """

    user: str
    note: str
    pictures: tuple[Image.Image, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything the page says."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    """(value, what it is), large."""
    rows: Sequence[Row]
    ceiling: Row
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Recipe -> (epochs, validation AUC of binary codes)."""
    user: str
    user_note: str
    liked: Sequence[Card]
    recommended: Sequence[Card]
    looks: Sequence[Look]
    slots: Sequence[str]
    attention: Sequence[str]
    """Sentences on where attention looks, beside where it should."""
    color_bar: Image.Image
    config: str
    environment: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)


def render(report: Report) -> str:
    """The page."""
    body = [
        page_header("panfit demo", report.title, report.lead, report.facts),
        _results(report),
        _outfits(report),
        _looks(report),
        _making(report),
    ]
    return html_page(report.title, body)


def _results(report: Report) -> str:
    columns = [
        ("AUC", "random negatives", "random", "auc"),
        ("AUC", "hard negatives", "hard", "auc"),
        ("FITB", "4 candidates", "random", "fitb"),
        ("NDCG", "all ranks", "random", "ndcg"),
    ]
    head = "".join(f"<th>{name}<br>{what}</th>" for name, what, _, _ in columns)
    lines = []
    for place, row in enumerate(report.rows, start=1):
        cells = "".join(
            _cell(getattr(row, negatives), getattr(report.ceiling, negatives), metric)
            for _, _, negatives, metric in columns
        )
        name = f'<span class="swatch"></span><b>{escape(row.name)}</b><small>{escape(row.note)}</small>'
        lines.append(f'<tr style="--series: var(--series-{place})"><td>{name}</td>{cells}</tr>')
    cells = "".join(
        f"<td>{getattr(getattr(report.ceiling, negatives), metric):.3f}</td>" for _, _, negatives, metric in columns
    )
    ceiling = f"<td>{escape(report.ceiling.name)}<small>{escape(report.ceiling.note)}</small></td>"
    panels = {
        "AUC, random negatives": {row.name: _interval(row.random, "auc") for row in report.rows},
        "AUC, hard negatives": {row.name: _interval(row.hard, "auc") for row in report.rows},
    }
    ceilings = dict(zip(panels, (report.ceiling.random.auc, report.ceiling.hard.auc), strict=True))
    chart = interval_chart(panels, ceilings=ceilings, chance=dict.fromkeys(panels, CHANCE["auc"]))
    return (
        "<section>\n<h2>The paper&rsquo;s ablation, in small</h2>\n"
        "<p>Test outfits are made of garments that no training outfit wears. Large: binary codes, with the 95% "
        "interval over users; small: relaxed codes. The bar runs from chance to the ceiling, which is what a scorer "
        "reaches that knows every user&rsquo;s true taste. Hard negatives are other users&rsquo; likes.</p>\n"
        f'<div class="panel"><table><thead><tr><th>recipe</th>{head}</tr></thead><tbody>{"".join(lines)}'
        f'<tr class="ceiling">{ceiling}{cells}</tr></tbody></table></div>\n'
        f'<div class="panel">{chart}<p class="small soft" style="margin: 8px 0 0">Filled: binary codes with their '
        "95% interval. Hollow: relaxed codes.</p></div>\n"
        "<h3>While training</h3>\n"
        f'<div class="panel">{curve_chart(report.curves, x_label="epoch", y_label="validation AUC, binary codes")}'
        "</div>\n</section>"
    )


def _cell(result: Result, ceiling: Result, metric: str) -> str:
    value, best = getattr(result, metric), getattr(ceiling, metric)
    low, high = result.ci95[metric]
    chance = CHANCE.get(metric, 0.0)
    share = min(1.0, max(0.0, (value - chance) / (best - chance))) if best > chance else 0.0
    return (
        f'<td><b>{value:.3f}</b><span class="meter"><i style="width: {share:.1%}"></i></span>'
        f"<small>{low:.3f} &ndash; {high:.3f}</small><small>relaxed {result.relaxed[metric]:.3f}</small></td>"
    )


def _interval(result: Result, metric: str) -> Interval:
    low, high = result.ci95[metric]
    return Interval(getattr(result, metric), low, high, result.relaxed[metric])


def _outfits(report: Report) -> str:
    cards = [*report.liked, *report.recommended]
    reach = max([abs(part) for card in cards for part in (card.general, card.personal)], default=1.0) or 1.0
    return (
        f"<section>\n<h2>What {escape(report.user)} likes, and what to wear next</h2>\n"
        f"<p>{escape(report.user_note)}</p>\n"
        f'<h3>Liked in training</h3>\n<div class="cards">{_cards(report.liked, reach)}</div>\n'
        f'<h3>Recommended, of test garments</h3>\n<div class="cards">{_cards(report.recommended, reach)}</div>\n'
        '<p class="small soft" style="margin-top: 16px">A score is the sum of two parts: how well the items go '
        "together for anybody (general), and how much this user likes each of them (personal).</p>\n</section>"
    )


def _cards(cards: Iterable[Card], reach: float) -> str:
    return "".join(_card(card, reach) for card in cards)


def _card(card: Card, reach: float) -> str:
    photos = "".join(_image(photo, title) for photo, title in zip(card.photos, card.titles, strict=True))
    note = f"<br>{escape(card.note)}" if card.note else ""
    return (
        f'<article class="card"><div class="photos">{photos}</div>'
        f'<div class="titles">{" &middot; ".join(map(escape, card.titles))}{note}</div><div class="split">'
        f"{_part('general', card.general, reach, 'var(--second)')}"
        f"{_part('personal', card.personal, reach, 'var(--accent)')}"
        f'<span class="total">score</span><span></span><span class="total number">{card.score:+.2f}</span>'
        "</div></article>"
    )


def _part(name: str, value: float, reach: float, color: str) -> str:
    """A bar that starts at zero, in the middle, and goes to the right for what speaks for the outfit."""
    width = abs(value) / reach * 50
    left = 50.0 if value >= 0 else 50.0 - width
    return (
        f'<span>{name}</span><span class="signed" style="--bar: {color}; --zero: 50%">'
        f'<i style="left: {left:.1f}%; width: {width:.1f}%"></i></span><span class="number">{value:+.2f}</span>'
    )


def _looks(report: Report) -> str:
    heads = "".join(f'<div class="head">{escape(slot)}</div>' for slot in report.slots)
    rows = []
    for look in report.looks:
        figures = "".join(
            f"<figure>{_image(picture, f'where {look.user} looks')}<figcaption>{escape(caption)}</figcaption></figure>"
            for picture, caption in zip(look.pictures, look.captions, strict=True)
        )
        rows.append(f'<div class="who"><b>{escape(look.user)}</b>{escape(look.note)}</div>{figures}')
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in report.attention)
    return (
        f"<section>\n<h2>The same outfit, through two users&rsquo; eyes</h2>\n{sentences}\n"
        f'<div class="panel"><div class="looks" style="--columns: {len(report.slots)}"><div></div>{heads}'
        f'{"".join(rows)}</div><div class="scale">looks less than others '
        f'{_image(report.color_bar, "color scale")} looks more<span class="outline"></span> '
        "the regions this user truly cares about</div></div>\n</section>"
    )


def _making(report: Report) -> str:
    seconds = [(name, f"{value:.0f} s") for name, value in report.seconds.items()]
    total = f"<dt>together</dt><dd><b>{sum(report.seconds.values()):.0f} s</b></dd>"
    return (
        f'<section>\n<h2>How this was made</h2>\n<div class="panel"><h3 style="margin-top: 0">Time</h3>'
        f"{definitions(seconds, last=total)}<h3>Environment</h3>{definitions(report.environment.items())}"
        f"<details><summary>Settings</summary><pre>{escape(report.config)}</pre></details></div>\n</section>"
    )


def _image(image: Image.Image, alt: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
