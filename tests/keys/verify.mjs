// Verifies tokens with jose, from a key set: prints the name in each, or that it is refused.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(`${process.env.MODULES}/`)
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(require.resolve('jose')))

const [url, ...tokens] = process.argv.slice(2)
const keys = createRemoteJWKSet(new URL(url))
for (const token of tokens) {
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: 'http://localhost:8080',
      audience: 'portcullis',
      typ: 'at+jwt'
    })
    console.log(payload.username)
  } catch {
    console.log('refused')
  }
}
