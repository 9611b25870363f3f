// The console's time series: reads the page's data block and draws it. The
// same figures stand in a table beside it.
import uPlot from "uplot";

const block = document.getElementById("chart-data");
const box = document.getElementById("chart");

/** draw makes the chart as wide as its box. data: {times: [unix s], series:
 * [{label, colour, dash, values}]}; colours are names of CSS properties. */
function draw(data) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const axis = { stroke: colour("--mut"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const utc = { tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC") };
  const plot = new uPlot({
    width: box.clientWidth, height: 230, ...utc,
    cursor: { drag: { setScale: false } },
    series: [
      { label: data.time, value: (_, v) => (v == null ? "--" : new Date(v * 1e3).toISOString().slice(11, 16)) },
      ...data.series.map((s) => ({ label: s.label, stroke: colour(s.colour), width: 1.5, dash: s.dash || [], points: { show: false } })),
    ],
    axes: [{ ...axis, values: (_, ts) => ts.map((t) => new Date(t * 1e3).toISOString().slice(11, 16)) }, axis],
  }, [data.times, ...data.series.map((s) => s.values)], box);
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 230 })).observe(box);
}

if (block && box) draw(JSON.parse(block.textContent));
