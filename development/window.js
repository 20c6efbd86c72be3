// Shows what has come since. Without this script the page is reloaded for it.
"use strict";

const LOOK_MILLISECONDS = 300;
const lists = document.getElementById("lists");

async function look() {
  try {
    const answer = await fetch("/lists");
    const state = answer.headers.get("X-Lists-State");
    if (answer.ok && state && state !== lists.dataset.state) {
      lists.innerHTML = await answer.text();
      lists.dataset.state = state;
    }
  } catch {
    // The window's program is away; it may come back.
  }
  setTimeout(look, LOOK_MILLISECONDS);
}

look();
