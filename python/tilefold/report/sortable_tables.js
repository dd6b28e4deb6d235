"use strict";
// Lets readers sort the tables of a page by any column and filter their rows; without it they are
// plain tables.
const missing = new Set(["", "none"]);

// The number that a cell begins with, NaN for a text.
function numberOf(text) {
  const found = /^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![\w-])/i.exec(text);
  return found ? Number(found[0].replace(/,/g, "")) : NaN;
}

function sort(table, column, ascending) {
  const body = table.tBodies[0];
  const cells = [...body.rows].map((row) => [row, row.cells[column].textContent.trim()]);
  const known = cells.filter(([, text]) => !missing.has(text));
  const rest = cells.filter(([, text]) => missing.has(text));
  const numeric = known.every(([, text]) => !Number.isNaN(numberOf(text)));
  const order = new Intl.Collator("en", { numeric: true }).compare;
  known.sort(([, a], [, b]) => (numeric ? numberOf(a) - numberOf(b) : order(a, b)));
  if (!ascending) known.reverse();
  body.append(...known.concat(rest).map(([row]) => row)); // missing values are last either way
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending);
    });
  });
}

function makeFilter(table) {
  const box = document.createElement("p");
  const label = document.createElement("label");
  const input = document.createElement("input");
  const shown = document.createElement("output");
  const rows = [...table.tBodies[0].rows];
  box.className = "filter";
  input.type = "search";
  label.append("Rows with the text ", input);
  box.append(label, shown);
  const filter = () => {
    const wanted = input.value.trim().toLowerCase();
    rows.forEach((row) => (row.hidden = !row.textContent.toLowerCase().includes(wanted)));
    const visible = rows.filter((row) => !row.hidden).length;
    shown.textContent = `${visible.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };
  input.addEventListener("input", filter);
  filter();
  table.closest(".scroll").before(box);
}

document.querySelectorAll("table[data-sortable]").forEach((table) => {
  makeSortable(table);
  makeFilter(table);
});
