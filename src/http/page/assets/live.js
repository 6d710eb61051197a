// Puts the parts of the overview that have changed in the place of those that are shown, while the page is looked at.
(() => {
  const note = document.getElementById("live");
  let source;

  const tell = (text, isLive) => {
    note.hidden = false;
    note.textContent = text;
    note.classList.toggle("on", isLive);
  };

  const isSelectedIn = (part) => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
  };

  const update = ({ data }) => {
    const { id, html } = JSON.parse(data);
    const part = document.getElementById(id);
    // What somebody is about to copy stays.
    if (part === null || isSelectedIn(part)) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.innerHTML = html;
    if (focused !== null) part.querySelector(`[href=${CSS.escape(focused)}]`)?.focus({ preventScroll: true });
  };

  const follow = () => {
    if (document.hidden) {
      source?.close();
      source = undefined;
    } else if (source === undefined) {
      source = new EventSource("/page/events");
      source.onopen = () => tell("live", true);
      source.onmessage = update;
      // A refusal is for good; a broken connection is tried again by the browser.
      source.onerror = ({ target }) =>
        tell(target.readyState === EventSource.CLOSED ? "not live: load the page again" : "connecting again", false);
    }
  };

  document.addEventListener("visibilitychange", follow);
  follow();
})();
