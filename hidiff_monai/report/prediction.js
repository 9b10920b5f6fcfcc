const show = (summary) => {
  summary.parentElement.open = true;
  summary.scrollIntoView();
};
const summaryOf = (link) => document.getElementById(link.hash.slice(1));
const showNamed = () => {
  const summary = summaryOf(location);
  if (summary && summary.matches("summary")) show(summary);
};
addEventListener("hashchange", showNamed);
showNamed();

for (const row of document.querySelectorAll(".cases tbody tr")) {
  const link = row.querySelector("a");
  row.addEventListener("click", (event) => {
    if (event.target !== link && getSelection().isCollapsed) link.click(); // unless text is being marked
  });
  link.addEventListener("click", () => show(summaryOf(link))); // also where the address names it already
}
for (const button of document.querySelectorAll("[data-open]")) {
  button.addEventListener("click", () => {
    for (const card of document.querySelectorAll("details.case")) card.open = Boolean(button.dataset.open);
  });
}
const onlyHard = document.getElementById("only-hard");
if (onlyHard) {
  const filter = () => {
    document.body.classList.toggle("only-hard", onlyHard.checked);
    const rows = document.querySelectorAll(".cases tbody tr").length;
    const hard = document.querySelectorAll(".cases tbody tr[data-hard='1']").length;
    document.getElementById("shown").textContent = onlyHard.checked ? `${hard} of ${rows} cases shown` : "";
  };
  onlyHard.addEventListener("change", filter);
  filter(); // a browser may keep the tick over a reload
}
