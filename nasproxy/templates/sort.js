// Sorts a table by the column whose header is pressed; #sort=TABLE,COLUMN in the address does so at the start.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const sort = (column, downwards) => {
    const sign = downwards ? -1 : 1;
    const key = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const numbers = Number(x) - Number(y);
      return sign * (Number.isNaN(numbers) ? x.localeCompare(y) : numbers);
    });
    body.append(...rows);
    heads.forEach((head, place) => head.setAttribute("aria-sort", place !== column ? "none" : downwards ? "descending" : "ascending"));
  };
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") !== "descending"));
  });
  const wanted = /^#sort=(\w+),(\d+)$/.exec(location.hash);
  if (wanted && wanted[1] === table.id && wanted[2] < heads.length) sort(Number(wanted[2]), true);
}
