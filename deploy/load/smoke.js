// A few users for ten seconds: does everything work? `make load`
import { dashboard, login, logout, register } from "./portcullis.js";

export const options = {
  vus: 3,
  duration: "10s",
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    "http_req_duration{act:dashboard}": [`p(99)<${__ENV.PATIENCE || 500}`],
  },
};

export function setup() {
  return register(3);
}

export default function (users) {
  const token = login(users[__VU % users.length]);
  if (!token) return;
  for (let i = 0; i < 20; i++) dashboard(token);
  logout(token, 6);
}
