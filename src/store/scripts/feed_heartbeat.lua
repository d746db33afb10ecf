#!lua flags=allow-oom
-- Writes the heartbeat whose acknowledgement by replicas shows that this primary has not been replaced, and returns the
-- history in which it was written. WAIT follows on the same connection.
-- KEYS  1 heartbeat
-- ARGV  1 lifetime of the key (ms)
-- Returns {role, run id, replication id}.
local function field(text, name) return string.match(text, name .. ':([^\r\n]+)') end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
local replication = redis.call('INFO', 'replication')
return {field(replication, 'role'), field(redis.call('INFO', 'server'), 'run_id'), field(replication, 'master_replid')}
