// A spike of logins beside users who are logged in: logins may be refused with 503, dashboards must not slow down.
import http from "k6/http";
import { check } from "k6";
import { base, dashboard, login, register } from "./portcullis.js";

const body = (username) => JSON.stringify({ username, password: "teal-otter-harbour-42" });

export const options = {
  scenarios: {
    spike: { executor: "constant-vus", vus: 100, duration: "1m", exec: "spike" },
    users: { executor: "constant-vus", vus: 5, duration: "1m", exec: "users" },
  },
  thresholds: {
    checks: ["rate==1"],
    "http_req_failed{act:dashboard}": ["rate==0"],
    "http_req_duration{act:dashboard}": ["p(99)<250"],
  },
};

export function setup() {
  const names = register(10);
  return { names, tokens: names.slice(0, 5).map(login) };
}

export function spike({ names }) {
  const answer = http.post(`${base}/login`, body(names[__ITER % names.length]), {
    headers: { "content-type": "application/json" },
    responseCallback: http.expectedStatuses(200, 503),
  });
  check(answer, { "a login is 200 or 503": (it) => it.status === 200 || it.status === 503 });
}

export function users({ tokens }) {
  dashboard(tokens[__ITER % tokens.length]);
}
