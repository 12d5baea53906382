// The page's only script. Tables sort; one tooltip and one highlight serve all figures; details open for the printer.
// Without it the page is whole: marks keep their native titles, tables their order.
"use strict";

const tip = document.getElementById("tip"), said = document.getElementById("said");

// ---- Tables: a press on a column's head sorts; #sort=TABLE,COLUMN in the address does so at the start.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const valueOf = (cell) => cell.dataset.value ?? cell.textContent;
  const sort = (column, downwards) => {
    const sign = downwards ? -1 : 1;
    const keyed = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
    keyed.sort(([x], [y]) => {
      if (x === "" || y === "") return (x === "") - (y === ""); // unknown ones stay below
      const numbers = Number(x) - Number(y);
      return sign * (Number.isNaN(numbers) ? x.localeCompare(y) : numbers);
    });
    body.append(...keyed.map(([, row]) => row));
    const order = downwards ? "descending" : "ascending";
    heads.forEach((head, place) => head.setAttribute("aria-sort", place === column ? order : "none"));
    said.textContent = `Sorted by ${heads[column].textContent}, ${order}`;
  };
  heads.forEach((head, column) => {
    head.firstChild.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") !== "descending"));
  });
  const wanted = /^#sort=(\w+),(\d+)$/.exec(location.hash);
  if (wanted && wanted[1] === table.id && wanted[2] < heads.length) sort(Number(wanted[2]), true);
}

// ---- Candidates: what has the same data-id is the same candidate, in every figure and table.

let marked = [], pinned = null;

function mark(elements) {
  marked.forEach((element) => element.classList.remove("on"));
  marked = elements;
  marked.forEach((element) => element.classList.add("on"));
}

const same = (id) => (id === undefined ? [] : [...document.querySelectorAll(`[data-id="${id}"]`)]);

function pin(id) {
  document.querySelectorAll(".pinned").forEach((element) => element.classList.remove("pinned"));
  pinned = id === pinned ? null : id ?? null;
  if (pinned === null) return;
  for (const element of same(pinned)) {
    element.classList.add("pinned");
    const list = element.closest(".tall"); // brings its row into the table's view, and leaves the page where it is
    if (list) list.scrollTop = element.offsetTop - list.clientHeight / 2;
  }
}

function hide() {
  tip.hidden = true;
  mark([]);
}

function show(one, x, y) {
  mark(one.id === undefined ? [one.element] : same(one.id));
  tip.textContent = one.label;
  tip.hidden = false;
  tip.style.left = tip.style.top = 0; // as wide as its words, wherever it stood
  const { width, height } = tip.getBoundingClientRect(), room = 12;
  const right = document.documentElement.clientWidth - width - 4;
  tip.style.left = `${scrollX + Math.max(4, Math.min(x + room, right))}px`;
  tip.style.top = `${scrollY + (y - height - room < 4 ? y + room : y - height - room)}px`;
}

// Of many candidates the names stand in the table only.
const names = new Map([...document.querySelectorAll("tr[data-name]")].map((row) => [row.dataset.id, row.dataset.name]));

// The marks of a figure: where they are in its own units, and what they say. Their titles would be second tooltips.
function read(svg) {
  return [...svg.querySelectorAll("title")].map((title) => {
    const element = title.parentNode, name = names.get(element.dataset.id);
    const label = (name ? `${name}: ` : "") + title.textContent;
    title.remove();
    let points = element.points && [...element.points].map((point) => [point.x, point.y]);
    if (element.tagName === "polygon") points = [[points[0][0], points[1][1]]]; // the middle of a diamond
    return { element, label, id: element.dataset.id, points: points ?? [[element.cx.baseVal.value, element.cy.baseVal.value]] };
  });
}

// The square of the distance of (x, y) to a point, or to the nearest piece of a line.
function distance({ points }, x, y) {
  let least = (points[0][0] - x) ** 2 + (points[0][1] - y) ** 2;
  for (let i = 1; i < points.length; i++) {
    const [ax, ay] = points[i - 1], dx = points[i][0] - ax, dy = points[i][1] - ay;
    const t = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
    least = Math.min(least, (ax + t * dx - x) ** 2 + (ay + t * dy - y) ** 2);
  }
  return least;
}

const REACH = 20; // pixels, about half a finger

for (const svg of document.querySelectorAll("svg.plot")) {
  let marks = null, current = -1;
  const all = () => (marks ??= read(svg).sort((a, b) => a.points[0][0] - b.points[0][0] || b.points.at(-1)[1] - a.points.at(-1)[1]));
  const scale = () => svg.viewBox.baseVal.width / svg.getBoundingClientRect().width;

  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * scale(), y = (event.clientY - box.top) * scale();
    const far = all().map((one) => distance(one, x, y)), least = Math.min(...far);
    return least <= (REACH * scale()) ** 2 ? all()[far.indexOf(least)] : null;
  };
  const point = (event) => {
    const one = nearest(event);
    if (one) show(one, event.clientX, event.clientY);
    else hide();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  svg.addEventListener("click", (event) => pin(nearest(event)?.id));

  // Arrow keys step through the marks from left to right, and a screen reader says which.
  svg.tabIndex = 0;
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-roledescription", "figure, arrow keys step through it");
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") {
      pin(null);
      svg.blur();
    } else if (event.key === "Enter" && current >= 0) {
      pin(all()[current].id);
    } else if (event.key in steps && all().length) {
      event.preventDefault();
      current = Math.max(0, Math.min(all().length - 1, current + steps[event.key]));
      const one = all()[current], box = svg.getBoundingClientRect(), [x, y] = one.points.at(-1);
      show(one, box.left + x / scale(), box.top + y / scale());
      said.textContent = one.label;
    }
  });
  svg.addEventListener("blur", hide);
}

document.addEventListener("pointerdown", (event) => event.target.closest("svg.plot") || hide());
for (const body of document.querySelectorAll("tbody")) {
  body.addEventListener("pointerover", (event) => mark(same(event.target.closest("tr").dataset.id)));
  body.addEventListener("pointerleave", () => mark([]));
  body.addEventListener("click", (event) => pin(event.target.closest("tr").dataset.id));
}

// ---- Paper has no summaries to press.

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((element) => (element.open = true));
});
addEventListener("afterprint", () => opened.forEach((element) => (element.open = false)));
