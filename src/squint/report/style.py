"""The look of a page, as one style sheet: two themes, wide and narrow screens, paper."""

from squint.evaluate.figures import DARK, LIGHT, Theme


def sheet() -> str:
    """The style sheet."""
    themes = (
        f":root{{{_colours(LIGHT, quiet='#565663', wash='#f4f4f7', heat='213 94 0')}}}",
        "@media screen and (prefers-color-scheme:dark){"
        f":root{{{_colours(DARK, quiet='#a3a4b3', wash='#1f2029', heat='242 142 76')}}}}}",
    )
    runs = "".join(f".s{n}{{--run:var(--s{n})}}" for n in range(len(LIGHT.series)))
    return "".join(themes) + runs + _RULES


def _colours(theme: Theme, *, quiet: str, wash: str, heat: str) -> str:
    series = "".join(f"--s{n}:{colour};" for n, colour in enumerate(theme.series))
    named = f"--paper:{theme.paper};--ink:{theme.ink};--faint:{theme.faint};"
    return f"{named}--quiet:{quiet};--wash:{wash};--heat:{heat};{series}"


_RULES = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
 font-variant-numeric:tabular-nums}
main,header,footer{max-width:1140px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{font-size:30px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:21px;margin:44px 0 12px;padding-top:14px;border-top:1px solid var(--faint)}
h3{font-size:16px;margin:28px 0 8px}
h4{font-size:14px;margin:18px 0 6px}
p{margin:8px 0;max-width:80ch}
a{color:var(--s0)}
nav a{margin-right:18px}
small,.quiet,.note,footer,.key{color:var(--quiet)}
small{font-size:12.5px;font-weight:400}
.note{font-size:14px}
.alert{border-left:3px solid var(--s1);padding:4px 12px;background:var(--wash);max-width:none}
.alert,.note,li,td code,.facts td{overflow-wrap:anywhere}
.facts td{min-width:150px}
code,pre,.key{
 font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{background:var(--wash);padding:1px 5px;border-radius:3px;overflow-wrap:anywhere}
pre{background:var(--wash);padding:10px 14px;border-radius:4px;white-space:pre-wrap;
 overflow-wrap:anywhere;margin:6px 0 14px}
pre code{padding:0;background:none}
.wide{overflow-x:auto;margin:8px 0 14px}
.wide:focus-visible{outline:2px solid var(--s0)}
table{border-collapse:collapse;font-size:14px}
caption{text-align:left;font-weight:600;padding:4px 0}
th,td{padding:5px 14px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--wash)}
thead th{border-bottom:1px solid var(--faint);font-weight:600;vertical-align:bottom}
tbody th{font-weight:400;min-width:110px}
td{min-width:70px}
td small,th small{display:block;white-space:nowrap}
tbody tr:hover>*{background:var(--wash)}
table.answer{font-size:16px;width:100%}
table.answer th,table.answer td{padding:9px 14px 9px 0}
.answer th small{padding-left:18px}
td.best{font-weight:700}
sup a{text-decoration:none;padding:0 2px}
.run{display:inline-block;margin-right:16px;white-space:nowrap}
td .run,th .run{margin:0;white-space:normal}
svg{display:block;width:100%;height:auto}
svg.sign{display:inline-block;width:12px;height:12px;margin-right:6px;vertical-align:-1px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:22px 28px}
figure{margin:0;break-inside:avoid}
figcaption{display:flex;justify-content:space-between;gap:10px;align-items:baseline;
 font-weight:600;font-size:13.5px;line-height:1.3;margin-bottom:4px}
figcaption .quiet,figcaption .key{font-weight:400}
figcaption .key{font-size:11.5px}
.legend{position:sticky;top:0;background:var(--paper);padding:6px 0;margin:0;z-index:1;
 max-width:none}
.lasts{margin:0 0 0 44px;font-size:13px}
svg text{font-size:11.5px;fill:var(--ink)}
svg text.quiet{fill:var(--quiet)}
.grid{stroke:var(--faint);stroke-opacity:.35;stroke-width:.7}
.axis{stroke:var(--faint);fill:none}
.line{fill:none;stroke:var(--run);stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}
.cap{stroke:var(--quiet);stroke-width:1.2;stroke-dasharray:5 4}
.dot{fill:var(--run);stroke:var(--paper);stroke-width:1}
.sign .dot{stroke:none}
.lost{stroke:var(--ink);stroke-width:1.3;fill:none}
.side{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:6px 36px}
.side tbody th{white-space:nowrap}
.side th,.side td{padding:3px 14px 3px 0}
.key-line{margin:4px 0 10px;max-width:none}
.heat{--strength:.58}
.heat td{min-width:44px;text-align:right;padding:3px 6px;border:1px solid var(--paper);
 background:rgb(var(--heat)/calc(var(--v)*var(--strength)));print-color-adjust:exact;
 -webkit-print-color-adjust:exact}
.heat{font-size:13px}
.heat thead th{text-align:right;padding:3px 6px}
.heat th:first-child{text-align:left;padding-left:0}
.wider{grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr))}
.rival{stroke:var(--quiet);stroke-width:1.6}
details{margin:8px 0}
summary{cursor:pointer;font-weight:600;font-size:14px}
summary:hover{color:var(--s0)}
ol.protocols{font-size:12.5px;line-height:1.5;color:var(--quiet);padding-left:26px;
 margin:6px 0 18px}
ol.protocols li{margin:3px 0;max-width:120ch}
ol.protocols b{color:var(--ink);font-weight:600}
li:target,tr:target>*{background:var(--wash)}
footer{margin-top:48px;padding-bottom:40px;font-size:13px}
@media screen and (prefers-color-scheme:dark){.heat{--strength:.5}}
@media (max-width:560px){
 main,header,footer{padding:0 14px}
 header{padding-top:20px}
 h1{font-size:24px}
 .charts{grid-template-columns:1fr}
 .answer thead{position:absolute;clip-path:inset(50%)}
 .answer tr{display:grid;grid-template-columns:1fr 1fr;padding:6px 0;
  border-bottom:1px solid var(--faint)}
 table.answer th,table.answer td{border:0;padding:5px 0}
 .answer tbody th{grid-column:1/-1}
 .answer td::before{content:attr(data-label);display:block;font-size:12.5px;font-weight:400;
  color:var(--quiet)}
 .facts td{min-width:120px}
}
@media print{
 @page{margin:14mm}
 body{font-size:10pt}
 main,header,footer{max-width:none;padding:0}
 nav{display:none}
 .legend{position:static}
 .wide{overflow:visible}
 table,table.answer{font-size:9pt}
 .charts,.charts.wider{grid-template-columns:1fr 1fr;gap:12px 18px}
 h2,h3,h4,caption{break-after:avoid}
 tr,figure,li{break-inside:avoid}
 h2{margin-top:20px}
 a{color:inherit;text-decoration:none}
 details:not(.more)::details-content{content-visibility:visible;height:auto}
}
"""
