(function () {
  "use strict";
  // Without this script the page shows all of it; with it, tasks can be filtered and links open what they lead to.
  const filter = document.getElementById("filter");
  const tasks = Array.from(document.querySelectorAll("#task-list > details"));
  const texts = tasks.map((task) => task.querySelector("summary").textContent.toLowerCase());
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    tasks.forEach((task, index) => {
      task.hidden = !words.every((word) => texts[index].includes(word));
    });
  });
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView({ block: "center" });
    }
  }
  window.addEventListener("hashchange", open);
  open();
})();
