"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const traces = [...document.querySelectorAll(".trace")];
  let current = traces[0];

  document.documentElement.classList.add("js");

  function turnOf(trace) {
    return Number(trace.querySelector(".state.on").dataset.turn);
  }

  function show(trace, turn) {
    const states = [...trace.querySelectorAll(".state")];
    const wanted = Math.min(Math.max(turn, 0), states.length - 1);
    states.forEach((state, at) => state.classList.toggle("on", at === wanted));
    trace.querySelectorAll("[data-go]").forEach((dot, at) => {
      if (at === wanted) dot.setAttribute("aria-current", "step");
      else dot.removeAttribute("aria-current");
    });
    trace.querySelector("[data-step='-1']").disabled = wanted === 0;
    trace.querySelector("[data-step='1']").disabled = wanted === states.length - 1;
  }

  function step(trace, turn) {
    show(trace, turn);
    current = trace;
    history.replaceState(null, "", `#trace=${traces.indexOf(trace)}&turn=${turnOf(trace)}`);
  }

  function filter() {
    const label = $("by-label").value;
    const outcome = $("by-outcome").value;
    for (const trace of traces) {
      const { label: from, solved } = trace.dataset;
      trace.hidden = Boolean((label && label !== from) || (outcome && outcome !== solved));
    }
    const left = traces.filter((trace) => !trace.hidden).length;
    $("count").textContent = left === 1 ? "1 trace" : `${left} traces`;
  }

  function follow() {
    const link = new URLSearchParams(location.hash.slice(1));
    const trace = traces[Number(link.get("trace") ?? NaN)];
    if (!trace) return;
    if (trace.hidden) {
      $("by-label").value = $("by-outcome").value = "";
      filter();
    }
    trace.open = true;
    show(trace, Number(link.get("turn")) || 0);
    trace.scrollIntoView();
    current = trace;
  }

  function inView(trace) {
    const { top, bottom } = trace.getBoundingClientRect();
    return trace.open && !trace.hidden && bottom > 0 && top < innerHeight;
  }

  for (const trace of traces) {
    show(trace, 0);
    trace.addEventListener("pointerdown", () => (current = trace));
    trace.addEventListener("focusin", () => (current = trace));
    trace.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (!button) return;
      const { go, step: by } = button.dataset;
      step(trace, go === undefined ? turnOf(trace) + Number(by) : Number(go));
    });
  }

  addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("select, .scroll")) return;
    const trace = current && inView(current) ? current : traces.find(inView);
    if (!trace) return;
    event.preventDefault();
    step(trace, turnOf(trace) + by);
  });

  $("by-label").addEventListener("change", filter);
  $("by-outcome").addEventListener("change", filter);
  addEventListener("hashchange", follow);
  filter();
  follow();
})();
