for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const names = new Intl.Collator("en", {numeric: true});
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentElement;
    const direction = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const isBlank = (row) => value(row) === "nan";
    const order = [...body.rows].sort((a, b) => isBlank(a) - isBlank(b) || direction * names.compare(value(a), value(b)));
    if (head.dataset.kind === "number") {
      order.sort((a, b) => isBlank(a) - isBlank(b) || direction * (value(a) - value(b)) || 0);
    }
    body.append(...order);
  });
}
