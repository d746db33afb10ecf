// A peer to measure beside: Express as it is deployed with care. A process for each core, bcrypt's native module, users and a
// denylist in Redis, which is asked about each request.
import cluster from 'node:cluster'
import { randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import bcrypt from 'bcrypt'
import express from 'express'
import Redis from 'ioredis'
import jwt from 'jsonwebtoken'

if (cluster.isPrimary) {
  for (let core = 0; core < availableParallelism(); core++) cluster.fork()
} else {
  const secret = process.env.JWT_SECRET
  const cost = Number(process.env.BCRYPT_COST)
  const redis = new Redis(process.env.REDIS_URL)
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json())

  app.post('/register', async (request, response) => {
    const { username, password } = request.body
    const made = await redis.set(`express:${username}`, await bcrypt.hash(password, cost), 'NX')
    response.status(made ? 201 : 409).json({ message: made ? 'registered' : 'taken' })
  })

  app.post('/login', async (request, response) => {
    const { username, password } = request.body
    const hash = await redis.get(`express:${username}`)
    if (!hash || !(await bcrypt.compare(password, hash))) {
      return response.status(401).json({ message: 'Invalid credentials' })
    }
    response.json({ token: jwt.sign({ username, jti: randomUUID() }, secret, { expiresIn: '1h' }) })
  })

  const authenticate = async (request, response, next) => {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ')
    try {
      if (scheme !== 'Bearer') throw new Error('no token')
      request.user = jwt.verify(token, secret, { algorithms: ['HS256'] })
    } catch {
      return response.status(401).json({ message: 'Unauthorized' })
    }
    if (await redis.exists(`denylist:${request.user.jti}`)) {
      return response.status(401).json({ message: 'Unauthorized' })
    }
    next()
  }

  app.get('/dashboard', authenticate, (request, response) => {
    response.json({ message: `Welcome ${request.user.username}`, data: { username: request.user.username } })
  })

  app.post('/logout', authenticate, async (request, response) => {
    const left = request.user.exp - Math.floor(Date.now() / 1000)
    await redis.set(`denylist:${request.user.jti}`, 1, 'EX', Math.max(left, 1))
    response.status(204).end()
  })

  app.listen(Number(process.env.PORT), '127.0.0.1')
}
