// A peer to measure beside: the same routes with Fastify, its plugins for tokens and Redis, and bcrypt's native module, as their
// documentation shows them. The denylist is asked about each request.
import { randomUUID } from 'node:crypto'
import jwt from '@fastify/jwt'
import redis from '@fastify/redis'
import bcrypt from 'bcrypt'
import Fastify from 'fastify'

const cost = Number(process.env.BCRYPT_COST)
const app = Fastify({ logger: false })
await app.register(redis, { url: process.env.REDIS_URL })
await app.register(jwt, { secret: process.env.JWT_SECRET, sign: { expiresIn: '1h' } })

const credentials = {
  body: {
    type: 'object',
    required: ['username', 'password'],
    additionalProperties: false,
    properties: { username: { type: 'string', minLength: 3 }, password: { type: 'string', minLength: 8 } }
  }
}

const authenticate = async (request, reply) => {
  try {
    await request.jwtVerify()
  } catch {
    return reply.code(401).send({ message: 'Unauthorized' })
  }
  if (await app.redis.exists(`denylist:${request.user.jti}`)) {
    return reply.code(401).send({ message: 'Unauthorized' })
  }
}

app.post('/register', { schema: credentials }, async (request, reply) => {
  const { username, password } = request.body
  const made = await app.redis.set(`peer:${username}`, await bcrypt.hash(password, cost), 'NX')
  return reply.code(made ? 201 : 409).send({ message: made ? 'registered' : 'taken' })
})

app.post('/login', { schema: credentials }, async (request, reply) => {
  const { username, password } = request.body
  const hash = await app.redis.get(`peer:${username}`)
  if (!hash || !(await bcrypt.compare(password, hash))) {
    return reply.code(401).send({ message: 'Invalid credentials' })
  }
  return { token: app.jwt.sign({ username, jti: randomUUID() }) }
})

app.get('/dashboard', { preHandler: authenticate }, async (request) => {
  return { message: `Welcome ${request.user.username}`, data: { username: request.user.username } }
})

app.post('/logout', { preHandler: authenticate }, async (request, reply) => {
  const left = request.user.exp - Math.floor(Date.now() / 1000)
  await app.redis.set(`denylist:${request.user.jti}`, 1, 'EX', Math.max(left, 1))
  return reply.code(204).send()
})

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
