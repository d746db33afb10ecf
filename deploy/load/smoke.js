// A few people for ten seconds: is everything there? `make load`
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

export default function (people) {
  const token = login(people[__VU % people.length]);
  if (!token) return;
  for (let i = 0; i < 20; i++) dashboard(token);
  logout(token, 6);
}
