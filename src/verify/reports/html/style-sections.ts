/** Style of what sections hold: faults, tables, drawings. */
export const SECTION_STYLE = `
.faults{list-style:none;margin:12px 0 0;padding:0;display:grid;gap:10px}
.faults li{border-left:4px solid var(--mf);background:var(--paper);border-radius:0 8px 8px 0;padding:10px 14px;min-width:0}
.faults li.warn{border-color:var(--warn)}
.faults .what{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline}
.faults b.name{font-size:15px;font-weight:650}.faults .kind{font-size:13px;color:var(--bad);font-weight:600}.faults .warn .kind{color:var(--warn)}
.faults .amount{font-size:13px;color:var(--soft)}.faults p{overflow-wrap:anywhere;white-space:pre-line;max-width:95ch}.faults .of{font-size:13px;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin-top:12px}
.tall{max-height:640px;overflow-y:auto}
table{overflow-wrap:normal;border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:var(--card);font-weight:600;white-space:nowrap;z-index:1;border-bottom:2px solid var(--line)}
td.n,th.n{text-align:right;white-space:nowrap}
td.name,th[scope=row]{min-width:150px;font-weight:400;text-align:left}
td.what{min-width:260px;overflow-wrap:anywhere}
thead button{all:unset;cursor:pointer;font-weight:600;padding:2px 0}thead button::after{content:" ↕";color:var(--soft);opacity:.6}
th[aria-sort=ascending] button::after{content:" ↑";opacity:1}th[aria-sort=descending] button::after{content:" ↓";opacity:1}
thead button:focus-visible{outline:2px solid var(--accent)}
tr.target td,tr.target th{background:var(--warn-bg)}
.s-fail{color:var(--bad);font-weight:700}.s-pass{color:var(--good)}.s-untested,.s-error{color:var(--warn);font-weight:600}
.controls{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:end;margin-top:10px;font-size:13px}
.controls label{display:flex;flex-direction:column;gap:2px}
.net{display:flex;flex-wrap:wrap;gap:12px;align-items:stretch;margin-top:12px}
.net figure{margin:0;border:1px solid var(--line);border-radius:8px;padding:8px 12px 10px;background:var(--paper);max-width:100%}
.net figure.bad{border-color:var(--mf);box-shadow:inset 0 0 0 1px var(--mf)}
.net figcaption{display:flex;gap:14px;justify-content:space-between;font-size:13px;margin-bottom:6px;font-variant-numeric:tabular-nums}
.net figcaption b{color:var(--ink);font-weight:600}
.net svg{display:block;max-width:100%;height:auto}
.wire{stroke:var(--allow);stroke-width:1;fill:none;opacity:.6}
.c{stroke:var(--allow);stroke-width:.5;cursor:pointer}.c.on{stroke:var(--ink);stroke-width:2}
.x{stroke:var(--of);stroke-width:1.8;pointer-events:none;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;margin-top:8px;align-items:center}
.legend svg{width:14px;height:14px;vertical-align:-2px;margin-right:5px}.legend .ramp{width:150px;height:12px;margin:0 5px}
.chart svg{display:block;width:100%;min-width:760px;height:auto}
.grid{stroke:var(--line);stroke-width:1}.axis{fill:var(--soft);font-size:12px}
.accumulated{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}.local{fill:var(--local)}.allowed{fill:none;stroke:var(--allow);stroke-width:1.2;stroke-dasharray:4 3}
.failing{fill:var(--mf);stroke:var(--card);stroke-width:1}.cursor{stroke:var(--ink);stroke-width:1;opacity:0}
.maps{display:grid;gap:10px 14px;grid-template-columns:96px repeat(3,minmax(0,1fr));align-items:center;margin-top:12px;font-size:13px}
.maps>b{font-weight:600}.maps .label{overflow-wrap:anywhere}.maps .label .name{font-weight:600}
.maps figure{margin:0;min-width:0}
.maps svg{display:block;width:100%;height:64px;border:1px solid var(--line);border-radius:4px;background:var(--paper);cursor:crosshair}
.maps svg path{fill:none;stroke-width:1.04}
.matrix{width:auto}.matrix td{padding:2px;border-bottom:0}.matrix td.k{text-align:center;min-width:54px}
.matrix td.k span{display:block;border-radius:4px;padding:3px 6px;font-size:12.5px;white-space:nowrap}
.matrix th.v{font-size:12.5px;padding:4px 6px;text-align:center}
.matrix th[scope=row]{position:sticky;left:0;background:var(--card);border-bottom:0;padding:4px 12px 4px 0;white-space:nowrap;font-size:12.5px}
`;
