"use strict";
(() => {
  for (const button of document.querySelectorAll("button.copy")) {
    if (!navigator.clipboard && !document.execCommand) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        const range = document.createRange();
        range.selectNodeContents(code);
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        document.execCommand("copy");
        selection.removeAllRanges();
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }

  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v === undefined) return cell.textContent;
    const number = cell.dataset.v === "" ? NaN : Number(cell.dataset.v.replace("inf", "Infinity"));
    return number;
  };
  const compare = (a, b, sign) => {
    if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  };
  for (const table of document.querySelectorAll("table.layers")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        const first = head.classList.contains("number") && column > 0 ? !down : head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", first ? "descending" : "ascending");
        const sign = first ? -1 : 1;
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort((a, b) => compare(a[0], b[0], sign));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
    const tools = table.closest("section").querySelector(".table-tools");
    const [input, output] = [tools.querySelector("input"), tools.querySelector("output")];
    tools.hidden = false;
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const row of body.rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      output.textContent = wanted ? `${shown} of ${body.rows.length}` : "";
    });
  }
})();
