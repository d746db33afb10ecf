// Only logouts: each token is presented again at once, often enough to reach every replica.
import { dashboard, login, logout, register } from "./portcullis.js";

export const options = {
  vus: 10,
  duration: "1m",
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    "http_req_duration{act:dashboard}": ["p(99)<500"],
  },
};

export function setup() {
  return register(10);
}

export default function (users) {
  const token = login(users[__VU % users.length]);
  if (!token) return;
  dashboard(token);
  logout(token, 12);
}
