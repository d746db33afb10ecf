// A peer to measure beside: what the tutorial ends with. Users in memory, bcrypt in JavaScript, a token for an hour, and no way
// to take it back: its logout is the client's forgetting.
import bcrypt from 'bcryptjs'
import express from 'express'
import jwt from 'jsonwebtoken'

const secret = process.env.JWT_SECRET
const cost = Number(process.env.BCRYPT_COST)
const users = []
const app = express()
app.use(express.json())

app.post('/register', async (request, response) => {
  const { username, password } = request.body
  if (users.some((user) => user.username === username)) {
    return response.status(409).json({ message: 'taken' })
  }
  users.push({ username, password: await bcrypt.hash(password, cost) })
  response.status(201).json({ message: 'User registered successfully' })
})

app.post('/login', async (request, response) => {
  const { username, password } = request.body
  const user = users.find((one) => one.username === username)
  if (!user || !(await bcrypt.compare(password, user.password))) {
    return response.status(401).json({ message: 'Invalid credentials' })
  }
  response.json({ token: jwt.sign({ username }, secret, { expiresIn: '1h' }) })
})

const authenticate = (request, response, next) => {
  const token = request.headers.authorization?.split(' ')[1]
  if (!token) return response.status(401).json({ message: 'No token' })
  jwt.verify(token, secret, (error, user) => {
    if (error) return response.status(403).json({ message: 'Invalid token' })
    request.user = user
    next()
  })
}

app.get('/dashboard', authenticate, (request, response) => {
  response.json({ message: `Welcome ${request.user.username}`, data: { username: request.user.username } })
})

app.post('/logout', authenticate, (_request, response) => response.status(204).end())

app.listen(Number(process.env.PORT), '127.0.0.1')
