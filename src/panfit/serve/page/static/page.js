// What the page does beyond htmx. All of it is a comfort: without it, forms and links do the same.
"use strict";

// htmx: a piece taken out of the tray is unmarked in the catalogue below, if it is shown there.
document.addEventListener("htmx:configRequest", (event) => {
  const piece = event.target.dataset ? event.target.dataset.piece : undefined;
  if (piece && document.getElementById(piece)) event.detail.parameters.set("shown", "yes");
});

// A like is felt at once: the button is pressed before the answer comes.
document.addEventListener("htmx:beforeRequest", (event) => {
  const button = event.detail.requestConfig.triggeringEvent && event.detail.requestConfig.triggeringEvent.submitter;
  if (!button || !button.hasAttribute("aria-pressed")) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  button.classList.toggle("on", on);
  button.setAttribute("aria-pressed", String(on));
});

// The server cannot be reached: say so, where a screen reader hears it.
document.addEventListener("htmx:sendError", () => {
  const message = document.createElement("p");
  message.className = "message trouble";
  message.textContent = "The service does not answer. Try again in a moment.";
  document.getElementById("messages").replaceChildren(message);
});

// Too many questions at once: what is waited for is asked for again.
const AGAIN_MS = 3000;
document.addEventListener("htmx:responseError", (event) => {
  const waiting = event.detail.elt;
  if ([429, 503].includes(event.detail.xhr.status) && waiting.matches(".waiting")) {
    setTimeout(() => htmx.trigger(waiting, "again"), AGAIN_MS);
  }
});

// A photo that was chosen is shown before it is sent.
document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.type !== "file") return;
  const drop = input.closest(".drop");
  const preview = drop.querySelector(".preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  const file = input.files[0];
  preview.hidden = !file;
  drop.classList.toggle("filled", Boolean(file));
  if (file) preview.src = URL.createObjectURL(file);
});

// A message goes by itself, but never from under a pointer or the keyboard. What it offers can be had elsewhere too.
const MESSAGE_MS = 9000;
new MutationObserver(() => {
  for (const message of document.querySelectorAll("#messages > .message:not([data-goes])")) {
    message.dataset.goes = "yes";
    const go = () => (message.matches(":hover, :focus-within") ? setTimeout(go, MESSAGE_MS) : message.remove());
    setTimeout(go, MESSAGE_MS);
  }
}).observe(document.getElementById("messages"), { childList: true });
