/** The page: who the users are, and one pane for each. */
import "./app.css";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Pane } from "./pane.js";
import { Panel } from "./panel.js";
import { fetchToken, ownTokens } from "./tokens.js";
import { language, WORDS } from "./words.js";
import type { Language, Words } from "./words.js";

const LARGEST = 9223372036854775807n;

/** The users in the address, `?users=1,2`: one or two. */
function usersOfAddress(): string[] {
  const users = (new URLSearchParams(location.search).get("users") ?? "").split(",").filter(isUser);
  return [...new Set(users)].slice(0, 2);
}

function isUser(text: string): boolean {
  return /^[1-9][0-9]{0,18}$/.test(text) && BigInt(text) <= LARGEST;
}

function Page() {
  const [users, setUsers] = useState(usersOfAddress);
  const [lang, setLang] = useState<Language>(language);
  const [numbers, setNumbers] = useState(() => (localStorage.getItem("numbers") ?? (innerWidth > 720 ? "on" : "off")) === "on");
  const words = WORDS[lang];
  useEffect(() => {
    document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
    document.title = lang === "zh" ? "鸿雁 Hongyan" : "Hongyan 鸿雁";
    localStorage.setItem("language", lang);
  }, [lang]);
  useEffect(() => localStorage.setItem("numbers", numbers ? "on" : "off"), [numbers]);
  const choose = (chosen: string[]) => {
    history.pushState(null, "", chosen.length > 0 ? `?users=${chosen.join(",")}` : location.pathname);
    setUsers(chosen);
  };
  useEffect(() => {
    const back = () => setUsers(usersOfAddress());
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  return (
    <div class="page">
      <header class="bar">
        <a class="brand" href="/" onClick={(event) => (event.preventDefault(), choose([]))}>
          <img src="/icon.svg" alt="" width="28" height="28" />
          <span>{words.title}</span>
        </a>
        <span class="grow" />
        {users.length > 0 && (
          <button class="quiet" aria-pressed={numbers} onClick={() => setNumbers(!numbers)}>
            {words.numbers}
          </button>
        )}
        <button class="quiet" lang={lang === "en" ? "zh-CN" : "en"} onClick={() => setLang(lang === "en" ? "zh" : "en")}>
          {words.language}
        </button>
      </header>
      {users.length === 0 ? (
        <Choice words={words} choose={choose} />
      ) : (
        <main class={`panes panes-${users.length}`}>
          {users.map((user) => (
            <Pane key={user} user={user} words={words} lang={lang} partner={users.find((other) => other !== user)} />
          ))}
        </main>
      )}
      {users.length > 0 && numbers && <Panel words={words} />}
    </div>
  );
}

/** Asks who the user is. */
function Choice({ words, choose }: { words: Words; choose(users: string[]): void }) {
  const [user, setUser] = useState("1");
  const [token, setToken] = useState("");
  const [needsToken, setNeedsToken] = useState(false);
  const [fault, setFault] = useState("");
  const start = async (event: Event) => {
    event.preventDefault();
    if (!isUser(user)) {
      setFault(words.badUser);
      return;
    }
    if (token) ownTokens.set(user, token);
    try {
      await fetchToken(user);
      choose([user]);
    } catch {
      setNeedsToken(true);
      setFault(words.tokenHint);
    }
  };
  return (
    <main class="choice">
      <img src="/icon.svg" alt="" width="72" height="72" />
      <h1>{words.title}</h1>
      <p>{words.tagline}</p>
      <form onSubmit={(event) => void start(event)}>
        <h2>{words.who}</h2>
        <label>
          {words.userId}
          <input
            name="user"
            inputMode="numeric"
            autocomplete="off"
            value={user}
            aria-describedby="fault"
            onInput={(event) => (setUser(event.currentTarget.value.trim()), setFault(""))}
          />
        </label>
        {needsToken && (
          <label>
            {words.token}
            <input name="token" autocomplete="off" value={token} onInput={(event) => setToken(event.currentTarget.value.trim())} />
          </label>
        )}
        <p id="fault" class="fault" role="alert">
          {fault}
        </p>
        <button class="primary">{words.start}</button>
        <button type="button" class="quiet" onClick={() => choose(["1", "2"])}>
          {words.two}
        </button>
      </form>
    </main>
  );
}

const root = document.getElementById("root");
if (root) render(<Page />, root);
