#!lua flags=allow-oom
-- Raises the scripted part of the canary by two writes, which an append-only file holds as a transaction.
-- KEYS  1 scripted part
-- ARGV  1 number
--
-- The part is never lowered: replicas raise it at the same time, each to a number of its own.
if ARGV[1] + 0 > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('SET', KEYS[1], ARGV[1])
end
