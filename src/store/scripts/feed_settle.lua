#!lua flags=allow-oom
-- Begins the settling of a history that nobody has settled yet. Whoever first sees it does this; what is there for the
-- present history stays.
-- KEYS  1 feed  2 settled
-- ARGV  1 origin seen: run id and replication id
--
-- The feed is created empty where it is missing, so that a missing feed always means a lost history.
local settled = redis.call('GET', KEYS[2])
if settled and string.sub(settled, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' and redis.call('EXISTS', KEYS[1]) == 1 then return end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'none', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'none')
end
local time = redis.call('TIME')
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
