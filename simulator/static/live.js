// Keeps the page live: hears which topics changed, fetches those parts, patches elements by their ids.
"use strict";
(() => {
  const query = `lang=${encodeURIComponent(document.body.dataset.lang)}`;
  const liveness = document.getElementById("liveness");
  const parts = () => [...document.querySelectorAll("[data-topics]")];

  async function fetched(url) {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.status);
    return new DOMParser().parseFromString(await answer.text(), "text/html").body;
  }

  async function patch(part) {
    const fresh = await fetched(`${part.dataset.part}?${query}`);
    for (const one of fresh.querySelectorAll("[id]")) {
      const old = document.getElementById(one.id);
      // inputs keep what their user did; an element in an id'd parent is patched with that parent
      if (!old || one.tagName === "INPUT" || one.parentElement.closest("[id]")) continue;
      if (old.innerHTML !== one.innerHTML) old.replaceChildren(...one.childNodes);
    }
  }

  async function append(list) {
    const newest = list.firstElementChild ? list.firstElementChild.dataset.serial : 0;
    const fresh = await fetched(`${list.dataset.append}?${query}&after=${newest}`);
    list.prepend(...[...fresh.querySelectorAll("li")].filter((one) => !document.getElementById(one.id)));
    while (list.childElementCount > Number(list.dataset.most)) list.lastElementChild.remove();
  }

  // One refresh of a part at a time; what changes meanwhile asks for one more.
  const running = new Map();
  async function refresh(part) {
    if (running.has(part)) { running.set(part, true); return; }
    running.set(part, false);
    try {
      await (part.dataset.append ? append(part) : patch(part));
    } catch { /* the next event tries again */ }
    const again = running.get(part);
    running.delete(part);
    if (again) refresh(part);
  }

  function changed(topics) {
    if (topics.includes("handsets")) { location.reload(); return; }
    for (const part of parts()) {
      if (part.dataset.topics.split(" ").some((one) => topics.includes(one))) refresh(part);
    }
  }

  const events = new EventSource("/api/events");
  events.addEventListener("changed", (event) => changed(JSON.parse(event.data)));
  events.addEventListener("open", () => {
    liveness.textContent = liveness.dataset.live;
    parts().forEach(refresh);
  });
  events.addEventListener("error", () => { liveness.textContent = liveness.dataset.lost; });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!("live" in form.dataset)) return;
    event.preventDefault();
    const said = form.querySelector(".said");
    const button = event.submitter;
    said.textContent = "";
    try {
      const answer = await fetch(button?.getAttribute("formaction") ?? form.getAttribute("action"), {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams(new FormData(form, button)),
      });
      if (answer.ok) {
        form.querySelectorAll("[data-clear]").forEach((one) => { one.value = ""; });
        if (button?.hasAttribute("formaction")) location.reload();
      } else {
        const body = await answer.json();
        said.textContent = (body.errors ?? [body.title]).join(" ");
      }
    } catch {
      said.textContent = liveness.dataset.lost;
    }
  });

  document.getElementById("errors")?.focus();
})();
