"use strict";
/* Tables that sort, groups that fold, texts that copy: what every page of ours shares. */
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies].filter(body => !body.classList.contains("fixed"));
  heads.forEach((head, column) => head.querySelector("button.sort")?.addEventListener("click", () => {
    const named = column === 0, now = head.getAttribute("aria-sort");
    const falling = named ? now === "ascending" : now !== "descending";  // names from A, numbers from the largest
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value === undefined ? null : Number(row.cells[column].dataset.value);
    for (const body of bodies) body.append(...[...body.rows].sort((a, b) => {
      if (named) return a.cells[0].textContent.localeCompare(b.cells[0].textContent) * (falling ? -1 : 1);
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null);  // what is missing stays at the end
      return falling ? y - x : x - y;
    }));
  }));
}
for (const button of document.querySelectorAll("button.fold")) {
  const body = document.getElementById(button.getAttribute("aria-controls"));
  button.addEventListener("click", () => {
    body.hidden = !body.hidden;
    button.setAttribute("aria-expanded", String(!body.hidden));
  });
}
async function copyText(button, text) {
  let done = true;
  try { await navigator.clipboard.writeText(text); } catch {  // a page from disk may not be allowed to
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const words = button.textContent;
  button.textContent = done ? "Copied" : "Not allowed here";
  setTimeout(() => { button.textContent = words; }, 1500);
}
for (const button of document.querySelectorAll("button[data-copies]"))
  button.addEventListener("click", () => copyText(button, document.getElementById(button.dataset.copies).textContent));
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });
