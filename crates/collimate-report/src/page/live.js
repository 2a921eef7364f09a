"use strict";
// Asks the server for the page's version, and takes the new contents of a page that changed; what is open stays open.
{
  const said = document.querySelector(".live");
  let version = document.documentElement.dataset.version;
  const take = (page) => {
    const open = [...document.querySelectorAll("details")].map((part) => part.open);
    document.querySelector("main").replaceWith(document.adoptNode(page.querySelector("main")));
    const parts = [...document.querySelectorAll("details")];
    if (parts.length === open.length) parts.forEach((part, i) => (part.open = open[i]));
    document.title = page.title;
    version = page.documentElement.dataset.version;
    showValues();
  };
  const text = async (path) => {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.text();
  };
  const look = async () => {
    try {
      if ((await text("/version")).trim() !== version) take(new DOMParser().parseFromString(await text("/"), "text/html"));
      said.textContent = "Live: the page follows its run.";
      said.classList.remove("ended");
    } catch {
      said.textContent = "The server has ended. This is the page as it was.";
      said.classList.add("ended");
    }
    setTimeout(look, 2000);
  };
  setTimeout(look, 2000);
}
