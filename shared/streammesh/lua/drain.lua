#!lua flags=allow-oom
-- Notes that a worker which stops gives a running task back, so that this does not count as a worker lost with it.
-- KEYS[1] task (HASH)
-- ARGV[1] queue entry that the worker holds
-- Returns 1 if it runs there, 0 if not.
local row = redis.call('HMGET', KEYS[1], 'state', 'entry')
if row[1] ~= 'started' or row[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'drained', 1)
return 1
