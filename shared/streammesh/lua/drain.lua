#!lua flags=allow-oom
-- Notes that a worker which stops gives a running task back, so that this does not count as a worker lost with it.
-- KEYS task_row (HASH)
-- ARGS entry (of the queue, which the worker holds)
-- Returns 1 if it runs there, 0 if not.
local row = redis.call('HMGET', task_row, 'state', 'entry')
if row[1] ~= 'started' or row[2] ~= entry then return 0 end
redis.call('HSET', task_row, 'drained', 1)
return 1
