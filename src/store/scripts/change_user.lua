#!lua flags=allow-oom
-- Changes an account so that all tokens issued before are refused: sets its roles and its disabled state, ends its
-- sessions, or deletes it. The version rises, and the entry for the feed stays in the outbox until the feed has taken it.
-- KEYS  1 user  2 sessions of the user  3 outbox of the name  4 acting session (only if the owner acts)
-- ARGV  1 user id seen  2 version seen, or ''  3 min_session_version seen, or ''  4 username  5 version and
--       6 min_session_version known to the feed  7 lifetime of the entry (ms)  8 'set', 'end' or 'delete'
--       9 disabled: '0', '1', or '' to keep it  10 '1' to set the roles  11 the roles
-- Returns {1, outbox entries}; {0, outbox entries} if the account is another one, has changed since it was read, or the
-- acting session is no longer valid. A property that has the value already is not set again, but the entries in the outbox
-- must still reach the feed.
local function answer(decided) return {decided, redis.call('SMEMBERS', KEYS[3])} end
local user = redis.call('HMGET', KEYS[1], 'id', 'version', 'min_session_version', 'disabled', 'roles')
if user[1] ~= ARGV[1] then return answer(0) end
if ARGV[2] ~= '' and user[2] ~= ARGV[2] or ARGV[3] ~= '' and user[3] ~= ARGV[3] then return answer(0) end
if KEYS[4] then
  local session = redis.call('HMGET', KEYS[4], 'user', 'version', 'revoked')
  if session[1] ~= ARGV[1] or session[3] or tonumber(session[2]) < tonumber(user[3]) then return answer(0) end
end
local disabled, roles = user[4], user[5]
if ARGV[9] ~= '' then disabled = ARGV[9] end
if ARGV[10] == '1' then roles = ARGV[11] end
if ARGV[8] == 'set' and disabled == user[4] and roles == user[5] then return answer(1) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The greatest of the stored version, the feed's version and the date: no version is used twice, even if one was lost.
local version = string.format('%.0f', math.max(tonumber(user[2]) + 1, tonumber(ARGV[5]) + 1, now))
-- New roles keep the sessions.
local from = string.format('%.0f', math.max(tonumber(user[3]), tonumber(ARGV[6])))
if ARGV[8] ~= 'set' or disabled ~= '0' then from = version end
if from == version then redis.call('DEL', KEYS[2]) end
local deleted = '0'
if ARGV[8] == 'delete' then
  deleted = '1'
  redis.call('DEL', KEYS[1])
  if KEYS[4] then redis.call('DEL', KEYS[4]) end
else
  redis.call('HSET', KEYS[1], 'version', version, 'min_session_version', from, 'disabled', disabled, 'roles', roles)
end
local until_ = string.format('%.0f', now + ARGV[7])
redis.call('SADD', KEYS[3], table.concat({'u', ARGV[4], ARGV[1], version, from, deleted, until_}, ':'))
if redis.call('PEXPIRETIME', KEYS[3]) < tonumber(until_) then redis.call('PEXPIREAT', KEYS[3], until_) end
return answer(1)
