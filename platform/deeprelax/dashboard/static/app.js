"use strict";
// Draws the figures, draws them again when the server says that something has changed, and sends what buttons ask for.

const body = document.body;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
// Colours that a colour-blind reader can tell apart (Okabe and Ito 2008), the light one first where the page is dark.
const COLORS = ["#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f"];

function themed(layout) {
  const ink = dark.matches ? "#d8dce2" : "#23272e";
  const grid = dark.matches ? "#343a44" : "#e4e7ec";
  const styled = {
    font: { family: "system-ui, sans-serif", size: 13, color: ink }, colorway: [dark.matches ? "#56b4e9" : "#0072b2", ...COLORS],
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 60, r: 15, t: 10, b: 45 }, height: 320, hovermode: "closest",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, uirevision: "kept", ...layout,
  };
  for (const name of Object.keys(styled)) {
    if (/^[xy]axis/.test(name)) styled[name] = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, ...styled[name] };
  }
  return styled;
}

async function draw() {
  const address = body.dataset.figures;
  if (!address) return;
  const answer = await fetch(address);
  if (!answer.ok) return;
  const figures = await answer.json();
  for (const element of document.querySelectorAll("[data-figure]")) {
    const figure = figures[element.dataset.figure];
    if (figure) {
      await Plotly.react(element, figure.data, themed(figure.layout), { responsive: true, displaylogo: false });
    }
  }
  body.dataset.drawn = String(Date.now());
}

async function renew() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const element of document.querySelectorAll("[data-live]")) {
    const newer = page.getElementById(element.id);
    if (newer && newer.innerHTML !== element.innerHTML) element.innerHTML = newer.innerHTML;
  }
  // A figure that had nothing to show before is there now.
  const [old, fresh] = [document, page].map((where) => where.querySelector(".figures"));
  if (old && fresh && fresh.querySelectorAll("figure").length !== old.querySelectorAll("figure").length) {
    old.innerHTML = fresh.innerHTML;
  }
  await draw();
}

function say(text) {
  document.getElementById("said").textContent = text;
}

async function post(button) {
  if (!window.confirm(button.dataset.ask)) return;
  button.disabled = true;
  const answer = await fetch(button.dataset.post, { method: "POST" });
  const told = await answer.json();
  say(told.said || told.detail);
  await renew();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-post]");
  if (button) post(button).catch((error) => say(String(error)));
});
dark.addEventListener("change", () => draw());

let renewing = Promise.resolve();
if (body.dataset.events) {
  const events = new EventSource(body.dataset.events);
  events.addEventListener("changed", () => { renewing = renewing.then(renew).catch(() => {}); });
}
draw().catch((error) => say(String(error)));
