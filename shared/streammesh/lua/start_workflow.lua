#!lua flags=allow-oom
-- A handler answered with a workflow: queues its first tasks and ends the handler's own queue entry in
-- one step. The delivery stays `started` until the workflow ends it, and keeps its queue entry's fields,
-- for a replay. Refused when the token is not the current one.
-- KEYS[1] task (HASH)  KEYS[2] queue of the delivery (STREAM)  then per message: its queue (STREAM)
-- ARGV[1] token  ARGV[2] queue entry  ARGV[3] group of the queue  ARGV[4] name of this workflow
-- ARGV[5] lifetime of the row, ms, should the workflow never end
-- then per message: h, b
-- Returns {'done'} | {'lost'} | {'cancelled'} (it is wanted cancelled: to be ended instead).
--#include _entry.lua
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'workflow', 'entry', 'cancel')
if row[2] ~= ARGV[1] or row[1] ~= 'started' then return { 'lost' } end
if row[3] then return { row[3] == ARGV[4] and 'done' or 'lost' } end
if ARGV[2] ~= '' and row[4] ~= ARGV[2] then return { 'lost' } end
if row[5] then return { 'cancelled' } end
for i = 3, #KEYS do
  redis.call('XADD', KEYS[i], '*', 'h', ARGV[2 * i], 'b', ARGV[2 * i + 1])
end
redis.call('HSET', KEYS[1], 'workflow', ARGV[4])
redis.call('HDEL', KEYS[1], 'lease')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if ARGV[2] ~= '' then
  local h, b = queued_fields(KEYS[2], ARGV[2])
  if h then redis.call('HSET', KEYS[1], 'h', h, 'b', b) end
  redis.call('XACK', KEYS[2], ARGV[3], ARGV[2])
  redis.call('XDEL', KEYS[2], ARGV[2])
end
return { 'done' }
