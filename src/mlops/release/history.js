"use strict";
const body = document.querySelector("#table tbody"), rows = [...body.rows];
const search = document.getElementById("filter"), kind = document.getElementById("kind");
const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const fits = (!kind.value || row.dataset.kind === kind.value) && words.every((word) => texts.get(row).includes(word));
    row.hidden = !fits;
    count += fits;
  }
  document.getElementById("count").textContent = `${count} of ${rows.length}`;
}

function sort(header) {
  const place = header.cellIndex, number = header.dataset.kind === "number";
  const up = header.getAttribute("aria-sort") === "descending";
  const value = (row) => {
    const cell = row.cells[place];
    return number ? (cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort)) : cell.textContent.trim().toLowerCase();
  };
  const order = (a, b) => (number ? (isNaN(a) - isNaN(b)) * (up ? 1 : -1) || a - b : a.localeCompare(b));
  rows.sort((a, b) => order(value(a), value(b)) * (up ? 1 : -1));
  body.append(...rows);
  for (const each of header.parentNode.cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
}

for (const header of document.querySelectorAll("#table th")) {
  const button = document.createElement("button");
  button.append(...header.childNodes);
  button.addEventListener("click", () => sort(header));
  header.append(button);
}
search.addEventListener("input", filter);
kind.addEventListener("change", filter);
document.getElementById("controls").hidden = false;
filter();
