#!lua
-- Trades a refresh token for its successor. The token was made by us: its MAC has been checked.
-- KEYS  1 user  2 session  3 sessions of the user  4 outbox of the name
-- ARGV  1 user id  2 number of the token  3 sid  4 access lifetime (ms)  5 version, 6 sessions_from that the feed knows
--       7 refresh lifetime (ms)  8 grace (ms)  9 entry of the session without its date  10 margin of an entry (ms)
-- Returns {outcome, outbox entries} and, unless it is refused or reused, {…, number of the successor, now (ms), version,
-- roles, expiry of the successor (ms), end of the session (ms)}.
-- Outcomes: 0 refused  1 rotated  2 the same successor again  3 resynchronised  4 reused: the session is revoked
local number = tonumber(ARGV[2])
local text = function(value) return string.format('%.0f', value) end
local user = redis.call('HMGET', KEYS[1], 'id', 'sessions_from', 'disabled', 'version', 'roles')
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
  -- Somebody has a copy. Whoever it is, the whole family ends.
  local until_ = math.max(now + ARGV[4], tonumber(session[7])) + ARGV[10]
  redis.call('HSET', KEYS[2], 'revoked', '1')
  redis.call('PEXPIREAT', KEYS[2], text(until_))
  redis.call('SADD', KEYS[4], ARGV[9] .. text(until_))
  if redis.call('PEXPIRETIME', KEYS[4]) < until_ then redis.call('PEXPIREAT', KEYS[4], text(until_)) end
  return {4, redis.call('SMEMBERS', KEYS[4])}
end

-- What the feed knows and the store has lost holds all the same.
if tonumber(user[4]) < tonumber(ARGV[5]) then
  redis.call('HSET', KEYS[1], 'version', ARGV[5])
  user[4] = ARGV[5]
end
local outcome = 2
if number >= current then
  -- A number that is greater than what is stored was given out by us, and a failover has lost that.
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
