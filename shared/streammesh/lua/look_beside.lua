#!lua flags=allow-oom
-- Reads what is known about the editions of a service, and which of them could not read a task's payload.
-- KEYS manifests (HASH), editions (ZSET), task_row (HASH)
-- ARGS service
-- Returns {now (ms), manifest ('' for none), digests of schemas that the payload did not fit, waits of the task,
--   edition, last sign of life (ms), ...}.
--#include _time.lua
local row = redis.call('HMGET', task_row, 'unfit', 'waits')
local answer = { digits(now_ms()), redis.call('HGET', manifests, service) or '', row[1] or '', row[2] or '0' }
for _, one in ipairs(redis.call('ZRANGE', editions, 0, -1, 'WITHSCORES')) do answer[#answer + 1] = one end
return answer
