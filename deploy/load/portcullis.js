// Shared by the load tests: users, and their requests.
import http from "k6/http";
import { check } from "k6";

export const base = __ENV.BASE || "http://localhost:8080";
const json = { headers: { "content-type": "application/json" } };
const password = "teal-otter-harbour-42";

// Each run has its own names, so that it can be repeated on the same Redis.
export function register(users, run = Date.now().toString(36)) {
  const names = [];
  for (let i = 0; i < users; i++) {
    const username = `load-${run}-${i}`;
    const answer = http.post(`${base}/register`, JSON.stringify({ username, password }), json);
    if (answer.status !== 201) {
      throw new Error(`register answers ${answer.status}; switch the rate limits off with RATE_LIMIT=off`);
    }
    names.push(username);
  }
  return names;
}

export function login(username) {
  const answer = http.post(`${base}/login`, JSON.stringify({ username, password }), {
    ...json,
    tags: { act: "login" },
  });
  check(answer, { "login is 200": (it) => it.status === 200 });
  return answer.status === 200 ? answer.json("token") : null;
}

const bearer = (token, act) => ({ headers: { authorization: `Bearer ${token}` }, tags: { act } });

export function dashboard(token) {
  const answer = http.get(`${base}/dashboard`, bearer(token, "dashboard"));
  check(answer, { "dashboard is 200": (it) => it.status === 200 });
}

// Guarantee: no request after the answer to a logout is served, whichever replica it reaches.
export function logout(token, attempts) {
  const answer = http.post(`${base}/logout`, null, bearer(token, "logout"));
  if (!check(answer, { "logout is 204": (it) => it.status === 204 })) return;
  for (let i = 0; i < attempts; i++) {
    const refused = http.get(`${base}/dashboard`, {
      ...bearer(token, "refused"),
      responseCallback: http.expectedStatuses(401),
    });
    check(refused, { "a token that was logged out is 401": (it) => it.status === 401 });
  }
}
