"use strict";
// Shows the values under the pointer. They stand in each series' data; the drawing is complete without this.
function showValues() {
  for (const svg of document.querySelectorAll("figure svg")) {
    const figure = svg.closest("figure");
    const rule = svg.querySelector(".rule");
    const tip = figure.appendChild(document.createElement("div"));
    tip.className = "tip";
    const list = (text) => (text ? text.split(" ") : []);
    const all = [...svg.querySelectorAll(".series")].map((group) => {
      const line = group.querySelector(".line");
      const at = line
        ? [...line.points].map((p) => [p.x, p.y])
        : [...group.querySelectorAll("circle")].map((c) => [c.cx.baseVal.value, c.cy.baseVal.value]);
      const { name, x, y, raw } = group.dataset;
      return { group, name, at, isLine: !!line, xs: list(x), ys: list(y), raws: list(raw) };
    });
    const hide = () => figure.classList.remove("hovered");
    const show = (event) => {
      const here = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const near = all.map((series) => {
        let best = -1, least = Infinity;
        series.at.forEach(([px, py], i) => {
          const away = series.isLine ? Math.abs(px - here.x) : Math.hypot(px - here.x, py - here.y);
          if (away < least) [best, least] = [i, away];
        });
        return { ...series, best, least };
      }).filter((series) => series.best >= 0);
      near.sort((a, b) => a.least - b.least);
      const first = near[0];
      if (!first || first.least > 60) return hide();
      const x = first.at[first.best][0];
      const rows = all.map((series) => near.find((n) => n.group === series.group))
        .filter((series) => series && Math.abs(series.at[series.best][0] - x) <= 5);
      const heading = document.createElement("b");
      heading.textContent = `${figure.dataset.x.replace(/ \(.*/, "")} ${first.xs[first.best]}`;
      tip.replaceChildren(heading, ...rows.map((series) => {
        const row = document.createElement("div"), key = document.createElement("i"), text = document.createElement("span");
        row.className = series.group.getAttribute("class").replace("series", "");
        key.className = "key";
        const raw = series.raws.length ? `, this step ${series.raws[series.best]}` : "";
        text.textContent = `${series.name} ${series.ys[series.best]}${raw}`;
        row.append(key, text);
        return row;
      }));
      rule.setAttribute("x1", x);
      rule.setAttribute("x2", x);
      figure.classList.add("hovered");
      const frame = figure.getBoundingClientRect(), left = event.clientX - frame.left;
      const width = tip.offsetWidth;
      tip.style.left = `${Math.max(4, Math.min(left + 14 + width > frame.width ? left - 14 - width : left + 14, frame.width - width - 4))}px`;
      tip.style.top = `${event.clientY - frame.top + 14}px`;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  }
}
showValues();
