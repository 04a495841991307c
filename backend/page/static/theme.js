// Before the first paint: the theme a person chose, on this machine; without a choice, the system's.
"use strict";
(() => {
  const root = document.documentElement;
  const names = ["system", "light", "dark"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("everylabel-theme") || "system";
    } catch {
      return "system"; // storage is forbidden: nothing is remembered
    }
  };
  const apply = (name) => {
    root.setAttribute("data-theme", name === "system" ? (dark.matches ? "dark" : "light") : name);
    const shown = document.getElementById("theme-name");
    if (shown) shown.textContent = name;
    root.dispatchEvent(new Event("theme"));
  };
  let current = names.includes(stored()) ? stored() : "system";
  apply(current);
  dark.addEventListener("change", () => apply(current));
  document.addEventListener("DOMContentLoaded", () => {
    apply(current);
    document.getElementById("theme").addEventListener("click", () => {
      current = names[(names.indexOf(current) + 1) % names.length];
      try {
        localStorage.setItem("everylabel-theme", current);
      } catch {
        // It holds until the page is left.
      }
      apply(current);
    });
  });
})();
