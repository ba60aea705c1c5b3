"""The report as one page that needs nothing else: what was promised, what was seen, and when."""

from __future__ import annotations

import html
from pathlib import Path

from storm.processes.run import Result

WIDTH, LEFT, ROW = 960, 250, 18
PLOT = 220
PROMISES = {
    "lost": "No payment without its order, no order without its payment",
    "duplicated": "Nothing is charged, made or refunded twice",
    "oversold": "Nothing is sold that is not there",
    "amount errors": "Every amount is right to the cent",
    "second receipts": "One receipt per order",
}
STYLE = """
:root{color-scheme:light dark;--ink:#15201e;--soft:#5b6663;--paper:#fffefb;--line:#dcd7ca;
--good:#0f7b55;--bad:#b3261e;--blow:#c98a1b}
@media(prefers-color-scheme:dark){:root{--ink:#ece9e1;--soft:#a3aca8;--paper:#151a19;--line:#38403d;
--good:#59c795;--bad:#ff8a80;--blow:#e0ae54}}
body{margin:0 auto;max-width:62rem;padding:2rem 1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.7rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%}td,th{padding:.35rem .6rem;border-bottom:1px solid
var(--line);text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:
tabular-nums}figure{margin:0;overflow-x:auto}svg{min-width:46rem;width:100%;height:auto}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .grid{stroke:var(--line)}
svg .fault{fill:var(--blow)}svg .order{fill:var(--good);opacity:.75}svg .calm{stroke:var(--good)}
svg .failure{fill:var(--bad)}
"""


def written(result: Result, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(_page(result))


def _page(result: Result) -> str:
    figures = result.figures()
    verdict = (
        '<p class="good"><strong>Every promise held.</strong></p>'
        if result.holds
        else '<p class="bad"><strong>Not every promise held.</strong></p>'
    )
    rows = "".join(
        f"<tr><th>{_text(promise)}</th>{_found(result.verdict.broken.get(name, []))}</tr>"
        for name, promise in PROMISES.items()
    )
    rows += f"<tr><th>No error page outside the faults</th>{_found(_outside(result))}</tr>"
    rows += f"<tr><th>Quiet within 300 s</th>{_quiet(result)}</tr>"
    rows += f"<tr><th>The shop’s own proof agrees</th>{_found([result.check] * bool(result.check))}"
    rows += "</tr>"
    if result.trouble or result.street.slips:
        rows += "<tr><th>The storm itself went well</th>"
        rows += f"{_found(result.trouble + result.street.slips)}</tr>"
    others = "".join(
        f'<tr><td>{_text(name)}</td><td class="n">{_text(value)}</td></tr>'
        for name, value in figures.items()
        if name not in (*PROMISES, "trouble", "holds", "flask check")
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Storm {result.seed} – {"held" if result.holds else "broken"}</title>
<style>{STYLE}</style></head><body>
<h1>Storm {result.seed}</h1>
<p class="soft">{result.checkouts} checkouts through {len(result.faults)} faults. What Stripe’s
stand-in, the mail server and the shop’s own export say, held against one another.</p>
{verdict}
<h2>Promises</h2><table>{rows}</table>
<h2>What happened when</h2>
<p class="soft">Above: each paid order, at the moment of its payment, and how many seconds later the
shop had confirmed it. Red: an answer of 500 or more. Below: the faults.</p>
<figure>{_timeline(result)}</figure>
<h2>Figures</h2><table>{others}</table>
</body></html>
"""


def _text(value: object) -> str:
    return html.escape("–" if value is None else str(value))


def _found(broken: list[str]) -> str:
    if not broken:
        return '<td class="good">held</td>'
    some = "<br>".join(_text(text) for text in broken[:20])
    return f'<td class="bad">{len(broken)} broken:<br>{some}</td>'


def _outside(result: Result) -> list[str]:
    return [f"{code} {path}" for _, code, path in result.failures_outside]


def _quiet(result: Result) -> str:
    if result.quiet_after_s is None:
        return _found(result.verdict.pending or ["never quiet"])
    return f'<td class="good">after {result.quiet_after_s:.0f} s</td>'


def _timeline(result: Result) -> str:
    ends = [fault.ended_at for fault in result.faults] + [at for at, _ in result.settled]
    length = max([*ends, result.calm_at, result.began_at + 1]) - result.began_at
    names = list(dict.fromkeys(fault.name for fault in result.faults))
    longest = max([wait for _, wait in result.settled] + [1.0])
    height = PLOT + 40 + ROW * len(names) + 20

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * min(1.0, max(0.0, (at - result.began_at) / length))

    def y(wait: float) -> float:  # the square root: most are soon, and a few are late
        return PLOT - (PLOT - 14) * (wait / longest) ** 0.5

    marks = []
    for part in range(5):
        wait = longest * (part / 4) ** 2
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y(wait):.1f}" y2="')
        marks.append(f'{y(wait):.1f}"/><text x="{LEFT - 8}" y="{y(wait) + 4:.1f}" ')
        marks.append(f'text-anchor="end">{wait:.1f} s</text>')
        at = result.began_at + length * part / 4
        marks.append(f'<text x="{x(at):.1f}" y="{PLOT + 18}" text-anchor="middle">')
        marks.append(f"{length * part / 4:.0f} s</text>")
    marks += [
        f'<circle class="order" cx="{x(at):.1f}" cy="{y(wait):.1f}" r="2.5"><title>paid after '
        f"{at - result.began_at:.0f} s, confirmed {wait:.1f} s later</title></circle>"
        for at, wait in result.settled
    ]
    marks += [
        f'<rect class="failure" x="{x(at) - 1:.1f}" y="{PLOT + 2}" width="2" height="6">'
        f"<title>{code} {_text(path)}</title></rect>"
        for at, code, path in result.street.failures
    ]
    for place, name in enumerate(names):
        top = PLOT + 40 + ROW * place
        marks.append(f'<text x="{LEFT - 8}" y="{top + 9}" text-anchor="end">{_text(name)}</text>')
        for fault in result.faults:
            if fault.name == name:
                wide = max(3.0, x(fault.ended_at) - x(fault.began_at))
                marks.append(f'<rect class="fault" x="{x(fault.began_at):.1f}" y="{top}" ')
                marks.append(f'width="{wide:.1f}" height="11" rx="2"><title>{_text(name)}, ')
                marks.append(f"{fault.ended_at - fault.began_at:.1f} s</title></rect>")
    calm = x(result.calm_at)
    marks.append(f'<line class="calm" x1="{calm:.1f}" x2="{calm:.1f}" y1="0" y2="{height}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Faults and orders over time">'
        f"{''.join(marks)}</svg>"
    )
