// The sessions of whoever is signed in, as a plain list.
class App extends HTMLElement {
  async connectedCallback() {
    const list = document.createElement("ul");
    for (const session of await (await fetch("/x/sessions")).json()) {
      const item = document.createElement("li");
      item.textContent = `${session.title || session.id} (${session.state})`;
      list.append(item);
    }
    this.append(list);
  }
}
customElements.define("ms-app", App);

function mount() {
  const place = document.getElementById("ms");
  if (place && !place.querySelector("ms-app")) place.append(document.createElement("ms-app"));
  return place !== null;
}
if (!mount()) {
  const watcher = new MutationObserver(() => mount() && watcher.disconnect());
  watcher.observe(document.documentElement, { childList: true, subtree: true });
}
