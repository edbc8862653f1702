"""What panfit's pages share: the frame of one HTML file that opens offline, its facts and lists; a Markdown table.

Plain text is escaped here; markup that a caller made is taken as it is.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


def html_page(title: str, sections: Iterable[str]) -> str:
    """A whole file: the sections' markup under panfit's style sheet, light and dark, without any outside reference."""
    style = files("panfit").joinpath("report.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - panfit</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def page_header(kicker: str, title: str, lead: str, facts: Iterable[tuple[str, str]], *, banner: str = "") -> str:
    """The top of a page. ``facts``: (value, what it is), large; ``banner``: markup between the title and the lead."""
    shown = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in facts)
    return (
        f'<header>\n<p class="kicker">{escape(kicker)}</p>\n<h1>{escape(title)}</h1>\n{banner}'
        f'<p class="lead">{escape(lead)}</p>\n<ul class="facts">{shown}</ul>\n</header>'
    )


def definitions(pairs: Iterable[tuple[str, str]], *, last: str = "") -> str:
    """A list of (term, what it is); ``last``: markup of one more line."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in pairs)
    return f"<dl>{lines}{last}</dl>"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell becomes a slash."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
