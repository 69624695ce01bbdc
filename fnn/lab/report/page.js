// What moves in the page: the table of verdicts, enlarged figures, the theme, the contents. Nothing is fetched.
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// The table of verdicts shows those of one outcome, and with a word in them.
function sift() {
  const form = $("#sift");
  if (!form) return; // there is no verdict
  const rows = $$("#verdicts tbody tr");
  const apply = () => {
    const word = form.elements.word.value.trim().toLowerCase();
    const outcome = form.elements.outcome.value;
    let left = 0;
    for (const one of rows) {
      const fits = (!outcome || one.dataset.outcome === outcome) && (!word || one.textContent.toLowerCase().includes(word));
      one.hidden = !fits;
      left += fits;
    }
    $("#sifted").textContent = `${left} of ${rows.length}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

// A picture at its full size, over the page.
function enlarge() {
  const dialog = $("#large");
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".zoom");
    if (!button) return;
    const picture = $("img", button);
    const large = $("img", dialog);
    large.src = picture.src;
    large.alt = picture.alt;
    dialog.showModal();
  });
  dialog.addEventListener("click", () => dialog.close());
}

// Light, dark, or as the system says.
function themes() {
  const button = $("#theme");
  const order = ["", "light", "dark"];
  const words = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  let now = 0;
  const apply = () => {
    document.documentElement.dataset.theme = order[now];
    button.textContent = words[order[now]];
  };
  button.addEventListener("click", () => {
    now = (now + 1) % order.length;
    apply();
  });
  button.style.visibility = "visible";
  apply();
}

// Which chapter is being read, marked in the contents.
function contents() {
  $("nav.contents details").open = matchMedia("(min-width: 70rem)").matches; // beside the text it is in no one's way
  const links = new Map($$("nav.contents a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver(
    (seen) => {
      for (const one of seen) {
        if (!one.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        links.get(one.target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  links.forEach((_, id) => document.getElementById(id) && watcher.observe(document.getElementById(id)));
}

sift();
enlarge();
themes();
contents();
addEventListener("beforeprint", () => {
  $$("details").forEach((one) => (one.open = true));
  $$("img[loading]").forEach((one) => (one.loading = "eager"));
});
