// A peer to measure beside: the same routes with Better Auth, as its documentation shows it: users in SQLite, sessions in Redis
// through its own package for that, its plugin for bearer tokens, and bcrypt's native module in place of its own hash. Redis is
// asked about each request.
import { createServer } from 'node:http'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { redisStorage } from '@better-auth/redis-storage'
import bcrypt from 'bcrypt'
import { betterAuth } from 'better-auth'
import { isAPIError } from 'better-auth/api'
import { getMigrations } from 'better-auth/db/migration'
import { fromNodeHeaders } from 'better-auth/node'
import { bearer } from 'better-auth/plugins'
import Database from 'better-sqlite3'
import { Redis } from 'ioredis'

const port = Number(process.env.PORT)
const cost = Number(process.env.BCRYPT_COST)

const auth = betterAuth({
  baseURL: `http://127.0.0.1:${port}`,
  secret: process.env.JWT_SECRET,
  database: new Database(join(process.env.DATA, 'users.sqlite')),
  secondaryStorage: redisStorage({ client: new Redis(process.env.REDIS_URL) }),
  emailAndPassword: {
    enabled: true,
    password: {
      hash: (password) => bcrypt.hash(password, cost),
      verify: ({ hash, password }) => bcrypt.compare(password, hash)
    }
  },
  plugins: [bearer()],
  rateLimit: { enabled: false },
  telemetry: { enabled: false }
})
const { runMigrations } = await getMigrations(auth.options)
await runMigrations()

const email = (username) => `${username}@example.com`

const routes = {
  'POST /register': async (request) => {
    const { username, password } = await json(request)
    await auth.api.signUpEmail({ body: { name: username, email: email(username), password } })
    return [201, { message: 'registered' }]
  },

  'POST /login': async (request) => {
    const { username, password } = await json(request)
    const { headers } = await auth.api.signInEmail({
      body: { email: email(username), password },
      headers: fromNodeHeaders(request.headers),
      returnHeaders: true
    })
    return [200, { token: headers.get('set-auth-token') }]
  },

  'GET /dashboard': async (request) => {
    const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) })
    if (!session) {
      return [401, { message: 'Unauthorized' }]
    }
    return [200, { message: `Welcome ${session.user.name}`, data: { username: session.user.name } }]
  },

  'POST /logout': async (request) => {
    await auth.api.signOut({ headers: fromNodeHeaders(request.headers) })
    return [204]
  }
}

const answer = async (request) => {
  try {
    return (await routes[`${request.method} ${request.url}`]?.(request)) ?? [404, { message: 'Not Found' }]
  } catch (error) {
    return [isAPIError(error) ? error.statusCode : 500, { message: error.message }]
  }
}

createServer(async (request, response) => {
  const [status, body] = await answer(request)
  response.writeHead(status, body && { 'content-type': 'application/json' }).end(body && JSON.stringify(body))
}).listen(port, '127.0.0.1')
