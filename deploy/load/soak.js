// The usual mix for eight hours, slowly: does memory grow, does anything degrade?
import { sleep } from "k6";
import { dashboard, login, logout, register } from "./portcullis.js";

export const options = {
  vus: 5,
  duration: __ENV.DURATION || "8h",
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    "http_req_duration{act:dashboard}": ["p(99)<250"],
  },
};

export function setup() {
  return register(5);
}

export default function (users) {
  const token = login(users[__VU % users.length]);
  if (!token) return;
  for (let i = 0; i < 50; i++) dashboard(token);
  logout(token, 3);
  sleep(1);
}
