#!lua flags=allow-oom
-- Takes the short lock of the replica that puts lost entries back, so that not all replicas do it at once. Safety does not
-- depend on the lock: an entry that is appended twice has the same meaning.
-- KEYS  1 lock
-- ARGV  1 name of the replica  2 lifetime of the lock (ms)
-- Returns 1 if the replica takes the lock or holds it already, else 0.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
