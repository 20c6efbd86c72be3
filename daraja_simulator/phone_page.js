// Shows what the handset shows now. Without this script the page is reloaded for it.
"use strict";

const LOOK_MILLISECONDS = 300;
const shown = document.getElementById("screen");

async function look() {
  try {
    const answer = await fetch(shown.dataset.source);
    const state = answer.headers.get("X-Screen-State");
    if (answer.ok && state && state !== shown.dataset.state) {
      shown.innerHTML = await answer.text();
      shown.dataset.state = state;
      const pin = document.getElementById("pin");
      if (pin) pin.focus();
    }
  } catch {
    // The simulator is away; it may come back.
  }
  setTimeout(look, LOOK_MILLISECONDS);
}

look();
