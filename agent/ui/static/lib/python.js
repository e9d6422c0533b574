// Colours Python (and, well enough, shell and JSON) as spans. One regular expression, no state between lines but triple
// quotes; text over the limit stays plain, so colour never costs more than reading.
import { h } from "./dom.js";

const LONGEST = 60_000;
const WORDS = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global if " +
    "import in is lambda match case nonlocal not or pass raise return try while with yield").split(" "),
);
const TOKEN =
  /(#[^\n]*)|((?:[rbfuRBFU]{0,2})(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(@[\w.]+)|(\b\d[\w.]*(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)(\s*\()?/g;

export function highlight(text, language = "python") {
  const made = document.createDocumentFragment();
  if (text.length > LONGEST || !/^(py|python|python3|json|toml|yaml|bash|sh|shell|)$/i.test(language)) {
    made.append(text);
    return made;
  }
  let at = 0;
  let after = "";
  TOKEN.lastIndex = 0;
  for (let found; (found = TOKEN.exec(text)); ) {
    const [all, comment, string, decorator, number, word, called] = found;
    if (found.index > at) made.append(text.slice(at, found.index));
    at = TOKEN.lastIndex;
    if (comment) made.append(h("span.t-comment", {}, comment));
    else if (string) made.append(h("span.t-string", {}, string));
    else if (decorator) made.append(h("span.t-name", {}, decorator));
    else if (number) made.append(h("span.t-number", {}, number));
    else if (WORDS.has(word)) made.append(h("span.t-word", {}, word), called || "");
    else if (called || after === "def" || after === "class") made.append(h("span.t-name", {}, word), called || "");
    else made.append(all);
    after = word || "";
  }
  made.append(text.slice(at));
  return made;
}
