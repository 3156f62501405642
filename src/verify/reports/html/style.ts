/** The pages' style sheet: light and dark, wide, narrow and on paper. Colours tell margins apart, shapes repeat it. */
export const STYLE = `
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2327;--soft:#566067;--line:#dcd9d0;--accent:#0b6b63;
--good:#0b6b4f;--good-bg:#dff1e8;--bad:#a3161c;--bad-bg:#fbe3e1;--warn:#7d4e00;--warn-bg:#fbeed3;
--m0:#d3ebe6;--m1:#9ed4ca;--m2:#4fa99d;--m3:#2b7d8b;--m4:#1f5076;--mf:#c1121f;--mu:#b9bdc0;--local:#b3541e;--allow:#8a8f94}
:root[data-theme=dark]{color-scheme:dark;--paper:#14181b;--card:#1b2024;--ink:#e8e6e1;--soft:#a7b0b6;--line:#343b41;--accent:#5ecfc2;
--good:#7fdcb2;--good-bg:#12382b;--bad:#ff9b94;--bad-bg:#4a1719;--warn:#f0c674;--warn-bg:#40320f;
--m0:#1d403d;--m1:#27635e;--m2:#3f9b90;--m3:#7ccbd0;--m4:#bfe3f2;--mf:#ff5a5f;--mu:#5b646b;--local:#f0a35e;--allow:#8a949b}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;--paper:#14181b;--card:#1b2024;--ink:#e8e6e1;--soft:#a7b0b6;--line:#343b41;--accent:#5ecfc2;
--good:#7fdcb2;--good-bg:#12382b;--bad:#ff9b94;--bad-bg:#4a1719;--warn:#f0c674;--warn-bg:#40320f;
--m0:#1d403d;--m1:#27635e;--m2:#3f9b90;--m3:#7ccbd0;--m4:#bfe3f2;--mf:#ff5a5f;--mu:#5b646b;--local:#f0a35e;--allow:#8a949b}}
:root[data-theme=light]{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1240px;margin:0 auto;padding:0 20px}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--card);padding:6px 10px;z-index:9}
a{color:var(--accent)}
h1{font-size:22px;line-height:1.3;margin:10px 0 4px;overflow-wrap:anywhere;font-weight:650}
h2{font-size:17px;margin:0 0 4px;font-weight:650}
h3{font-size:14px;margin:16px 0 4px;font-weight:600}
p{margin:4px 0}.soft,figcaption,.legend{color:var(--soft)}
code,.name,td.name,th[scope=row]{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em}
header{padding-top:22px}
.verdict{display:flex;flex-wrap:wrap;gap:14px;align-items:center}
.pill{font-weight:700;letter-spacing:.06em;padding:3px 14px;border-radius:6px;font-size:15px}
.pass .pill,.pill.pass{background:var(--good-bg);color:var(--good)}.fail .pill,.pill.fail{background:var(--bad-bg);color:var(--bad)}
.pill.error{background:var(--warn-bg);color:var(--warn)}.pill.small{font-size:12px;padding:1px 8px}
.clause{font-size:17px;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;padding:12px 0 0;font-size:14px}
nav button{margin-left:auto}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px 18px;margin:16px 0}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:10px 24px;margin:14px 0 0}
dl.facts div{border-left:3px solid var(--line);padding-left:10px;min-width:0}
dt{font-size:12px;color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin-top:10px}.scroll:focus-visible,svg:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.tall{max-height:620px;overflow-y:auto}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:var(--card);font-weight:600;white-space:nowrap;z-index:1}
td.n,th.n{text-align:right;white-space:nowrap}
td.name,th[scope=row]{overflow-wrap:anywhere;min-width:150px;font-weight:400;text-align:left}
td.what{min-width:260px;overflow-wrap:anywhere}
thead button{all:unset;cursor:pointer;font-weight:600;padding:2px 0}thead button::after{content:" ↕";color:var(--soft);opacity:.5}
th[aria-sort=ascending] button::after{content:" ↑";opacity:1}th[aria-sort=descending] button::after{content:" ↓";opacity:1}
thead button:focus-visible{outline:2px solid var(--accent)}
tr.target td,tr.target th{background:var(--warn-bg)}
.s-fail{color:var(--bad);font-weight:700}.s-pass{color:var(--good)}.s-untested,.s-error{color:var(--warn);font-weight:600}
.controls{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:end;margin-top:8px;font-size:13px}
.controls label{display:flex;flex-direction:column;gap:2px}
input,select,button.plain{font:inherit;color:inherit;background:var(--paper);border:1px solid var(--line);border-radius:6px;padding:4px 8px;min-height:32px}
button.plain{cursor:pointer}
.net{display:flex;flex-wrap:wrap;gap:12px 14px;align-items:flex-start;margin-top:12px}
.net figure{margin:0;border:1px solid var(--line);border-radius:8px;padding:8px 10px;background:var(--paper);max-width:100%}
.net figure.bad{border-color:var(--mf);box-shadow:inset 0 0 0 1px var(--mf)}
.net figcaption{display:flex;gap:14px;justify-content:space-between;font-size:12px;margin-bottom:4px}
.net figcaption b{color:var(--ink);font-weight:600}
.net svg{display:block;max-width:100%;height:auto}
.wire{stroke:var(--allow);stroke-width:1;fill:none;opacity:.6}
.c{stroke:var(--paper);stroke-width:1;cursor:pointer}.c.on{stroke:var(--ink);stroke-width:2}
.m0{fill:var(--m0)}.m1{fill:var(--m1)}.m2{fill:var(--m2)}.m3{fill:var(--m3)}.m4{fill:var(--m4)}.mf{fill:var(--mf)}.mu{fill:var(--mu)}
.x{stroke:#fff;stroke-width:1.6;pointer-events:none;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:12px;margin-top:8px;align-items:center}
.legend svg{width:14px;height:14px;vertical-align:-2px;margin-right:4px}.legend .ramp{width:150px;height:12px}
.chart svg{display:block;width:100%;min-width:760px;height:auto}
.grid{stroke:var(--line);stroke-width:1}.axis{fill:var(--soft);font-size:11px}
.accumulated{fill:none;stroke:var(--accent);stroke-width:1.8}.local{fill:var(--local)}.allowed{fill:none;stroke:var(--allow);stroke-width:1.2;stroke-dasharray:4 3}
.failing{fill:var(--mf)}.cursor{stroke:var(--ink);stroke-width:1;opacity:0}
.maps{display:grid;gap:10px 14px;grid-template-columns:92px repeat(3,minmax(0,1fr));align-items:center;margin-top:10px;font-size:12px}
.maps>b{font-weight:600}.maps .label{overflow-wrap:anywhere}
.maps svg{display:block;width:100%;height:64px;border:1px solid var(--line);border-radius:4px;background:var(--paper);cursor:crosshair}
.maps svg path{fill:none;stroke-width:1.04}
.matrix td{padding:2px}.matrix td.k{text-align:center;min-width:46px}.matrix td.k span{display:block;border-radius:4px;padding:3px 4px;color:#10201e;font-size:12px}
.matrix th.v{font-size:12px}
span.m0{background:var(--m0)}span.m1{background:var(--m1)}span.m2{background:var(--m2)}span.m3{background:var(--m3)}span.m4{background:var(--m4)}span.m3,span.m4{color:#fff!important}span.mf{background:var(--mf);color:#fff!important;font-weight:700}span.mu{background:var(--mu)}
:root[data-theme=dark] .matrix td.k span.m0,:root[data-theme=dark] .matrix td.k span.m1{color:#e8e6e1}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]) .matrix td.k span.m0,:root:not([data-theme=light]) .matrix td.k span.m1{color:#e8e6e1}:root:not([data-theme=light]) .matrix td.k span.mf,:root:not([data-theme=light]) .matrix td.k span.m3,:root:not([data-theme=light]) .matrix td.k span.m4{color:#1b0507!important}}
:root[data-theme=dark] .matrix td.k span.mf,:root[data-theme=dark] .matrix td.k span.m3,:root[data-theme=dark] .matrix td.k span.m4{color:#1b0507!important}
#tip{position:fixed;z-index:8;max-width:min(340px,92vw);background:var(--ink);color:var(--paper);border-radius:6px;padding:7px 10px;font-size:12.5px;line-height:1.4;pointer-events:none;white-space:pre-line;overflow-wrap:anywhere}
#tip[hidden]{display:none}
footer{color:var(--soft);font-size:12.5px;padding-bottom:40px}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.noscript .controls,.noscript nav button{display:none}
@media (max-width:640px){main,header,footer{padding:0 12px}section{padding:12px}h1{font-size:18px}
.maps{grid-template-columns:1fr}.maps>b{display:none}.maps .label{font-weight:600;margin-top:8px}.maps figure{margin:0}
.maps svg{height:52px}}
@media (min-width:641px){.maps .which{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
.maps figure{margin:0;min-width:0}
@media print{*{print-color-adjust:exact;-webkit-print-color-adjust:exact}body{background:#fff;font-size:11px}
nav,.controls,.skip,#tip{display:none!important}section{border:0;padding:6px 0;break-inside:auto}.scroll,.tall{overflow:visible;max-height:none}
table{font-size:9px}th,td{padding:1px 4px}thead th{position:static}tr,figure{break-inside:avoid}.chart svg{min-width:0}}
`;
