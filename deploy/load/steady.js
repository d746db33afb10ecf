// The usual mix for five minutes: a hundred dashboards to a login and a logout.
import { dashboard, login, logout, register } from "./portcullis.js";

export const options = {
  vus: 20,
  duration: "5m",
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    "http_req_duration{act:dashboard}": ["p(99)<100"],
  },
};

export function setup() {
  return register(20);
}

export default function (users) {
  const token = login(users[__VU % users.length]);
  if (!token) return;
  for (let i = 0; i < 100; i++) dashboard(token);
  logout(token, 3);
}
