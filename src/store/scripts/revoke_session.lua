#!lua flags=allow-oom
-- Revokes a session: marks its record, so that it is never rotated again, and leaves the entry for the feed in the outbox
-- until the feed has taken it. A session that is already gone gets an entry too: its tokens are not yet refused everywhere.
-- A session with an entry in the outbox gets no second one.
-- KEYS  1 session  2 outbox of the name
-- ARGV  1 prefix of the entry, without its date  2 expiry of the presented token (ms)  3 access lifetime (ms)  4 margin (ms)
-- Returns the outbox entries.
local outbox = redis.call('SMEMBERS', KEYS[2])
for _, entry in ipairs(outbox) do
  if string.sub(entry, 1, #ARGV[1]) == ARGV[1] then return outbox end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = math.max(now + ARGV[3], tonumber(ARGV[2]), tonumber(redis.call('HGET', KEYS[1], 'access_expires') or 0))
local until_ = last + ARGV[4]
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'revoked', '1')
  redis.call('PEXPIREAT', KEYS[1], until_)
end
local entry = ARGV[1] .. string.format('%.0f', until_)
redis.call('SADD', KEYS[2], entry)
if redis.call('PEXPIRETIME', KEYS[2]) < until_ then redis.call('PEXPIREAT', KEYS[2], until_) end
outbox[#outbox + 1] = entry
return outbox
