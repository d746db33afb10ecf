#!lua
-- Exchanges a refresh token for its successor. The caller has verified the MAC of the token.
-- KEYS  1 user  2 session  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id  2 sequence number of the token  3 sid  4 access lifetime (ms)  5 version and 6 min_session_version known
--       to the feed  7 refresh lifetime (ms)  8 grace (ms)  9 prefix of the session's entry  10 margin of an entry (ms)
-- Returns {outcome, outbox entries} and, unless the token is refused or reused, {…, sequence number of the successor, now
-- (ms), version, roles, expiry of the successor (ms), end of the session (ms)}.
-- Outcomes: 0 refused  1 rotated  2 the same successor again  3 resynchronised  4 reused: the session is revoked
local number = tonumber(ARGV[2])
local text = function(value) return string.format('%.0f', value) end
local user = redis.call('HMGET', KEYS[1], 'id', 'min_session_version', 'disabled', 'version', 'roles')
local session = redis.call('HMGET', KEYS[2], 'user', 'version', 'revoked', 'counter', 'rotated', 'ends', 'access_expires')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local refused = function() return {0, redis.call('SMEMBERS', KEYS[4])} end
if user[1] ~= ARGV[1] or user[3] ~= '0' or session[1] ~= ARGV[1] or session[3] then return refused() end
local from = math.max(tonumber(user[2]), tonumber(ARGV[6]))
local ends = tonumber(session[6])
if tonumber(session[2]) < from or now >= ends then return refused() end

local current = tonumber(session[4])
if number < current - 1 or (number == current - 1 and now > session[5] + ARGV[8]) then
  -- Two clients have the token, and either may be the thief: the whole family ends.
  local until_ = math.max(now + ARGV[4], tonumber(session[7])) + ARGV[10]
  redis.call('HSET', KEYS[2], 'revoked', '1')
  redis.call('PEXPIREAT', KEYS[2], text(until_))
  redis.call('SADD', KEYS[4], ARGV[9] .. text(until_))
  if redis.call('PEXPIRETIME', KEYS[4]) < until_ then redis.call('PEXPIREAT', KEYS[4], text(until_)) end
  return {4, redis.call('SMEMBERS', KEYS[4])}
end

-- A version that the feed knows and the store has lost still holds.
if tonumber(user[4]) < tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'version', ARGV[5])
  user[4] = ARGV[5]
end
local outcome = 2
if number >= current then
  -- A greater number than the stored one was issued by us, and a failover has lost the write.
  outcome = number == current and 1 or 3
  current = number + 1
  redis.call('HSET', KEYS[2], 'counter', text(current), 'rotated', text(now))
end
local expires = math.min(now + ARGV[7], ends)
local access = math.max(tonumber(session[7]), math.min(now + ARGV[4], ends))
redis.call('HSET', KEYS[2], 'seen', text(now), 'access_expires', text(access))
redis.call('PEXPIREAT', KEYS[2], text(expires))
redis.call('ZADD', KEYS[3], text(expires), ARGV[3])
if redis.call('PEXPIRETIME', KEYS[3]) < expires then redis.call('PEXPIREAT', KEYS[3], text(expires)) end
return {outcome, redis.call('SMEMBERS', KEYS[4]), current, now, user[4], user[5], expires, ends}
