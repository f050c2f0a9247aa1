"""The look of a report: one style sheet inside the page, for light and dark, for screens and phones and paper."""

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--text:#1c2127;--soft:#5d6670;--line:#d8dde2;--panel:#f5f7f9;
--was:#b9c1c9;--now:#2f6fd0;--bad:#c4314b;--warn:#b26b00;--good:#2c7a3f}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--text:#e4e7ea;--soft:#9aa4ae;--line:#333a41;--panel:#1c2126;
--was:#59636d;--now:#6aa5ff;--bad:#ff7286;--warn:#f0a53a;--good:#63c17a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.25rem 0 .5rem}
a{color:var(--now)}
.soft{color:var(--soft)}
.bad{color:var(--bad)}
.warn{color:var(--warn)}
.good{color:var(--good)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.5rem}
.card{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem}
.card b{display:block;font-size:1.25rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;overflow-wrap:break-word}
td{min-width:4rem;max-width:24rem}
td:last-child:not(.n){min-width:14rem}
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}
.n{text-align:right;white-space:nowrap}
details{margin:.5rem 0}
details.column{border:1px solid var(--line);border-radius:6px;padding:0 .75rem;background:var(--panel)}
details.column[open]{padding-bottom:.75rem}
summary{cursor:pointer;padding:.4rem 0}
summary b{margin-right:.5rem}
figure{margin:.5rem 0}
figcaption{color:var(--soft);font-size:.85rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:0 1.5rem}
.chart{display:block;width:100%;height:7.5rem;background:var(--bg);border:1px solid var(--line)}
.ends{display:flex;justify-content:space-between;gap:1rem;color:var(--soft);font-size:.8rem}
.was{fill:var(--was)}
.now{fill:var(--now)}
.line{fill:none;stroke:var(--now);stroke-width:1.5;vector-effect:non-scaling-stroke}
.band{fill:var(--now);fill-opacity:.18}
.thin{fill:none;stroke:var(--soft);stroke-width:1;vector-effect:non-scaling-stroke}
.hints rect{fill:transparent}
.hints rect:hover{fill:var(--text);fill-opacity:.08}
.mark{stroke:var(--bad);stroke-width:1;stroke-dasharray:4 3;vector-effect:non-scaling-stroke}
.key{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;margin:0 .3rem 0 .8rem;vertical-align:baseline}
.key.was{background:var(--was)}
.key.now{background:var(--now)}
.key.band{background:var(--now);opacity:.3}
.key.thin{background:var(--soft)}
.track{position:relative;height:.8rem;min-width:12rem;background:var(--panel);border:1px solid var(--line)}
.track i{position:absolute;top:0;bottom:0;min-width:3px;border-radius:2px;background:var(--warn)}
.track i.critical{background:var(--bad)}
.track i.info{background:var(--soft)}
@media print{details{break-inside:avoid}}
"""
