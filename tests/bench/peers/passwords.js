// How many hashes bcrypt's native module makes in a second of a core, at each cost: JSON on standard output.
import { createRequire } from 'node:module'

const bcrypt = createRequire(`${process.argv[2]}/`)('bcrypt')
const rates = {}
for (const cost of [10, 12]) {
  const runs = []
  for (let round = 0; round < 5; round++) {
    const before = process.cpuUsage()
    bcrypt.hashSync('teal-otter-harbour-42', cost)
    const used = process.cpuUsage(before)
    runs.push(1e6 / (used.user + used.system))
  }
  rates[cost] = runs.sort((a, b) => a - b)[2]
}
console.log(JSON.stringify(rates))
