"use strict";
// Without this file the page works as well: its forms are plain, and it reloads itself while something is awaited.
const standing = document.getElementById("standing");
const LOOK_MILLISECONDS = Number(standing?.dataset.look);
const TOLD_MEANWHILE = 15; // So much more rarely it looks by itself while the server tells it of news.
let version = standing?.dataset.version;
let news, timer, isLooking = false, looksAgain = false;

// The first press counts. A page that the Back button brings again is asked for anew.
document.addEventListener("submit", (event) => {
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => { button.disabled = true; });
});
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

function listen() {
  news?.close();
  news = new EventSource(`${location.pathname}/news`);
  news.onopen = news.onmessage = look;
  const mine = news;
  news.onerror = () => {
    look();
    // The browser connects again by itself, but not after an answer that is no stream, as a proxy's while this server starts.
    const again = () => { if (news === mine && !document.hidden) listen(); };
    if (mine.readyState === EventSource.CLOSED) setTimeout(again, LOOK_MILLISECONDS * TOLD_MEANWHILE);
  };
}

// A page that nobody sees keeps no connection: a browser has but six of them.
function listenWhileSeen() {
  if (document.hidden) news?.close();
  else { listen(); look(); }
}

async function look() {
  if (isLooking) { looksAgain = true; return; }
  clearTimeout(timer);
  isLooking = true;
  looksAgain = false;
  const patience = new AbortController(); // AbortSignal.timeout() is younger than many phones.
  const given = setTimeout(() => patience.abort(), 10000);
  try {
    const options = { headers: { "If-None-Match": version }, signal: patience.signal };
    const answer = await fetch(`${location.pathname}?part`, options);
    if (answer.status === 200) {
      const text = await answer.text();
      version = answer.headers.get("ETag");
      show(text);
    } else if (answer.status !== 304) throw new Error(answer.status);
    document.getElementById("offline").textContent = "";
  } catch {
    document.getElementById("offline").textContent = standing.dataset.offline;
  }
  clearTimeout(given);
  isLooking = false;
  const wait = LOOK_MILLISECONDS * (news?.readyState === EventSource.OPEN ? TOLD_MEANWHILE : 1);
  timer = setTimeout(look, looksAgain ? 0 : wait);
}

function show(text) {
  const fresh = document.createElement("template");
  fresh.innerHTML = text; // Our own server's template, which escapes every name.
  const [form, next] = [standing, fresh.content].map((part) => part.querySelector("form"));
  const keepsForm = form && next && form.elements.payment.value === next.elements.payment.value;
  const hadFocus = standing.contains(document.activeElement) && !(keepsForm && form.contains(document.activeElement));
  if (keepsForm) {
    // The same form stays, with what is typed in it, the caret and the phone's keyboard.
    const parts = [...fresh.content.childNodes];
    const place = parts.indexOf(next);
    for (const old of [...standing.childNodes]) if (old !== form) old.remove();
    form.before(...parts.slice(0, place));
    form.after(...parts.slice(place + 1));
  } else standing.replaceChildren(fresh.content);
  const heading = standing.querySelector("h1");
  document.title = heading.textContent;
  heading.tabIndex = -1;
  if (hadFocus) heading.focus();
  document.getElementById("said").textContent = `${heading.textContent}. ${standing.querySelector(".box").textContent}`;
  count();
}

function count() {
  for (const time of document.querySelectorAll("[data-left]")) {
    time.dataset.clock ??= time.textContent;
    const left = Math.max(0, Math.ceil((new Date(time.dateTime) - Date.now()) / 1000));
    time.textContent = `${time.dataset.clock} (${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")})`;
    if (left === 0 && !time.dataset.isOver) { // Nobody tells of a moment that has come.
      time.dataset.isOver = "yes";
      setTimeout(look, 1000);
    }
  }
}

if (standing) {
  document.addEventListener("visibilitychange", listenWhileSeen);
  listenWhileSeen();
  count();
  setInterval(count, 1000);
}
