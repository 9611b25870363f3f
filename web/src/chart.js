// The console's time series: reads the page's data block and draws it. The
// same figures stand in a table beside it.
import uPlot from "uplot";

const block = document.getElementById("chart-data");
const box = document.getElementById("chart");

/** narrow opens this same page for a part of the time, in seconds. */
function narrow(from, to) {
  const url = new URL(location.href);
  for (const name of ["span", "set", "before"]) url.searchParams.delete(name);
  url.searchParams.set("from", new Date(from * 1e3).toISOString());
  url.searchParams.set("to", new Date(to * 1e3).toISOString());
  location.assign(url);
}

/** draw makes and returns the chart, as wide as its box. data: {times: [unix s], cut: part of
 * an ISO time that labels show, bars, series: [{label, colour, dash, values}]};
 * colours are names of CSS properties. Where there are bars, a part of the time
 * can be chosen by dragging; a bar is the link in its row of the table, which
 * ends where the hunt does. */
function draw(data) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const axis = { stroke: colour("--mut"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const utc = { tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC") };
  const stamp = (t) => new Date(t * 1e3).toISOString().slice(...data.cut).replace("T", " ");
  const step = data.times[1] - data.times[0];
  const look = data.bars ? { paths: uPlot.paths.bars({ size: [0.8], align: 1 }) } : {};
  const plot = new uPlot({
    width: box.clientWidth, height: 230, ...utc,
    cursor: { drag: { setScale: false } },
    series: [
      { label: data.time, value: (_, v) => (v == null ? "--" : stamp(v)) },
      ...data.series.map((s) => ({ label: s.label, stroke: colour(s.colour), fill: data.bars ? colour(s.colour) : undefined, width: data.bars ? 1 : 1.5, dash: s.dash || [], points: { show: false }, ...look })),
    ],
    axes: [{ ...axis, space: data.cut[0] ? 50 : 110, values: (_, ts) => ts.map(stamp) }, axis],
    scales: data.bars ? { x: { range: (_, min, max) => [min, max + (step || 1)] } } : {},
    hooks: data.bars ? { setSelect: [(u) => {
      if (u.select.width > 4) narrow(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
    }] } : {},
  }, [data.times, ...data.series.map((s) => s.values)], box);
  if (data.bars) plot.over.addEventListener("click", () => {
    if (plot.select.width <= 4) document.querySelectorAll("#chart-table tbody tr")[plot.cursor.idx]?.querySelector("a")?.click();
  });
  return plot;
}

if (block && box) {
  const data = JSON.parse(block.textContent);
  let plot = draw(data);
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 230 })).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { // evening comes
    plot.destroy();
    plot = draw(data);
  });
}
